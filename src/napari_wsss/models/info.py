"""What a model must say of itself so that its file is enough to use it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from napari_wsss import __version__
from napari_wsss.classes import ClassTable
from napari_wsss.settings import EncoderSettings

__all__ = ["ModelInfo"]


class ModelInfo(BaseModel):
    """The header of a checkpoint.

    Attributes
    ----------
    kind
        ``"classifier"`` or ``"segmenter"``.
    encoder
        With `upscale` resolved to a number.
    architecture
        Remaining arguments of the network (depths, decoder, ...).
    classes
        The class table as plain data.
    mpp
        µm/px of the training patches; None if it was not known.
    patch_size_px
        Side of a training patch, which is also the gate's window.
    mean, std
        Normalisation of the input, values 0 to 1; None takes the encoder's, and a model
        always says it.
    supervision
        ``"patch labels"``, ``"pseudo masks"``, ``"pseudo masks and 40 true masks"`` (of
        corrected patches) or ``"true masks"``.
    training
        Settings of the run that made the weights.
    metrics
        Its validation metrics (from patch labels only, in a weakly supervised run).
    temperature
        Logits are divided by it before they become probabilities (Guo et al. 2017); 1 in
        models that were not calibrated. It never changes which class wins.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["classifier", "segmenter"]
    encoder: EncoderSettings
    architecture: dict[str, Any] = Field(default_factory=dict)
    classes: dict[str, Any]
    mpp: float | None = None
    patch_size_px: int = Field(gt=0)
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    supervision: str = Field(
        "patch labels",
        pattern=r"^(patch labels|pseudo masks( and \d+ true masks)?|true masks)$",
    )
    training: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)
    temperature: float = Field(1.0, gt=0, allow_inf_nan=False)
    seed: int = 0
    package_version: str = __version__
    format_version: Literal[1] = 1

    @field_validator("classes")
    @classmethod
    def _classes_valid(cls, value: dict[str, Any]) -> dict[str, Any]:
        ClassTable.from_dict(value, "the model's class table")
        return value

    @model_serializer(mode="wrap")
    def _without_temperature_one(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # So that files and records are those of versions that know no temperature.
        data: dict[str, Any] = plain(self)
        if self.temperature == 1:
            del data["temperature"]
        return data

    @property
    def class_table(self) -> ClassTable:
        """The classes in the order of the network's outputs."""
        return ClassTable.from_dict(self.classes)

    @property
    def upscale(self) -> float:
        """Factor by which the network enlarges its input."""
        return 1.0 if self.encoder.upscale == "auto" else float(self.encoder.upscale)
