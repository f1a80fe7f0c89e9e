"""Inference: networks on rectangles of any size, and whole slides block by block."""

from typing import TYPE_CHECKING

from napari_wsss.lazy import on_first_use

if TYPE_CHECKING:
    from napari_wsss.inference.cluster import Cluster
    from napari_wsss.inference.corrections import (
        Correction,
        areas_with,
        correct_region,
        corrections_of,
        model_region,
        read_region,
        restore_region,
    )
    from napari_wsss.inference.engine import Engine
    from napari_wsss.inference.halo import Halo, receptive_halo
    from napari_wsss.inference.maps import SlideMaps, find_maps, map_job, map_slide
    from napari_wsss.inference.options import RunOptions
    from napari_wsss.inference.predict import BlockPrediction, image_logits
    from napari_wsss.inference.result import SlideSegmentation
    from napari_wsss.inference.slide import segment_job, segment_slide
    from napari_wsss.inference.status import RunStatus, areas_so_far, run_status
    from napari_wsss.inference.verify import verify_job, verify_result

__all__ = [
    "BlockPrediction",
    "Cluster",
    "Correction",
    "Engine",
    "Halo",
    "RunOptions",
    "RunStatus",
    "SlideMaps",
    "SlideSegmentation",
    "areas_so_far",
    "areas_with",
    "correct_region",
    "corrections_of",
    "find_maps",
    "image_logits",
    "map_job",
    "map_slide",
    "model_region",
    "read_region",
    "receptive_halo",
    "restore_region",
    "run_status",
    "segment_job",
    "segment_slide",
    "verify_job",
    "verify_result",
]

__getattr__ = on_first_use(
    __name__,
    {
        "cluster": ("Cluster",),
        "corrections": (
            "Correction",
            "areas_with",
            "correct_region",
            "corrections_of",
            "model_region",
            "read_region",
            "restore_region",
        ),
        "engine": ("Engine",),
        "halo": ("Halo", "receptive_halo"),
        "maps": ("SlideMaps", "find_maps", "map_job", "map_slide"),
        "options": ("RunOptions",),
        "predict": ("BlockPrediction", "image_logits"),
        "result": ("SlideSegmentation",),
        "slide": ("segment_job", "segment_slide"),
        "status": ("RunStatus", "areas_so_far", "run_status"),
        "verify": ("verify_job", "verify_result"),
    },
)
