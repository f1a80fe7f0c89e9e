"""napari's reader: slides as lazy multiscale images, our results as labels and maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_wsss.panels.support.layers import LayerData, image_layer
from napari_wsss.panels.support.result_layers import own_layer, run_of, unfinished_text

if TYPE_CHECKING:
    import zarr

__all__ = ["get_reader", "read"]

_ZARR_METADATA = ("zarr.json", ".zattrs")

ReaderFunction = Callable[[Any], list[LayerData]]


def get_reader(path: str | PathLike[str] | Sequence[str]) -> ReaderFunction | None:
    """Return `read` if `path` may be a slide or a result, else None.

    Decided by the name alone, and for folders by the presence of zarr metadata, so that
    napari's file dialog stays quick.

    Parameters
    ----------
    path
        A path. A list, which napari gives to ask for a stack, is left to other readers.
    """
    if not isinstance(path, (str, PathLike)):
        return None
    path = Path(path)
    if path.suffix.lower() == ".zarr":
        return read if any((path / name).is_file() for name in _ZARR_METADATA) else None
    from napari_wsss.slides.opening import SLIDE_SUFFIXES

    return read if path.suffix.lower() in SLIDE_SUFFIXES else None


def read(path: str | PathLike[str]) -> list[LayerData]:
    """Open a slide or a result without reading its pixels.

    Parameters
    ----------
    path
        A slide file, or the folder of an OME-Zarr image or result.

    Returns
    -------
    list of LayerData
        The image, then the label images and maps that this package stored with it. Of a result
        that is not finished, what there is so far; a notice says so.

    Raises
    ------
    SlideError
        If it is damaged, or in no format that is known.
    OutputError
        If a correction of a result was cut off, and its folder cannot be written to finish it.
    MissingDependencyError
        If the format needs OpenSlide and that is not installed.
    """
    path = Path(path)
    if path.suffix.lower() == ".zarr":
        return _read_zarr(path)
    return [_slide_layer(path)]


def _slide_layer(source: Any, name: str | None = None) -> LayerData:
    from napari_wsss.slides import open_slide

    slide = open_slide(source, name=name)
    return image_layer(slide.levels, slide.name, slide.mpp)


def _read_zarr(path: Path) -> list[LayerData]:
    import zarr

    from napari_wsss.errors import SlideError
    from napari_wsss.slides.readers.base import FOREIGN_ERRORS
    from napari_wsss.slides.readers.ome_zarr import open_group

    root = open_group(path)
    if isinstance(root, zarr.Array):
        return [_slide_layer(path)]
    name = path.stem.removesuffix(".ome")
    try:
        run = run_of(path)
        layers = [_group_layer(group, name, run, path) for group in _images(root)]
    except FOREIGN_ERRORS as error:
        raise SlideError(
            f"{path} cannot be read ({type(error).__name__}: {error}). "
            "Copy it again from its source."
        ) from error
    if not layers:
        raise SlideError(
            f"{path} is a zarr group without an OME-Zarr image. "
            "Give the folder of an image, for a plate or series one of the folders in it."
        )
    if run is not None and not run.get("complete"):
        _tell(unfinished_text(path))
    return layers


def _tell(text: str) -> None:
    """Show a notice in napari; without a viewer it is printed."""
    from napari.utils.notifications import show_info

    show_info(text)


def _images(root: zarr.Group) -> Iterator[zarr.Group]:
    """Yield the image in `root`, and those that this package stored in groups inside it."""
    from napari_wsss.slides.ngff import KEY

    if "multiscales" in _ome(root):
        yield root
    children = dict(root.groups())
    labels = children.pop("labels", None)
    # Labels of other origin may be instances in 3D: other readers know them better.
    for group in (children, dict(labels.groups()) if labels is not None else {}):
        for _, child in sorted(group.items()):
            if KEY in child.attrs and "multiscales" in _ome(child):
                yield child


def _group_layer(
    group: zarr.Group, name: str, run: Mapping[str, Any] | None, path: Path
) -> LayerData:
    from napari_wsss.slides.ngff import KEY

    if group.basename:
        name = f"{name} {group.basename}"
    layer = own_layer(group, name, run, path) if KEY in group.attrs else None
    return _slide_layer(group, name) if layer is None else layer


def _ome(group: zarr.Group) -> Mapping[str, Any]:
    """Return the OME-Zarr attributes of `group`: under 'ome' since 0.5, at the top before."""
    attributes = dict(group.attrs)
    ome = attributes.get("ome", attributes)
    return ome if isinstance(ome, Mapping) else {}
