"""Masks from class activation maps, in batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_wsss.cams.maps import depth_maps, scaled
from napari_wsss.classes import IGNORE
from napari_wsss.errors import ModelError, WsssError
from napari_wsss.jobs import CancelToken
from napari_wsss.models import Classifier
from napari_wsss.models.device import autocast, is_out_of_memory, prepare_process
from napari_wsss.models.fusion import fused
from napari_wsss.models.interrupt import interruptible
from napari_wsss.models.pointwise import with_matrix_products
from napari_wsss.settings import PseudoMaskSettings

__all__ = ["MaskNetwork", "agreement", "masks_from_maps"]


class MaskNetwork:
    """A classifier ready to make masks of patches.

    Parameters
    ----------
    classifier
        A copy of it runs, its batch norms folded into its convolutions.
    settings
        Method, flips, threshold, precision and batch size.
    device
        Where it runs.
    cancel
        Looked at before every layer of every pass; may be replaced between two calls.
    """

    def __init__(
        self,
        classifier: Classifier,
        settings: PseudoMaskSettings,
        device: torch.device,
        cancel: CancelToken,
    ):
        prepare_process()
        model = fused(classifier)
        if device.type == "cpu":
            model = with_matrix_products(model)
        model = model.to(device).to(memory_format=torch.channels_last)
        self.cancel = cancel
        self.model = interruptible(model, lambda: self.cancel.raise_if_cancelled())
        self.settings = settings
        self.device = device
        self._most = settings.batch_size  # halved when memory runs out

    def masks(
        self,
        names: Sequence[str],
        images: Sequence[NDArray[np.uint8]],
        labels: NDArray[np.bool_],
    ) -> list[NDArray[np.uint8]]:
        """Return the (D, H, W) masks of patches; those of one size share a forward pass.

        Parameters
        ----------
        names
            For messages.
        images
            Each (H, W, 3).
        labels
            (N, K): the classes that may occur.

        Raises
        ------
        ModelError
            If the maps of a patch are no numbers, naming it.
        WsssError
            If there is not enough memory for a single patch.
        CancelledError
            Between two layers.
        """
        masks: dict[int, NDArray[np.uint8]] = {}
        sizes: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            sizes.setdefault(image.shape, []).append(i)
        waiting = list(sizes.values())
        while waiting:
            members, rest = waiting[-1][: self._most], waiting.pop()[self._most :]
            if rest:
                waiting.append(rest)
            found = self._pass(
                [names[i] for i in members], [images[i] for i in members], labels[members]
            )
            if found is None:
                waiting.append(members)
            else:
                masks.update(zip(members, found, strict=True))
        return [masks[i] for i in range(len(images))]

    def maps(
        self, name: str, image: NDArray[np.uint8]
    ) -> tuple[list[Tensor], NDArray[np.float32]]:
        """Return the signed maps of all classes, and what the class head says of the image.

        Parameters
        ----------
        name
            For messages.
        image
            (H, W, 3).

        Returns
        -------
        tuple
            Per depth, shallow to deep, (1, K, H, W); and (K, h, w), the deepest head's
            logits, whose mean over a window says whether a class is in it.

        Raises
        ------
        ModelError, WsssError, CancelledError
            As `masks`.
        """
        every = np.ones((1, len(self.model.classes)), bool)
        try:
            maps = self._maps([name], [image], every, relative=False)
            with torch.no_grad(), autocast(self.device, self.settings.precision):
                features = self.model.features(self._batch([image]))
                presence = self.model.heads[-1](features[-1])[0]
            return maps, presence.float().cpu().numpy()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise self._too_little_memory(name) from error

    def _pass(
        self,
        names: list[str],
        images: list[NDArray[np.uint8]],
        labels: NDArray[np.bool_],
    ) -> NDArray[np.uint8] | None:
        """Return (N, D, H, W) masks of patches of one size, None if memory ran out."""
        threshold = self.settings.threshold
        try:
            # What the wanted classes share does not matter to the arg-max, only to strength.
            maps = self._maps(names, images, labels, relative=threshold == 0)
            masks = masks_from_maps(maps)
            if threshold > 0:
                wanted = torch.from_numpy(labels.astype(bool)).to(self.device)
                weak = torch.stack([scaled(m, wanted).amax(1) < threshold for m in maps], 1)
                masks = masks.masked_fill(weak, IGNORE)
            return masks.cpu().numpy()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(images) == 1:
                raise self._too_little_memory(names[0]) from error
        self._most = -(-len(images) // 2)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _maps(
        self,
        names: list[str],
        images: list[NDArray[np.uint8]],
        labels: NDArray[np.bool_],
        *,
        relative: bool,
    ) -> list[Tensor]:
        """Return the checked maps of every depth, (N, K, H, W), on the device."""
        wanted = torch.from_numpy(labels.astype(bool)).to(self.device)
        with autocast(self.device, self.settings.precision):
            maps = depth_maps(
                self.model,
                self._batch(images),
                wanted,
                method=self.settings.method,
                flips=self.settings.flips,
                scales=self.settings.scales,
                relative=relative,
            )
        _check_maps(maps, wanted, names)
        return maps

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
            raise ModelError(
                f"The maps of patch {names[int(good.int().argmin())]!r} are no numbers (NaN or "
                "infinite). The classifier is damaged or was trained badly."
            )
