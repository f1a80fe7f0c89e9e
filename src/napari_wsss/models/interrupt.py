"""Stopping a network in the middle of a pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

__all__ = ["interruptible", "interrupting"]

M = TypeVar("M", bound=nn.Module)


def interruptible(model: M, check: Callable[[], None]) -> M:
    """Call `check` before every layer of `model`, forwards and backwards; return the model.

    A pass over a large tile or batch takes seconds; what `check` raises ends it at once.

    Parameters
    ----------
    model
        Changed in place: give a copy that is used for nothing else.
    check
        Raises, or does nothing.
    """
    _hook(model, check)
    return model


@contextmanager
def interrupting(model: nn.Module, check: Callable[[], None]) -> Iterator[None]:
    """Do as `interruptible` for the passes in this block, and leave `model` as it was."""
    handles = _hook(model, check)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(model: nn.Module, check: Callable[[], None]) -> list[RemovableHandle]:
    def before(*_: Any) -> None:
        check()

    def after(_: nn.Module, __: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.requires_grad:
            output.register_hook(before)

    handles = []
    for layer in [m for m in model.modules() if not any(True for _ in m.children())]:
        handles.append(layer.register_forward_pre_hook(before))
        handles.append(layer.register_forward_hook(after))
    return handles
