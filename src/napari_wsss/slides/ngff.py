"""OME-Zarr 0.5 metadata, made and checked with ome-zarr-models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from napari_wsss.classes import ClassInfo, ClassTable

__all__ = ["KEY", "class_table", "image_attributes", "label_attributes", "multiscale", "omero"]

#: Attribute of every group that this package wrote.
KEY = "napari_wsss"


def multiscale(
    axes: Sequence[str],
    paths: Sequence[str],
    name: str,
    mpp: float | None,
    translation_px: tuple[float, float],
) -> Any:
    """Return the `Multiscale` model of levels that halve, with pixel centres in register.

    Parameters
    ----------
    axes
        ``("y", "x")`` or ``("c", "y", "x")``.
    paths
        Names of the arrays, finest first.
    name
        Name of the image.
    mpp
        µm/px of the finest level; None gives pixels without a unit.
    translation_px
        Position (y, x) of the first pixel's centre, in pixels of the finest level.
    """
    from ome_zarr_models.v05.axes import Axis
    from ome_zarr_models.v05.multiscales import Dataset, Multiscale

    unit = None if mpp is None else "micrometer"
    pixel = 1.0 if mpp is None else mpp
    channels = len(axes) - 2
    models = [
        Axis(name=a, type="channel") if a == "c" else Axis(name=a, type="space", unit=unit)
        for a in axes
    ]
    datasets = []
    for level, path in enumerate(paths):
        factor = 2.0**level
        # The first coarse pixel is centred between the first `factor` fine ones.
        shift = [(t + (factor - 1) / 2) * pixel for t in translation_px]
        datasets.append(
            Dataset.build(
                path=path,
                scale=[1.0] * channels + [factor * pixel] * 2,
                translation=[0.0] * channels + shift,
            )
        )
    return Multiscale(axes=models, datasets=tuple(datasets), name=name)


def omero(names: Sequence[str], colors: Sequence[str], maximum: float) -> dict[str, Any]:
    """Return rendering settings: one channel per name, shown from 0 to `maximum`."""
    from ome_zarr_models.common.omero import Channel, Omero, Window

    channels = [
        Channel(
            color=color.lstrip("#"),
            window=Window(min=0, max=maximum, start=0, end=maximum),
            label=name,
            active=True,
        )
        for name, color in zip(names, colors, strict=True)
    ]
    return Omero(channels=channels).model_dump(mode="json")


def image_attributes(image: Any, rendering: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the ``ome`` attribute of an image."""
    from ome_zarr_models.v05.image import ImageAttrs

    extra = {} if rendering is None else {"omero": dict(rendering)}
    model = ImageAttrs(version="0.5", multiscales=[image], **extra)
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def label_attributes(image: Any, classes: ClassTable, source: str | None) -> dict[str, Any]:
    """Return the ``ome`` attribute of a label image: value 0 background, index + 1 a class.

    Parameters
    ----------
    image
        The `Multiscale` model.
    classes
        Names and colours; 0 and 255 (not computed) are transparent.
    source
        Relative path of the image that is labelled, None if it is not stored beside.
    """
    from ome_zarr_models.v05.image_label import ImageLabelAttrs
    from ome_zarr_models.v05.image_label_types import Color, Label, Property, Source

    rows = [(0, "background", (0, 0, 0, 0))]
    rows += [(i + 1, c.name, (*c.rgb, 255)) for i, c in enumerate(classes.classes)]
    rows += [(255, "not computed", (0, 0, 0, 0))]
    label = Label(
        version="0.5",
        colors=tuple(Color(label_value=v, rgba=rgba) for v, _, rgba in rows),
        properties=tuple(Property(label_value=v, name=name) for v, name, _ in rows),
        source=None if source is None else Source(image=source),
    )
    model = ImageLabelAttrs(version="0.5", multiscales=[image], image_label=label)
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def class_table(attributes: Mapping[str, Any]) -> ClassTable | None:
    """Return the classes that the attributes of a label group describe, None if none.

    Raises
    ------
    DataError
        If they describe classes that are not a valid table.
    """
    own = attributes.get(KEY)
    if isinstance(own, Mapping) and isinstance(own.get("classes"), Mapping):
        return ClassTable.from_dict(own["classes"], "class table of the label image")
    label = attributes.get("ome", {}).get("image-label") or {}
    names = {p.get("label-value"): p.get("name") for p in label.get("properties") or ()}
    infos = []
    for color in sorted(label.get("colors") or (), key=lambda c: c["label-value"]):
        value = color["label-value"]
        if 0 < value < 255:
            red, green, blue = color.get("rgba", (128, 128, 128))[:3]
            name = names.get(value) or f"class {value}"
            infos.append(ClassInfo(str(name), f"#{red:02x}{green:02x}{blue:02x}"))
    return ClassTable(tuple(infos)) if len(infos) > 1 else None
