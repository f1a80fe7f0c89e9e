"""Slides: opening any format, resampling, tissue, and writing OME-Zarr pyramids."""

from napari_wsss.slides.convert import convert_job, convert_slide
from napari_wsss.slides.ome_zarr import (
    Channels,
    StoredLabels,
    create_labels,
    create_pyramid,
    create_store,
    open_labels,
    open_pyramid,
)
from napari_wsss.slides.opening import open_slide
from napari_wsss.slides.pyramid import Pyramid
from napari_wsss.slides.resample import ResampledSlide
from napari_wsss.slides.slide import Slide
from napari_wsss.slides.tissue import PackedTissue, TissueMask, glass_mask, tissue_mask

__all__ = [
    "Channels",
    "PackedTissue",
    "Pyramid",
    "ResampledSlide",
    "Slide",
    "StoredLabels",
    "TissueMask",
    "convert_job",
    "convert_slide",
    "create_labels",
    "create_pyramid",
    "create_store",
    "glass_mask",
    "open_labels",
    "open_pyramid",
    "open_slide",
    "tissue_mask",
]
