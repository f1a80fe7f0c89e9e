"""Bringing image tiles to a device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Uploader"]


class Uploader:
    """Copies tiles (h, w, 3) uint8 to a device.

    For CUDA through two pinned buffers that are used again and again: a copy from pageable
    memory makes the device wait, and pinning anew for each batch costs more than the copy.
    One byte a channel travels; the device makes numbers of it.

    Parameters
    ----------
    device
        Where to.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._buffers: list[Tensor | None] = [None, None]
        self._copied: list[torch.cuda.Event | None] = [None, None]
        self._turn = 0

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Return (N, h, w, 3) uint8 on the device."""
        if self.device.type != "cuda":
            own = images[0][None] if len(images) == 1 else np.stack(images)
            own = np.require(own, requirements=("C", "W"))
            return torch.from_numpy(own).to(self.device)
        self._turn = 1 - self._turn
        shape = (len(images), *images[0].shape)
        pinned = self._buffers[self._turn]
        last = self._copied[self._turn]
        if last is not None:
            last.synchronize()  # the copy before the last has to be over
        if pinned is None or pinned.shape != shape:
            pinned = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
            self._buffers[self._turn] = pinned
        np.stack(images, out=pinned.numpy())
        batch = pinned.to(self.device, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._copied[self._turn] = event
        return batch
