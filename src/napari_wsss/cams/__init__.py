"""Class activation maps and the pseudo masks made from them."""

from napari_wsss.cams.maps import depth_maps, fuse, supports_gradcam
from napari_wsss.cams.pseudo_masks import generate_pseudo_masks, pseudo_mask_job
from napari_wsss.cams.quality import pseudo_mask_quality
from napari_wsss.cams.store import PseudoMasks

__all__ = [
    "PseudoMasks",
    "depth_maps",
    "fuse",
    "generate_pseudo_masks",
    "pseudo_mask_job",
    "pseudo_mask_quality",
    "supports_gradcam",
]
