"""How good pseudo masks are, where true masks exist to measure them (never to choose)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from napari_wsss.cams.store import PseudoMasks
from napari_wsss.classes import IGNORE
from napari_wsss.evaluation.metrics import ConfusionMatrix, scores
from napari_wsss.jobs import CancelToken, Job, Progress, run_job
from napari_wsss.patches import PatchSet

__all__ = ["pseudo_mask_quality", "quality_job"]


def pseudo_mask_quality(
    pseudo: PseudoMasks,
    patches: PatchSet,
    masks_dir: Path | None = None,
    *,
    cancel: CancelToken | None = None,
) -> dict[str, Any]:
    """Measure pseudo masks against true masks.

    Parameters
    ----------
    pseudo
        Pseudo masks of `patches`.
    patches
        A set with masks, or any set with `masks_dir`.
    masks_dir
        True masks named as the patches.
    cancel
        Looked at before every patch.

    Returns
    -------
    dict
        ``depths``: mean IoU of every depth over all patches and over multi-label patches
        (single-label ones are right by construction), on the pixels that the pseudo masks keep;
        ``kept_share`` and ``kept_share_multi_label``: how many of the labelled pixels of
        either these are (NaN without multi-label patches); ``agreeing``: the deepest mask on
        the pixels that are wholly certain (all depths agree), with their share of those kept.
        All fractions.

    Raises
    ------
    DataError, CancelledError
        As they say.
    """
    return run_job(quality_job(pseudo, patches, masks_dir, cancel=cancel))


def quality_job(
    pseudo: PseudoMasks,
    patches: PatchSet,
    masks_dir: Path | None = None,
    *,
    cancel: CancelToken | None = None,
) -> Job[dict[str, Any]]:
    """Yield the events of `pseudo_mask_quality`, which documents the parameters."""
    cancel = cancel or CancelToken()
    k = len(patches.classes)
    every = [ConfusionMatrix(k) for _ in range(pseudo.depths)]
    multi = [ConfusionMatrix(k) for _ in range(pseudo.depths)]
    agreeing = ConfusionMatrix(k)
    single = patches.single_label
    labelled, kept = np.zeros(2, np.int64), np.zeros(2, np.int64)  # of all, of multi-label
    for i, name in enumerate(patches.names):
        cancel.raise_if_cancelled("Start it again to measure.")
        yield Progress("Quality", i, len(patches))
        truth = patches.read_mask(i, masks_dir)
        masks = pseudo.targets(name)
        counts = np.array([True, not single[i]])
        labelled += counts * np.count_nonzero(truth != IGNORE)
        truth = np.where(masks[-1] == IGNORE, IGNORE, truth)
        kept += counts * np.count_nonzero(truth != IGNORE)
        for d, mask in enumerate(masks):
            every[d].update(truth, mask)
            if not single[i]:
                multi[d].update(truth, mask)
        same = pseudo.agreement(name) == 1
        agreeing.update(np.where(same, truth, IGNORE), masks[-1])
    return {
        "depths": [
            {
                "depth": d + 1,
                "miou": scores(every[d]).miou,
                "miou_multi_label": scores(multi[d]).miou,
            }
            for d in range(pseudo.depths)
        ],
        "agreeing": {
            "miou": scores(agreeing).miou,
            "share": agreeing.n_pixels / max(int(kept[0]), 1),
        },
        "kept_share": float(kept[0] / max(labelled[0], 1)),
        "kept_share_multi_label": float(kept[1] / labelled[1]) if labelled[1] else math.nan,
        "multi_label_patches": int((~single).sum()),
        "patches": len(patches),
    }
