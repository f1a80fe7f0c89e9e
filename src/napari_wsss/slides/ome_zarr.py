"""Creating OME-Zarr 0.5 images and label images, ready to be written block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import zarr
from zarr.codecs import ZstdCodec

import napari_wsss
from napari_wsss.classes import ClassTable
from napari_wsss.errors import OutputError
from napari_wsss.slides import ngff
from napari_wsss.slides.pyramid import Pyramid, location, writing
from napari_wsss.slides.store import create_store
from napari_wsss.slides.stored import StoredLabels, open_labels, open_pyramid

__all__ = [
    "Channels",
    "Placement",
    "StoredLabels",
    "create_labels",
    "create_pyramid",
    "create_store",
    "level_count",
    "open_labels",
    "open_pyramid",
]


class Placement(TypedDict, total=False):
    """The keywords of `create_pyramid` that images and label images of one place share.

    Attributes
    ----------
    mpp
        µm/px of the finest level; None, as by default, writes no unit.
    translation_px
        Centre (y, x) of the first pixel, in pixels of the finest level; (0, 0) by default.
    chunk
        Side of a chunk in px, 512 by default.
    compression_level
        Of zstd, 1 to 22; 3 by default.
    levels
        Number of levels; by default until the longer side fits one chunk.
    source_image
        Relative path of the image that is labelled.
    """

    mpp: float | None
    translation_px: tuple[float, float]
    chunk: int
    compression_level: int
    levels: int | None
    source_image: str | None


@dataclass(frozen=True)
class Channels:
    """The channels of an image of shape (C, H, W).

    Attributes
    ----------
    names
        One per channel.
    colors
        One ``"#rrggbb"`` per channel; white by default.
    per_chunk
        3 for RGB; 1 where channels are looked at one by one.
    """

    names: Sequence[str]
    colors: Sequence[str] | None = None
    per_chunk: int = 1


def level_count(height: int, width: int, chunk: int) -> int:
    """Return how many levels halve an image until its longer side fits one chunk."""
    count, side = 1, max(height, width)
    while side > chunk:
        side, count = -(-side // 2), count + 1
    return count


def create_pyramid(
    target: str | Path | zarr.Group,
    shape: Sequence[int],
    *,
    dtype: str = "uint8",
    axes: Sequence[str] = ("y", "x"),
    fill_value: float = 0,
    name: str = "image",
    classes: ClassTable | None = None,
    channels: Channels | None = None,
    overwrite: bool = False,
    **place: Unpack[Placement],
) -> Pyramid:
    """Create an empty OME-Zarr 0.5 image with levels that halve.

    Parameters
    ----------
    target
        Folder to create, or an empty zarr group.
    shape
        (H, W) or (C, H, W) in px.
    dtype
        Type of the pixels.
    axes
        ``("y", "x")`` or ``("c", "y", "x")``.
    fill_value
        Value of chunks that are not written.
    name
        Name of the image.
    classes
        Makes it a label image with these names and colours.
    channels
        Names and colours of the channels, and how many share a chunk.
    overwrite
        Replace an earlier result of this package at that path.
    place
        Where its pixels lie and how they are stored, as in `Placement`.

    Returns
    -------
    Pyramid
        With zarr arrays ready to be written.

    Raises
    ------
    OutputError
        If the target exists or cannot be written, or shape and axes do not match.
    """
    shape, axes = tuple(int(n) for n in shape), tuple(axes)
    if axes not in (("y", "x"), ("c", "y", "x")) or len(shape) != len(axes) or min(shape) < 1:
        raise OutputError(f"An image of shape {shape} cannot be stored with the axes {axes}.")
    if not isinstance(target, zarr.Group):
        target = create_store(target, overwrite=overwrite)
    chunk = place.get("chunk", 512)
    count = place.get("levels") or level_count(shape[-2], shape[-1], chunk)
    image = ngff.multiscale(
        axes,
        [str(i) for i in range(count)],
        name,
        place.get("mpp"),
        place.get("translation_px", (0.0, 0.0)),
    )
    own: dict[str, Any] = {"version": napari_wsss.__version__}
    if classes is not None:
        ome = ngff.label_attributes(image, classes, place.get("source_image"))
        own["classes"] = classes.to_dict()
    else:
        ome = ngff.image_attributes(image, None if channels is None else _look(channels, dtype))
    per_chunk = 1 if channels is None else channels.per_chunk
    codec = ZstdCodec(level=place.get("compression_level", 3), checksum=True)
    with writing(location(target)):
        arrays = _create_arrays(
            target,
            count,
            shape,
            chunks=(*(min(per_chunk, n) for n in shape[:-2]), chunk, chunk),
            dtype=dtype,
            compressors=codec,
            fill_value=fill_value,
            dimension_names=axes,
        )
        target.attrs.update({"ome": ome, ngff.KEY: {**_own(target), **own}})
    return Pyramid(target, arrays)


def _look(channels: Channels, dtype: str) -> dict[str, Any]:
    """Return what viewers are told of names, colours and values of channels."""
    colors = channels.colors or ["#ffffff"] * len(channels.names)
    return ngff.omero(channels.names, colors, 255 if dtype == "uint8" else 1)


def _create_arrays(
    group: zarr.Group, count: int, shape: tuple[int, ...], **options: Any
) -> list[zarr.Array]:
    """Create the arrays of `count` levels, each half as large as the one before."""
    try:
        return [
            group.create_array(
                str(level),
                shape=(*shape[:-2], *(-(-n // 2**level) for n in shape[-2:])),
                # Stored even if all equal to the fill value, so that a chunk that is missing
                # was not written.
                config={"write_empty_chunks": True},
                **options,
            )
            for level in range(count)
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise OutputError(f"{location(group)}: the image cannot be created: {error}") from error


def create_labels(
    image: zarr.Group,
    name: str,
    shape: Sequence[int],
    *,
    classes: ClassTable,
    fill_value: int = 255,
    **place: Unpack[Placement],
) -> Pyramid:
    """Create a label image at ``labels/<name>`` of an OME-Zarr image.

    Parameters
    ----------
    image
        Group of the image, open for writing. The label image gets as many levels as it.
    name
        Name of the label image, one path element.
    shape
        (H, W) in px.
    classes, fill_value, place
        As in `create_pyramid`.

    Raises
    ------
    OutputError
        If there is one of that name, or it cannot be written.
    """
    where = f"{location(image)}/labels/{name}"
    if not name or "/" in name or name.startswith((".", "__")):
        raise OutputError(f"{name!r} cannot be the name of a label image.")
    with writing(where):
        labels = image.require_group("labels")
        if name in labels:
            raise OutputError(f"{where} exists already. Choose another name.")
        known = _ome(labels).get("labels", [])
        group = labels.create_group(name)
    multiscales = _ome(image).get("multiscales")
    if multiscales:  # readers pair the levels of both, and validation asks for as many
        place.setdefault("levels", len(multiscales[0]["datasets"]))
        place.setdefault("source_image", "../../")
    pyramid = create_pyramid(
        group, shape, classes=classes, fill_value=fill_value, name=name, **place
    )
    with writing(where):  # listed last, so that a reader never finds one half made
        labels.attrs.update({"ome": {"version": "0.5", "labels": [*known, name]}})
    return pyramid


def _own(group: zarr.Group) -> dict[str, Any]:
    value = dict(group.attrs).get(ngff.KEY)
    return dict(value) if isinstance(value, Mapping) else {}


def _ome(group: zarr.Group) -> dict[str, Any]:
    value = dict(group.attrs).get("ome")
    return dict(value) if isinstance(value, Mapping) else {}
