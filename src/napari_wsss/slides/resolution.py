"""Micrometres per pixel: validating, converting and never assuming them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from napari_wsss.errors import SlideError

__all__ = ["MAX_PRINT_MPP", "isotropic_mpp", "plausible_mpp", "to_micrometers", "validated_mpp"]

#: Resolutions outside this range (µm/px) are no microscope's.
MIN_MPP, MAX_MPP = 0.01, 100.0
#: Coarser resolution tags than this (µm/px; 2540 dpi) describe prints and screens.
MAX_PRINT_MPP = 10.0

_MICROMETERS: Mapping[str, float] = {
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometre"), 1.0),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-3),
    **dict.fromkeys(("å", "angstrom"), 1e-4),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e3),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e4),
    **dict.fromkeys(("m", "meter", "metre"), 1e6),
    **dict.fromkeys(("in", "inch"), 25400.0),
}


def to_micrometers(value: float, unit: str | None) -> float | None:
    """Convert a length to micrometres; None if the unit is missing or not a length."""
    factor = _MICROMETERS.get((unit or "").strip().lower())
    return None if factor is None else value * factor


def plausible_mpp(value: Any, largest: float = MAX_MPP) -> float | None:
    """Return `value` as µm/px if it is a number between 0.01 and `largest`, else None."""
    try:
        mpp = float(value)
    except (TypeError, ValueError):
        return None
    return mpp if math.isfinite(mpp) and MIN_MPP <= mpp <= largest else None


def isotropic_mpp(x: Any, y: Any, largest: float = MAX_MPP) -> float | None:
    """Return the mean of two resolutions in µm/px.

    Returns
    -------
    float or None
        None if either is not plausible or if they differ by 2 % or more: one number would
        then be wrong for one of the axes.
    """
    mpp_x, mpp_y = plausible_mpp(x, largest), plausible_mpp(y, largest)
    if mpp_x is None or mpp_y is None or abs(mpp_x - mpp_y) >= 0.02 * min(mpp_x, mpp_y):
        return None
    return (mpp_x + mpp_y) / 2


def validated_mpp(value: Any) -> float:
    """Return µm/px that a user gave as a float.

    Raises
    ------
    SlideError
        If it is not a number between 0.01 and 100.
    """
    mpp = None if isinstance(value, bool) else plausible_mpp(value)
    if mpp is None:
        raise SlideError(
            f"{value!r} is not a resolution in micrometres per pixel. It must be a number "
            f"between {MIN_MPP:g} and {MAX_MPP:g}; scanners give about 0.25 (40x) or 0.5 (20x)."
        )
    return mpp
