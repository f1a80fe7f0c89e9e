"""napari's sample data: the synthetic slide beside its truth."""

from __future__ import annotations

from napari_wsss.panels.support.layers import LayerData, image_layer, labels_layer

__all__ = ["synthetic_slide_layers"]


def synthetic_slide_layers() -> list[LayerData]:
    """Draw the synthetic slide.

    Returns
    -------
    list of LayerData
        The slide, and its truth as a labels layer that starts hidden: class index + 1,
        0 for glass.
    """
    import numpy as np

    from napari_wsss.classes import IGNORE
    from napari_wsss.samples import synthetic_slide

    slide = synthetic_slide()
    labels = np.where(slide.truth == IGNORE, 0, slide.truth + 1).astype(np.uint8)
    data, options, kind = labels_layer([labels], "truth", slide.mpp, slide.classes)
    return [
        image_layer([slide.image], "synthetic slide", slide.mpp),
        (data, {**options, "visible": False}, kind),
    ]
