"""What a run stores for each block: labels with their uncertainty, or class maps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from torch import Tensor

from napari_wsss.classes import ClassTable
from napari_wsss.inference.blocks import CHUNK_PX, SlidePlan
from napari_wsss.inference.gate import GateGrid, allowed_cells
from napari_wsss.inference.labels import region_labels
from napari_wsss.inference.predict import entropy_region
from napari_wsss.inference.region import Region
from napari_wsss.inference.result import LABELS, NOT_COMPUTED, class_shares
from napari_wsss.inference.tiles import Rect
from napari_wsss.models import Classifier, WsssModel
from napari_wsss.models.one_depth import OneDepth
from napari_wsss.settings import InferenceSettings
from napari_wsss.slides import Channels, Pyramid, create_labels, create_pyramid, open_pyramid
from napari_wsss.slides.downsample import Method
from napari_wsss.slides.ome_zarr import Placement

__all__ = ["MapsOutput", "Output", "SegmentationOutput"]

#: Numbers that a block contributes to the summary.
Stats = list[float]


class Output(ABC):
    """What is computed, stored and summed up.

    Parameters
    ----------
    classes
        Of the model.
    settings
        Of the run.
    """

    #: What ``run.json`` calls it, the stage that progress names, what its folder's name ends
    #: with, and how each of its pyramids is made coarser.
    kind: ClassVar[str]
    stage: ClassVar[str]
    suffix: str = ""
    methods: ClassVar[tuple[Method, ...]]
    #: Of a class map, 1 (shallowest) to D; None for what the model says by itself.
    depth: int | None = None

    def __init__(self, classes: ClassTable, settings: InferenceSettings):
        self.classes = classes
        self.settings = settings

    @abstractmethod
    def create(self, group: zarr.Group, name: str, plan: SlidePlan) -> tuple[Pyramid, ...]:
        """Create the pyramids in the group of a new result."""

    @abstractmethod
    def open(self, path: Path) -> tuple[Pyramid, ...]:
        """Open the pyramids of a result for writing."""

    @abstractmethod
    def tensors(self, region: Region, rect: Rect, gate: GateGrid | None) -> tuple[Tensor, ...]:
        """Return what is stored for a rectangle, on the device, and last a check.

        The check is one number that is finite if all network output was.
        """

    @abstractmethod
    def blank(self, rect: Rect, value: int) -> tuple[NDArray[np.uint8], ...]:
        """Return the arrays of a block with one value everywhere."""

    @abstractmethod
    def masked(
        self, arrays: Sequence[NDArray[np.uint8]], tissue: NDArray[np.bool_]
    ) -> tuple[tuple[NDArray[np.uint8], ...], Stats]:
        """Return the arrays as they are stored, 0 outside the tissue, and the block's numbers."""

    @abstractmethod
    def summary(self, stats: Iterable[Stats], plan: SlidePlan) -> dict[str, Any]:
        """Return what the numbers of all blocks, in the order of the grid, add up to."""

    def gate(self, patch_size_px: int, plan: SlidePlan) -> GateGrid | None:
        """Return the windows of the gate; None for no gate."""
        return None

    def network(self, model: WsssModel) -> WsssModel:
        """Return the part of the model that runs."""
        return model


