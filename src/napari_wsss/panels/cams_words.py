"""What the class maps panel calls depths, and what it says of how certain a mask is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_wsss.recipes import RECIPES

if TYPE_CHECKING:
    from napari_wsss.panels.cams_work import Found
    from napari_wsss.settings import PseudoMaskSettings

__all__ = [
    "FUSED_NAME",
    "JOINT_NAME",
    "SOURCES",
    "certainty_text",
    "depth_name",
    "depth_title",
]

#: The mean of the maps of all depths, and the map of the head that sees all of them.
FUSED_NAME, JOINT_NAME = "All depths, fused", "Joint head, of all depths"

#: What pseudo masks are made from, by the method.
SOURCES = {
    "joint": "the joint head",
    "heads": "the class heads of all depths",
    "gradcam": "Grad-CAM of all depths",
}


def depth_name(d: int, depths: int) -> str:
    """Return "1 (shallowest)" ... of depth `d`, counted from 0."""
    if depths == 1:
        return "1"
    return f"{d + 1}" + {0: " (shallowest)", depths - 1: " (deepest)"}.get(d, "")


def depth_title(d: int, depths: int, *, gradcam: bool = False) -> str:
    """Return "Depth 1 (shallowest)" ... of depth `d`, counted from 0, or that of its Grad-CAM."""
    return f"{'Grad-CAM, depth' if gradcam else 'Depth'} {depth_name(d, depths)}"


def certainty_text(found: Found, settings: PseudoMaskSettings) -> str:
    """Return how certain the pixels of an explanation are; empty if that says nothing.

    Parameters
    ----------
    found
        What is shown.
    settings
        Of the pseudo masks. If they ask for no certainty, that of the default recipe is named,
        so that the number can be judged.
    """
    shown = found.explanation
    asked = settings.least_certainty
    if found.joint:
        if shown.label.sum() == 1:
            return ""
        wanted = asked or RECIPES["default"].pseudo_masks.least_certainty
        why = "as the settings ask" if asked else "as the recipe 'default' asks"
        return (
            f"One map of all depths. {shown.certain(wanted).mean():.0%} of the pixels are "
            f"certain: their class has a probability of {wanted:.2f} or more among those of the "
            f"label, {why}."
        )
    if shown.depths == 1:
        return ""
    text = f"All depths agree on {float((shown.agreement == 1).mean()):.0%}."
    if asked:
        text += (
            f" On {shown.certain(asked).mean():.0%} a share of {asked:.2f} of them agree with the "
            "deepest, as the settings ask."
        )
    return text
