"""The processes that train one model together; one alone is the usual case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

__all__ = ["Group"]


class Group:
    """Training processes, seen from one of them.

    Parameters
    ----------
    rank, size
        Number of this process, and how many there are. More than one need an initialised
        process group of ``torch.distributed``.
    """

    def __init__(self, rank: int = 0, size: int = 1):
        self.rank, self.size = rank, size

    @property
    def first(self) -> bool:
        """Whether this process validates, writes and reports."""
        return self.rank == 0

    def part(self, batches: Sequence[Sequence[int]]) -> list[Sequence[int]]:
        """Return this process's share of every batch (indices of patches)."""
        return [batch[self.rank :: self.size] for batch in batches]

    def seed(self, seed: int) -> int:
        """Return a seed of this process, so that two do not augment alike."""
        return (seed + 7907 * self.rank) % (2**31 - 1)

    def weight(self, count: int, batch_size: int) -> float:
        """Return what the loss of `count` patches of a batch is multiplied by.

        Gradients are averaged over the processes, whose shares may differ by one patch.
        """
        return count * self.size / batch_size

    def wrapped(self, model: nn.Module, device: torch.device, *, sync_norms: bool) -> nn.Module:
        """Return a module whose backward passes average the gradients of all processes.

        Parameters
        ----------
        model
            On `device`, with the same weights in every process.
        sync_norms
            Whether batch norms collect statistics: on CUDA those of all processes, elsewhere
            each process normalises by its own share and the first one's statistics are kept.
        """
        if self.size == 1:
            return model
        if sync_norms and device.type == "cuda":
            model = convert_sync_batchnorm(model)
        return DistributedDataParallel(
            model,
            device_ids=[device.index] if device.type == "cuda" else None,
            find_unused_parameters=True,
        )

    def total(self, value: float, device: torch.device) -> float:
        """Return the sum of a number over all processes."""
        if self.size == 1:
            return value
        summed = torch.tensor(value, dtype=torch.float64, device=device)
        torch.distributed.all_reduce(summed)
        return float(summed)

    def from_first(self, value: Any) -> Any:
        """Return what the first process passes here."""
        if self.size == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]
