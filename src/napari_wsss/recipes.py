"""Named bundles of settings: every stage of a whole run, fitting together."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType

from pydantic import Field

from napari_wsss.errors import SettingsError
from napari_wsss.settings import (
    ClassifierSettings,
    PDASettings,
    PseudoMaskSettings,
    SegmenterSettings,
    Settings,
)

__all__ = ["RECIPES", "Recipe", "recipe"]


class Recipe(Settings):
    """Settings of the three stages between patch labels and a segmenter."""

    title: str = Field(description="What it is, in one sentence.")
    classifier: ClassifierSettings = Field(description="Phase 1.")
    pseudo_masks: PseudoMaskSettings = Field(description="Pseudo masks.")
    segmenter: SegmenterSettings = Field(description="Phase 2.")


_MLPS = Recipe(
    title="Multi-layer pseudo-supervision as published (Han et al. 2022)",
    classifier=ClassifierSettings(
        depths=(-3, -2, -1), deep_supervision=False, pda=PDASettings(enabled=True)
    ),
    pseudo_masks=PseudoMaskSettings(method="gradcam"),
    segmenter=SegmenterSettings(depth_weights=(0.2, 0.2, 0.6), gate_weight=0.2),
)

_DEFAULT = _MLPS.changed(title="What measured best (benchmarks/accuracy.md)")

#: Every recipe by its name.
RECIPES: Mapping[str, Recipe] = MappingProxyType({"mlps": _MLPS, "default": _DEFAULT})


def recipe(name: str) -> Recipe:
    """Return the settings of all stages that go by `name`.

    Parameters
    ----------
    name
        ``"mlps"``: Progressive Dropout Attention, Grad-CAM at three depths, their losses
        weighted 0.6 / 0.2 / 0.2, and the gate, as Han et al. (2022) published them; on the
        encoder and decoder of the settings' defaults. ``"default"``: what measured best.

    Raises
    ------
    SettingsError
        If there is none of that name.

    Examples
    --------
    >>> recipe("mlps").pseudo_masks.method
    'gradcam'
    """
    if name not in RECIPES:
        near = get_close_matches(name, RECIPES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise SettingsError(f"There is no recipe {name!r}; use {' or '.join(RECIPES)}.{hint}")
    return RECIPES[name]
