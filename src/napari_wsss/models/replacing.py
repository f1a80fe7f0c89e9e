"""Other modules in a network's places."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn

__all__ = ["with_replaced"]

M = TypeVar("M", bound=nn.Module)


def with_replaced(model: M, other: Callable[[nn.Module], nn.Module | None]) -> M:
    """Put other modules in the places of a network's own, in place, and return it.

    Parameters
    ----------
    model
        Its own type stays; only what is below it is asked about.
    other
        What comes in place of a module, or None where that stays. What is put in is not
        asked about again.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            new = other(child)
            if new is not None:
                setattr(parent, name, new)
    return model
