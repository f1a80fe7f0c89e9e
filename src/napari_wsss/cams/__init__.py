"""Class activation maps and the pseudo masks made from them."""

from typing import TYPE_CHECKING

from napari_wsss.lazy import on_first_use

if TYPE_CHECKING:
    from napari_wsss.cams.explain import Explainer
    from napari_wsss.cams.explanation import FUSED, Explanation
    from napari_wsss.cams.maps import depth_maps, fuse, scaled, supports_gradcam
    from napari_wsss.cams.pseudo_masks import generate_pseudo_masks, pseudo_mask_job
    from napari_wsss.cams.quality import pseudo_mask_quality, quality_job
    from napari_wsss.cams.regions import SlideRegion, read_region
    from napari_wsss.cams.store import PseudoMasks

__all__ = [
    "FUSED",
    "Explainer",
    "Explanation",
    "PseudoMasks",
    "SlideRegion",
    "depth_maps",
    "fuse",
    "generate_pseudo_masks",
    "pseudo_mask_job",
    "pseudo_mask_quality",
    "quality_job",
    "read_region",
    "scaled",
    "supports_gradcam",
]

__getattr__ = on_first_use(
    __name__,
    {
        "explain": ("Explainer",),
        "explanation": ("FUSED", "Explanation"),
        "maps": ("depth_maps", "fuse", "scaled", "supports_gradcam"),
        "pseudo_masks": ("generate_pseudo_masks", "pseudo_mask_job"),
        "quality": ("pseudo_mask_quality", "quality_job"),
        "regions": ("SlideRegion", "read_region"),
        "store": ("PseudoMasks",),
    },
)
