"""Masks from class activation maps or, in a second round, from a segmenter, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_wsss.allocator import prepare_process
from napari_wsss.cams.maps import depth_maps, scaled
from napari_wsss.cams.refine import guided_filter
from napari_wsss.classes import IGNORE
from napari_wsss.errors import ModelError, WsssError
from napari_wsss.jobs import CancelToken
from napari_wsss.models import Classifier, Segmenter
from napari_wsss.models.device import autocast, is_out_of_memory
from napari_wsss.models.fusion import fused
from napari_wsss.models.interrupt import interruptible
from napari_wsss.models.pointwise import with_matrix_products
from napari_wsss.settings import PseudoMaskSettings

__all__ = ["MaskNetwork", "PatchMasks", "agreement", "masks_from_maps"]


class PatchMasks(NamedTuple):
    """Masks of one patch.

    Attributes
    ----------
    masks
        (D, H, W) class indices, shallow to deep; 255 where a pixel is no class.
    certainty
        (H, W) uint8, 255 is certain: the share of the depths that agree with the deepest or,
        of one map, the probability of the winner among the label's classes.
    """

    masks: NDArray[np.uint8]
    certainty: NDArray[np.uint8]


class MaskNetwork:
    """A model ready to make masks of patches.

    Parameters
    ----------
    model
        Classifier, or segmenter of an earlier round. A copy of it runs, its batch norms folded
        into its convolutions.
    settings
        Method, flips, scales, threshold, certainty, precision and batch size.
    device
        Where it runs.
    cancel
        Looked at before every layer of every pass; may be replaced between two calls, as may the
        attribute `settings` by others that are resolved.
    """

    def __init__(
        self,
        model: Classifier | Segmenter,
        settings: PseudoMaskSettings,
        device: torch.device,
        cancel: CancelToken,
    ):
        prepare_process()
        quick = fused(model)
        if device.type == "cpu":
            quick = with_matrix_products(quick)
        quick = quick.to(device).to(memory_format=torch.channels_last)
        self.cancel = cancel
        self.model = interruptible(quick, lambda: self.cancel.raise_if_cancelled())
        self.settings = settings.resolved(model.info.architecture)
        self.device = device
        self._most = settings.batch_size  # halved when memory runs out

    def masks(
        self,
        names: Sequence[str],
        images: Sequence[NDArray[np.uint8]],
        labels: NDArray[np.bool_],
        possible: Sequence[NDArray[np.bool_]] | None = None,
    ) -> list[PatchMasks]:
        """Return the masks of patches; those of one size share a forward pass.

        Parameters
        ----------
        names
            For messages.
        images
            Each (H, W, 3).
        labels
            (N, K): the classes that may occur.
        possible
            For each patch (K, H, W): those of its classes that each pixel may have, at least
            one; None allows all.

        Raises
        ------
        ModelError
            If the maps of a patch are no numbers, naming it.
        WsssError
            If there is not enough memory for a single patch.
        CancelledError
            Between two layers.
        """
        masks: dict[int, PatchMasks] = {}
        sizes: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            sizes.setdefault(image.shape, []).append(i)
        waiting = list(sizes.values())
        while waiting:
            members, rest = waiting[-1][: self._most], waiting.pop()[self._most :]
            if rest:
                waiting.append(rest)
            found = self._pass(
                [names[i] for i in members],
                [images[i] for i in members],
                labels[members],
                None if possible is None else [possible[i] for i in members],
            )
            if found is None:
                waiting.append(members)
            else:
                masks.update(zip(members, found, strict=True))
        return [masks[i] for i in range(len(images))]

    def maps(self, name: str, image: NDArray[np.uint8], label: NDArray[np.bool_]) -> list[Tensor]:
        """Return the signed maps of all classes.

        Parameters
        ----------
        name
            For messages.
        image
            (H, W, 3).
        label
            (K,): the classes that share the pixels; their maps are those that `masks` compares.

        Returns
        -------
        list of Tensor
            Per depth, shallow to deep, (1, K, H, W).

        Raises
        ------
        ModelError, WsssError, CancelledError
            As `masks`.
        """
        every = np.ones((1, len(self.model.classes)), bool)
        with self._memory_of(name):
            return self._maps([name], [image], every, label[None], relative=False)

    def presence(self, name: str, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (K, h, w), logits whose mean over a window says whether a class is in it.

        Parameters and errors are those of `maps`.
        """
        with (
            self._memory_of(name),
            torch.no_grad(),
            autocast(self.device, self.settings.precision),
        ):
            found = self.model.dense(self._batch([image])).presence[0].float()
        if not bool(torch.isfinite(found).all()):
            raise _no_numbers(name)
        return found.cpu().numpy()

    @contextmanager
    def _memory_of(self, name: str) -> Iterator[None]:
        """Say of which image it is that there is not enough memory for."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise self._too_little_memory(name) from error

    def _pass(
        self,
        names: list[str],
        images: list[NDArray[np.uint8]],
        labels: NDArray[np.bool_],
        possible: list[NDArray[np.bool_]] | None,
    ) -> list[PatchMasks] | None:
        """Return the masks of patches of one size, None if memory ran out."""
        try:
            # What the wanted classes share does not matter to the arg-max, only to strength.
            relative = self.settings.threshold == 0
            maps = self._maps(names, images, labels, labels, relative=relative)
            return self.of_maps(maps, labels, possible)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(images) == 1:
                raise self._too_little_memory(names[0]) from error
        self._most = -(-len(images) // 2)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def of_maps(
        self,
        maps: list[Tensor],
        labels: NDArray[np.bool_],
        possible: list[NDArray[np.bool_]] | None = None,
    ) -> list[PatchMasks]:
        """Return the masks that follow from signed maps.

        Parameters
        ----------
        maps
            Per depth, shallow to deep, (N, K, H, W), averaged by these labels.
        labels, possible
            As in `masks`.
        """
        wanted = self._flags(labels)
        barred = ~wanted[:, :, None, None]
        if possible is not None:
            barred = barred | self._flags(~np.stack(possible))
        maps = [m.masked_fill(barred, -torch.inf) for m in maps]
        masks = masks_from_maps(maps)
        certainty = self._certainty(maps, masks)
        threshold = self.settings.threshold
        if threshold > 0:
            weak = torch.stack([scaled(m, wanted).amax(1) < threshold for m in maps], 1)
            masks = masks.masked_fill(weak, IGNORE)
        if self.settings.least_certainty > 0:
            doubtful = certainty < round(self.settings.least_certainty * 255)
            masks = masks.masked_fill(doubtful[:, None], IGNORE)
        both = zip(masks.cpu().numpy(), certainty.cpu().numpy(), strict=True)
        return [PatchMasks(*one) for one in both]

    def _certainty(self, maps: list[Tensor], masks: Tensor) -> Tensor:
        """Return (N, H, W) uint8 of maps and of the (N, D, H, W) masks made from them."""
        if self.settings.one_map:
            share = torch.softmax(maps[-1].float(), 1).amax(1)
        else:
            share = (masks == masks[:, -1:]).float().mean(1)
        return (share * 255).round().to(torch.uint8)

    def _maps(
        self,
        names: list[str],
        images: list[NDArray[np.uint8]],
        classes: NDArray[np.bool_],
        labels: NDArray[np.bool_],
        *,
        relative: bool,
    ) -> list[Tensor]:
        """Return the checked maps of `classes` at every depth, (N, K, H, W), on the device."""
        wanted = self._flags(classes)
        batch = self._batch(images)
        with autocast(self.device, self.settings.precision):
            maps = depth_maps(
                self.model,
                batch,
                wanted,
                method=self.settings.method,
                flips=self.settings.flips,
                scales=self.settings.sizes,
                label=self._flags(labels),
                relative=relative,
            )
        _check_maps(maps, wanted, names)
        if self.settings.refine_px == 0:
            return maps
        absent = ~wanted[:, :, None, None]
        return [
            guided_filter(m.masked_fill(absent, 0), batch, self.settings.refine_px).masked_fill(
                absent, -torch.inf
            )
            for m in maps
        ]

    def _flags(self, values: NDArray[np.bool_]) -> Tensor:
        return torch.from_numpy(values.astype(bool)).to(self.device)

    def _batch(self, images: list[NDArray[np.uint8]]) -> Tensor:
        batch = torch.from_numpy(np.stack(images)).to(self.device)
        return batch.permute(0, 3, 1, 2).float() / 255  # channels last in memory

    def _too_little_memory(self, name: str) -> WsssError:
        return WsssError(
            f"The memory of {self.device} does not suffice for patch {name!r}. Close "
            "other programs, or take a smaller encoder or smaller patches."
        )


def masks_from_maps(maps: list[Tensor]) -> Tensor:
    """Return (N, D, H, W) uint8 class indices: the arg-max of each depth's maps.

    Classes that were not wanted are minus infinity and cannot win, not even a tie.
    """
    return torch.stack([m.argmax(1) for m in maps], 1).to(torch.uint8)


def agreement(masks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (H, W): the share of the (D, H, W) masks equal to the deepest, times 255."""
    return np.round((masks == masks[-1]).mean(0) * 255).astype(np.uint8)


def _check_maps(maps: list[Tensor], wanted: Tensor, names: list[str]) -> None:
    """Raise ModelError naming the first patch whose wanted maps are no numbers."""
    for m in maps:
        # Maps of absent classes are minus infinity on purpose.
        good = (torch.isfinite(m).flatten(2).all(2) == wanted).all(1)
        if not bool(good.all()):
            raise _no_numbers(names[int(good.int().argmin())])


def _no_numbers(name: str) -> ModelError:
    return ModelError(
        f"The maps of patch {name!r} are no numbers (NaN or infinite). The model is damaged "
        "or was trained badly."
    )
