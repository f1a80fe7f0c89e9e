"""Inference: networks on rectangles of any size, and whole slides block by block."""

from napari_wsss.inference.cluster import Cluster
from napari_wsss.inference.engine import Engine
from napari_wsss.inference.halo import Halo, receptive_halo
from napari_wsss.inference.maps import SlideMaps, map_job, map_slide
from napari_wsss.inference.predict import BlockPrediction, image_logits
from napari_wsss.inference.result import SlideSegmentation
from napari_wsss.inference.slide import segment_job, segment_slide
from napari_wsss.inference.status import RunStatus, areas_so_far, run_status
from napari_wsss.inference.verify import verify_job, verify_result

__all__ = [
    "BlockPrediction",
    "Cluster",
    "Engine",
    "Halo",
    "RunStatus",
    "SlideMaps",
    "SlideSegmentation",
    "areas_so_far",
    "image_logits",
    "map_job",
    "map_slide",
    "receptive_halo",
    "run_status",
    "segment_job",
    "segment_slide",
    "verify_job",
    "verify_result",
]
