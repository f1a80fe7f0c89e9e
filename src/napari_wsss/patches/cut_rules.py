"""How `cut_patches` makes patches of images, as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from napari_wsss.errors import DataError, listed
from napari_wsss.patches.formats.common import MIN_SHARE
from napari_wsss.patches.names import MPP_RANGE
from napari_wsss.patches.patch_set import Glass

__all__ = ["CutRules"]


@dataclass(frozen=True, kw_only=True)
class CutRules:
    """Which windows are cut, which classes they have, and what is known of the images.

    Attributes
    ----------
    size_px, stride_px, min_share, mpp, glass, max_ignored
        As in `cut_patches`.
    """

    size_px: int = 112
    stride_px: int = 56
    min_share: float = MIN_SHARE
    mpp: float | None = None
    glass: Literal["auto"] | Glass = "auto"
    max_ignored: float = 1.0

    def check(self) -> None:
        """Check that patches can be cut like this.

        Raises
        ------
        DataError
            Listing every value that is out of bounds.
        """
        low, high = MPP_RANGE
        problems = []
        if not 8 <= self.size_px <= 8192:
            problems.append(f"size_px = {self.size_px}; 8 to 8192 are possible")
        if self.stride_px < 1:
            problems.append(f"stride_px = {self.stride_px}; at least 1 is needed")
        if not 0 <= self.min_share <= 1:
            problems.append(f"min_share = {self.min_share}; it is a share from 0 to 1")
        if not 0 <= self.max_ignored <= 1:
            problems.append(f"max_ignored = {self.max_ignored}; it is a share from 0 to 1")
        if self.mpp is not None and not low <= self.mpp <= high:
            problems.append(
                f"mpp = {self.mpp} µm/px; {low} to {high} are possible, leave it out if unknown"
            )
        if self.glass not in ("auto", "ignore", "tissue"):
            problems.append(f"glass = {self.glass!r}; 'auto', 'ignore' or 'tissue' are possible")
        if problems:
            raise DataError(f"Patches cannot be cut like this:{listed(problems)}")