class SegmentationOutput(Output):
    """Labels (class index + 1) at ``labels/segmentation``, uncertainty at the root."""

    kind = "segmentation"
    stage = "Segmentation"
    methods = ("mode", "mean")

    def create(self, group: zarr.Group, name: str, plan: SlidePlan) -> tuple[Pyramid, ...]:
        """Create labels and uncertainty."""
        place = _place(plan)
        uncertainty = create_pyramid(
            group, plan.shape, name=f"{name} uncertainty", fill_value=NOT_COMPUTED, **place
        )
        labels = create_labels(group, "segmentation", plan.shape, classes=self.classes, **place)
        return labels, uncertainty

    def open(self, path: Path) -> tuple[Pyramid, ...]:
        """Open labels and uncertainty."""
        return open_pyramid(path / LABELS, "r+"), open_pyramid(path, "r+")

    def gate(self, patch_size_px: int, plan: SlidePlan) -> GateGrid | None:
        """Return the windows of the gate."""
        return GateGrid.of(patch_size_px, plan.shape) if self.settings.gate else None

    def tensors(self, region: Region, rect: Rect, gate: GateGrid | None) -> tuple[Tensor, ...]:
        """Return labels, uncertainty and a check."""
        cells = None
        if gate is not None:
            how = self.settings
            cells = allowed_cells(region, gate, rect, how.gate_threshold, how.gate_windows)
            if bool(cells.all()):
                cells = None
        labels = region_labels(region, rect, cells, gate).add_(1)
        entropy = entropy_region(region)
        doubt = torch.empty_like(labels)
        for rows, values in entropy.strips(rect):
            doubt[rows] = (values[0] * 254).round_()
        check = region.presence.sum() + entropy.logits.sum()
        return labels, doubt, check

    def blank(self, rect: Rect, value: int) -> tuple[NDArray[np.uint8], ...]:
        """Return labels and uncertainty of one value."""
        array = np.full((rect.height, rect.width), value, np.uint8)
        return array, array

    def masked(
        self, arrays: Sequence[NDArray[np.uint8]], tissue: NDArray[np.bool_]
    ) -> tuple[tuple[NDArray[np.uint8], ...], Stats]:
        """Return labels and uncertainty within the tissue, and pixels per label."""
        labels, doubt = arrays if tissue.all() else (a * tissue for a in arrays)
        # Several times faster than bincount, which makes long integers of the bytes.
        counts: Stats = [int(np.count_nonzero(labels == k)) for k in range(len(self.classes) + 1)]
        return (labels, doubt), counts

    def summary(self, stats: Iterable[Stats], plan: SlidePlan) -> dict[str, Any]:
        """Return pixels, share and area of each class."""
        counts = np.zeros(len(self.classes) + 1, np.int64)
        for row in stats:
            counts += np.asarray(row, np.int64)
        mpp = plan.grid.mpp
        pixel_mm2 = None if mpp is None else mpp**2 * 1e-6
        return {"classes": class_shares(counts, self.classes, pixel_mm2)}


class MapsOutput(Output):
    """The sigmoid of each class's CAM logit, times 254, (K, H, W).

    Parameters
    ----------
    classes, settings
        As of `Output`.
    depth
        Whose map, as `depth_number` says it; None for the classifier's own.
    """

    kind = "maps"
    stage = "Maps"
    methods = ("mean",)

    def __init__(self, classes: ClassTable, settings: InferenceSettings, depth: int | None = None):
        super().__init__(classes, settings)
        self.depth = depth
        self.suffix = "-maps" if depth is None else f"-maps-depth-{depth}"

    def network(self, model: WsssModel) -> WsssModel:
        """Return the classifier up to the head of the depth."""
        if self.depth is None:
            return model
        assert isinstance(model, Classifier)
        return OneDepth(model, self.depth)

    def create(self, group: zarr.Group, name: str, plan: SlidePlan) -> tuple[Pyramid, ...]:
        """Create the maps, one channel per class."""
        pyramid = create_pyramid(
            group,
            (len(self.classes), *plan.shape),
            axes=("c", "y", "x"),
            fill_value=NOT_COMPUTED,
            name=f"{name} class maps",
            channels=Channels(self.classes.names, [c.color for c in self.classes.classes]),
            **_place(plan),
        )
        return (pyramid,)

    def open(self, path: Path) -> tuple[Pyramid, ...]:
        """Open the maps."""
        return (open_pyramid(path, "r+"),)

    def tensors(self, region: Region, rect: Rect, gate: GateGrid | None) -> tuple[Tensor, ...]:
        """Return the maps and a check."""
        logits = region.crop(rect)
        evidence = torch.sigmoid(logits).mul_(254).round_().to(torch.uint8)
        return evidence.contiguous(), logits.sum()

    def blank(self, rect: Rect, value: int) -> tuple[NDArray[np.uint8], ...]:
        """Return maps of one value."""
        return (np.full((len(self.classes), rect.height, rect.width), value, np.uint8),)

    def masked(
        self, arrays: Sequence[NDArray[np.uint8]], tissue: NDArray[np.bool_]
    ) -> tuple[tuple[NDArray[np.uint8], ...], Stats]:
        """Return the maps within the tissue, their sums, and its pixels."""
        stored = arrays[0] * tissue
        sums = stored.sum((1, 2), dtype=np.int64)
        return (stored,), [*sums.tolist(), int(tissue.sum())]

    def summary(self, stats: Iterable[Stats], plan: SlidePlan) -> dict[str, Any]:
        """Return the mean evidence of each class within the tissue."""
        sums = np.zeros(len(self.classes) + 1, np.int64)
        for row in stats:
            sums += np.asarray(row, np.int64)
        means = sums[:-1] / 254 / max(int(sums[-1]), 1)
        return {"mean_evidence": dict(zip(self.classes.names, means.tolist(), strict=True))}


def _place(plan: SlidePlan) -> Placement:
    return {
        "mpp": plan.grid.mpp,
        "chunk": CHUNK_PX,
        "translation_px": plan.translation_px,
        "compression_level": 1,  # labels are hardly smaller at more, and take longer to write
    }
