"""How a run over a slide is carried out, as one value that its functions hand on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_wsss.inference.cluster import Cluster

__all__ = ["RunOptions", "View"]

#: Says where the user looks: (y, x) in pixels of the result, or None.
View = Callable[[], "tuple[float, float] | None"]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What is decided anew for each run; its inputs and its cancel token travel apart.

    Attributes
    ----------
    model_mpp, device, overwrite, view, live, cluster
        As in `segment_slide`.
    """

    model_mpp: float | None = None
    device: str = "auto"
    overwrite: bool = False
    view: View | None = None
    live: bool = False
    cluster: Cluster | None = None
