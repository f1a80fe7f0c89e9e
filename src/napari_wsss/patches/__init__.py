"""Patch sets: labelled patches of H&E slides, loaded, cut from masks or labelled on slides."""

from __future__ import annotations

from napari_wsss.patches.cut_rules import CutRules
from napari_wsss.patches.cutting import cut_patches, cut_patches_job
from napari_wsss.patches.grid import PatchGrid, PatchReader
from napari_wsss.patches.joining import joined
from napari_wsss.patches.label_file import LabelFile, label_files, read_labels
from napari_wsss.patches.label_folder import open_in_folder
from napari_wsss.patches.labelled import on_slide, on_slide_job
from napari_wsss.patches.loading import load_patches
from napari_wsss.patches.patch_report import PatchReport, Problem
from napari_wsss.patches.patch_set import PatchSet
from napari_wsss.patches.reporting import (
    check_trainable,
    check_trainable_job,
    report,
    report_job,
)
from napari_wsss.patches.slide_labels import LEFT_OUT, SlideLabels, SlideRecord
from napari_wsss.patches.suggest import suggest_job

__all__ = [
    "LEFT_OUT",
    "CutRules",
    "LabelFile",
    "PatchGrid",
    "PatchReader",
    "PatchReport",
    "PatchSet",
    "Problem",
    "SlideLabels",
    "SlideRecord",
    "check_trainable",
    "check_trainable_job",
    "cut_patches",
    "cut_patches_job",
    "joined",
    "label_files",
    "load_patches",
    "on_slide",
    "on_slide_job",
    "open_in_folder",
    "read_labels",
    "report",
    "report_job",
    "suggest_job",
]
