"""A labels layer as files hold it: bytes, a class table, µm/px and a place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_wsss.classes import MAX_CLASSES, ClassInfo, ClassTable
from napari_wsss.errors import OutputError

__all__ = ["WrittenLabels"]

_BLOCK_PX = 2048
_NOT_COMPUTED = 255


@dataclass(frozen=True)
class WrittenLabels:
    """What of a labels layer is saved.

    Attributes
    ----------
    pixels
        (H, W) uint8, as lazy as the layer's data: class index + 1, 0 background, 255 not
        computed.
    classes
        Names from the layer's table of features (columns 'index' and 'class'), 'class 1' ...
        where it has none; colours as they are shown.
    mpp
        µm per label pixel; None if the layer is in pixels.
    translation_px
        Centre (y, x) of the first pixel, in label pixels.
    """

    pixels: _Bytes
    classes: ClassTable
    mpp: float | None
    translation_px: tuple[float, float]

    @classmethod
    def of(cls, data: Any, meta: Mapping[str, Any]) -> Self:
        """Make it from the data and the attributes of a layer.

        Raises
        ------
        OutputError
            If the layer is not two-dimensional, is turned, has oblong pixels, or values that
            are no classes.
        DataError
            If names of classes are repeated.
        """
        name = str(meta["name"])
        finest = data[0] if meta.get("multiscale") else data
        if len(finest.shape) != 2:
            raise OutputError(
                f"{name} has {len(finest.shape)} dimensions; labels of a slide have two. Save "
                "the plane you need as a layer of its own first."
            )
        pixels = _Bytes(finest)
        mpp, translation_px = _place(meta, name)
        named = _names(meta)
        classes = _classes(pixels.largest(name, 255 in named), named, meta.get("colormap"))
        return cls(pixels, classes, mpp, translation_px)


class _Bytes:
    """Labels of any integer type, read as uint8."""

    dtype = np.dtype(np.uint8)

    def __init__(self, labels: Any) -> None:
        self._labels = labels
        self.shape = tuple(int(n) for n in labels.shape)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        return np.asarray(self._labels[key]).astype(np.uint8)

    def largest(self, name: str, not_computed: bool) -> int:
        """Return the largest class; OutputError if a value is none.

        Parameters
        ----------
        name
            Of the layer, for the message.
        not_computed
            Whether the layer says that 255 is what was not computed.
        """
        largest = 0
        height, width = self.shape
        for y in range(0, height, _BLOCK_PX):
            for x in range(0, width, _BLOCK_PX):
                block = np.asarray(self._labels[y : y + _BLOCK_PX, x : x + _BLOCK_PX])
                if not_computed:
                    block = np.where(block == _NOT_COMPUTED, 0, block)
                if block.size and (int(block.min()) < 0 or int(block.max()) > MAX_CLASSES):
                    raise OutputError(
                        f"{name} has labels from {block.min()} to {block.max()}; labels that "
                        f"are classes go from 1 to {MAX_CLASSES}. If they count objects, save "
                        "them in another format."
                    )
                largest = max(largest, int(block.max(initial=0)))
        return largest


def _names(meta: Mapping[str, Any]) -> dict[int, str]:
    """Return the name of each label, as far as the layer's features tell it."""
    features = meta.get("features")
    if features is None or not {"index", "class"} <= set(features):
        return {}
    rows = zip(features["index"], features["class"], strict=True)
    return {int(index): str(name).strip() for index, name in rows if str(name).strip()}


def _classes(largest: int, names: Mapping[int, str], colormap: Any) -> ClassTable:
    """Return the table of classes 1 to the largest label that is used or named."""
    named = [index for index in names if 0 < index <= MAX_CLASSES]
    count = max([2, largest, *named])  # a table has two classes at least
    infos = []
    for index, info in enumerate(_default(count).classes, start=1):
        color = _color(colormap, index) or info.color
        infos.append(ClassInfo(names.get(index, info.name), color))
    return ClassTable(tuple(infos))


def _default(count: int) -> ClassTable:
    return ClassTable.from_names([f"class {i}" for i in range(1, count + 1)])


def _color(colormap: Any, label: int) -> str | None:
    """Return the colour that napari shows for a label; None if it shows none."""
    if colormap is None:
        return None
    rgba = np.asarray(colormap.map(label), float).reshape(-1)
    if rgba[3] == 0:
        return None
    red, green, blue = (round(255 * float(v)) for v in rgba[:3])
    return f"#{red:02x}{green:02x}{blue:02x}"


def _place(meta: Mapping[str, Any], name: str) -> tuple[float | None, tuple[float, float]]:
    """Return µm/px and the centre of the first pixel in pixels; OutputError if turned."""
    from napari_wsss.slides.resolution import isotropic_mpp, to_micrometers

    shear = np.asarray(meta.get("shear", 0), float)
    # napari gives the upper triangle of the shear, or all of it.
    sheared = (shear if shear.ndim < 2 else shear - np.eye(len(shear))).any()
    turned = not np.allclose(meta.get("rotate", np.eye(2)), np.eye(2))
    affine = np.asarray(meta.get("affine", np.eye(3)), float)
    if sheared or turned or not np.allclose(affine, np.eye(len(affine))):
        raise OutputError(
            f"{name} is rotated, sheared or has an affine transform, which this format does not "
            "keep. Reset its transform, or save it in another format."
        )
    scale = [float(v) for v in meta.get("scale", (1, 1))]
    translate = [float(v) for v in meta.get("translate", (0, 0))]
    units = [str(unit) for unit in meta.get("units") or ("pixel", "pixel")]
    sizes = [to_micrometers(s, unit) for s, unit in zip(scale, units, strict=True)]
    mpp = isotropic_mpp(sizes[1], sizes[0])
    if mpp is None and None not in sizes:
        raise OutputError(
            f"{name} has pixels of {sizes[1]:g} x {sizes[0]:g} µm. Labels of a slide have "
            "square pixels of 0.01 to 100 µm: correct the scale of the layer."
        )
    return mpp, (translate[0] / scale[0], translate[1] / scale[1])
