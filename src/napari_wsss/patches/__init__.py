"""Patch sets: labelled patches of H&E slides, loaded from files or cut from masks."""

from __future__ import annotations

from napari_wsss.patches.cutting import cut_patches, cut_patches_job
from napari_wsss.patches.loading import load_patches
from napari_wsss.patches.patch_report import PatchReport, Problem
from napari_wsss.patches.patch_set import PatchSet
from napari_wsss.patches.reporting import (
    check_trainable,
    check_trainable_job,
    report,
    report_job,
)

__all__ = [
    "PatchReport",
    "PatchSet",
    "Problem",
    "check_trainable",
    "check_trainable_job",
    "cut_patches",
    "cut_patches_job",
    "load_patches",
    "report",
    "report_job",
]
