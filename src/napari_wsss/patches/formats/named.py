"""Patches whose file names end in their label vector: LUAD-HistoSeg, BCSS-WSSS, WSSS4LUAD.

``train/`` is flat (or the folder itself is); ``val/`` and ``test/`` hold ``img/`` and
``mask/``. Labels of patches without a vector are taken from their masks, at patch level.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError, listed
from napari_wsss.patches.formats.common import (
    CLASSES_FILE,
    LoadOptions,
    image_files,
    labels_from_masks,
    name_of,
    one_mpp,
    read_classes,
    split_folders,
)
from napari_wsss.patches.names import group_of, label_text, mpp_of, parse_label
from napari_wsss.patches.patch_set import Glass, PatchSet, default_glass
from napari_wsss.patches.presets import PRESETS, Preset, choose_preset

__all__ = ["load", "recognise"]

_IMAGE_FOLDERS = ("img", "imgs", "image", "images")
_MASK_FOLDERS = ("mask", "masks")


@dataclass(frozen=True)
class _Entry:
    path: Path
    split: str
    label: str | None
    mask: Path | None


def recognise(folder: Path) -> bool:
    """Whether images with a label vector in their names lie in `folder` or its splits."""
    places = [folder, *split_folders(folder).values()]
    return any(label_text(p.stem) is not None for place in places for p in image_files(place))


def load(folder: Path, options: LoadOptions, preset_key: str | None = None) -> PatchSet:
    """Load a folder of named patches.

    Parameters
    ----------
    folder
        The set, or one flat folder of patches.
    options
        Class table, µm/px and split, where the caller gives them.
    preset_key
        Name of a released set, to overrule the recognition by file names.

    Returns
    -------
    PatchSet
        ``format`` is the released set's name, or 'named'.

    Raises
    ------
    DataError
        If labels are missing, malformed or of the wrong length (all are listed), or the
        classes are not known.
    """
    entries = _entries(folder)
    vectors = {
        entry.path: parse_label(entry.label) for entry in entries if entry.label is not None
    }
    found = [(path.stem, len(vector)) for path, vector in vectors.items() if vector]
    preset = PRESETS[preset_key] if preset_key else choose_preset(found)
    if options.split is not None:
        entries = [entry for entry in entries if entry.split == options.split]
    classes = read_classes(folder, options) or (preset.classes if preset else None)
    if classes is None:
        raise DataError(_unknown_classes(folder, [length for _, length in found]))
    _check(folder, entries, vectors, classes)

    labels = np.zeros((len(entries), len(classes)), bool)
    from_masks: list[int] = []
    for i, entry in enumerate(entries):
        vector = vectors.get(entry.path)
        if vector is not None:
            labels[i] = vector
        else:
            from_masks.append(i)
    if from_masks:
        masks = [mask for i in from_masks if (mask := entries[i].mask) is not None]
        labels[from_masks] = labels_from_masks(masks, classes)

    names = tuple(name_of(entry.path.relative_to(folder).as_posix()) for entry in entries)
    stems = [entry.path.stem for entry in entries]
    return PatchSet(
        paths=tuple(entry.path for entry in entries),
        names=names,
        labels=labels,
        classes=classes,
        mpp=one_mpp([m for stem in stems if (m := mpp_of(stem)) is not None], options, folder),
        groups=tuple(group_of(stem) or name for stem, name in zip(stems, names, strict=True)),
        split=tuple(entry.split for entry in entries),
        glass=_glass(preset, classes),
        masks=tuple(e.mask for e in entries) if any(e.mask for e in entries) else None,
        root=folder,
        format=preset.key if preset else "named",
    )


def _glass(preset: Preset | None, classes: ClassTable) -> Glass:
    return preset.glass if preset else default_glass(classes)


def _entries(folder: Path) -> list[_Entry]:
    """Return the patches of the folder itself or of its splits."""
    splits = split_folders(folder)
    flat = image_files(folder)
    if splits and flat:
        raise DataError(
            f"{folder}: {len(flat)} images lie beside the folders "
            f"{', '.join(p.name for p in splits.values())}. Move them into one of these, or "
            "load one of the folders alone."
        )
    if not splits:
        return [_Entry(path, "train", label_text(path.stem), None) for path in flat]
    entries = []
    for split, place in splits.items():
        images = next((place / n for n in _IMAGE_FOLDERS if (place / n).is_dir()), place)
        masks = next((place / n for n in _MASK_FOLDERS if (place / n).is_dir()), None)
        by_stem = {path.stem: path for path in image_files(masks)} if masks else {}
        entries += [
            _Entry(path, split, label_text(path.stem), by_stem.get(path.stem))
            for path in image_files(images)
        ]
    return entries


def _check(
    folder: Path,
    entries: list[_Entry],
    vectors: dict[Path, list[int] | None],
    classes: ClassTable,
) -> None:
    problems = []
    for entry in entries:
        shown = entry.path.relative_to(folder).as_posix()
        if entry.label is None:
            if entry.mask is None:
                problems.append(f"{shown}: no label vector in the name, and no mask")
            continue
        vector = vectors[entry.path]
        if vector is None:
            problems.append(f"{shown}: [{entry.label}] is not a vector of 0 and 1")
        elif len(vector) != len(classes):
            problems.append(f"{shown}: {len(vector)} labels for {len(classes)} classes")
    if problems:
        raise DataError(
            f"{folder}: {len(problems)} of {len(entries)} patches have no usable label for the "
            f"classes {', '.join(classes.names)}:{listed(problems)}\nA name ends in one 0 or 1 "
            f"per class, for instance 'slide-10-20-{[1] + [0] * (len(classes) - 1)}.png'."
        )


def _unknown_classes(folder: Path, lengths: list[int]) -> str:
    length = Counter(lengths).most_common(1)[0][0] if lengths else 2
    return (
        f"{folder}: the names carry label vectors of length {length}, but what their entries "
        f"mean is not known (no {', '.join(PRESETS)} names). Put a {CLASSES_FILE} with {length} "
        'classes into the folder, in the order of the vectors:\n\n  [[class]]\n  name = "tumour"'
        '\n  color = "#d55e00"\n\n  [[class]]\n  name = "stroma"\n  color = "#009e73"'
    )
