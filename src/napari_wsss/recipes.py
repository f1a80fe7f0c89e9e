"""Named bundles of settings: every stage of a whole run, fitting together."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from pydantic import Field

from napari_wsss.errors import SettingsError
from napari_wsss.settings import (
    ClassifierSettings,
    PDASettings,
    PseudoMaskSettings,
    SegmenterSettings,
    Settings,
    TeacherSettings,
)

__all__ = ["RECIPES", "RECIPE_STAGES", "Recipe", "recipe"]

#: The stages that a recipe has settings of.
RECIPE_STAGES = ("classifier", "pseudo_masks", "segmenter")


class Recipe(Settings):
    """Settings of the three stages between patch labels and a segmenter."""

    title: str = Field(description="What it is, in one sentence.")
    classifier: ClassifierSettings = Field(description="Phase 1.")
    pseudo_masks: PseudoMaskSettings = Field(description="Pseudo masks.")
    segmenter: SegmenterSettings = Field(description="Phase 2.")
    rounds: int = Field(
        1,
        ge=1,
        le=10,
        description="How often pseudo masks are made and learnt from: after the first time they "
        "are those of the segmenter of the round before.",
    )

    def with_values(self, stage: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a stage as plain data with `values` put over them.

        Parameters
        ----------
        stage
            One of `RECIPE_STAGES`.
        values
            What differs from the recipe; a nested table needs only what differs in it.
        """
        settings: Settings = getattr(self, stage)
        return _merged(settings.model_dump(mode="json"), values)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        inner = result.get(key)
        if isinstance(inner, Mapping) and isinstance(value, Mapping):
            result[key] = _merged(inner, value)
        else:
            result[key] = value
    return result


_MLPS = Recipe(
    title="Multi-layer pseudo-supervision as published (Han et al. 2022)",
    classifier=ClassifierSettings(
        depths=(-3, -2, -1),
        deep_supervision=False,
        joint_head=False,
        overlaps=False,
        choose_by="labels",
        pda=PDASettings(enabled=True),
    ),
    pseudo_masks=PseudoMaskSettings(
        method="gradcam", flips=False, scales=(1.0,), certainty=0.0, overlaps=False
    ),
    segmenter=SegmenterSettings(
        start_from="encoder",
        depth_weights=(0.2, 0.2, 0.6),
        gate_weight=0.2,
        calibrate_gate=False,
        overlaps=False,
        teacher=TeacherSettings(decay=0.0, relabel_from=1.0, align=0.0, label_uncertain=False),
        choose_by="targets",
    ),
)

#: What the settings begin with.
_DEFAULT = Recipe(
    title="What measured best (benchmarks/accuracy.md)",
    classifier=ClassifierSettings(),
    # What is 'auto' stays so: it follows the method, should that be overruled.
    pseudo_masks=PseudoMaskSettings(method="joint"),
    segmenter=SegmenterSettings(),
)

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
