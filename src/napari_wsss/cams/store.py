"""Pseudo masks on disk: a folder of PNG files that any viewer opens.

``depth-1/`` ... ``depth-D/`` (shallow to deep) hold class indices as palette images in the
classes' colours, 255 where a pixel is no class; ``agreement/`` holds how certain each pixel is,
times 255: the share of depths that agree with the deepest, or the joint head's probability;
``classes.toml`` describes the values; ``encoder.safetensors`` is the encoder of the model that
made them, for a segmenter to begin with;
``pseudo_masks.json`` says how they were made and whether they are complete.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_wsss.classes import IGNORE, ClassTable
from napari_wsss.errors import DataError
from napari_wsss.files import write_atomic

__all__ = ["ENCODER", "GLASS_IS_CERTAIN", "RECORD", "PseudoMaskWriter", "PseudoMasks"]

RECORD = "pseudo_masks.json"
ENCODER = "encoder.safetensors"
#: In the record: glass is stored as certain, which earlier versions did not do.
GLASS_IS_CERTAIN = "glass_is_certain"


@dataclass(frozen=True)
class PseudoMasks:
    """Complete pseudo masks of a patch set; make them with `generate_pseudo_masks`.

    Parameters
    ----------
    folder
        Where they are.

    Raises
    ------
    DataError
        If the folder holds none, or an unfinished set.
    """

    folder: Path
    supervision: ClassVar[Literal["pseudo masks"]] = "pseudo masks"

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))
        if not self.record.get("complete"):
            raise DataError(
                f"The pseudo masks in {self.folder} are not finished. Run pseudo-masks again "
                "with the same settings to go on."
            )

    @property
    def record(self) -> dict[str, Any]:
        """What ``pseudo_masks.json`` says."""
        return read_record(self.folder)

    @property
    def classes(self) -> ClassTable:
        """The classes; mask values are their indices."""
        return ClassTable.read(self.folder / "classes.toml")

    @property
    def depths(self) -> int:
        """Number of masks per patch, D."""
        return int(self.record["depths"])

    @property
    def certainty(self) -> float:
        """Pixels of patches of several classes that are less certain have none; 0: all have."""
        return float(self.record.get("settings", {}).get("certainty", 0))

    @property
    def fingerprint(self) -> str:
        """Digest of what the masks were made from."""
        return str(self.record["fingerprint"])

    @property
    def made_by(self) -> Literal["classifier", "segmenter"]:
        """The kind of model that made them: ``"segmenter"`` in a second round."""
        return "segmenter" if "segmenter" in self.record else "classifier"

    @property
    def encoder_weights(self) -> Path | None:
        """Weights of the encoder of the model that made them; None in folders without them."""
        path = self.folder / ENCODER
        return path if path.is_file() else None

    @property
    def encoder_name(self) -> str | None:
        """The name of that encoder, None if the record does not say it."""
        name = self.record.get(self.made_by, {}).get("encoder", {}).get("name")
        return None if name is None else str(name)

    def targets(self, name: str) -> NDArray[np.uint8]:
        """Return (D, H, W) class indices of the patch called `name`, shallow to deep.

        Raises
        ------
        DataError
            If there are none for this patch.
        """
        return np.stack([self._read(f"depth-{d + 1}", name) for d in range(self.depths)])

    def agreement(self, name: str) -> NDArray[np.float32]:
        """Return (H, W), 0 to 1: how certain each pixel is.

        It is the share of depths that agree with the deepest or, of masks of the joint head or
        a segmenter, the probability of the class among those of the label. Glass is certain.
        """
        return self._read("agreement", name).astype(np.float32) / np.float32(255)

    def unsure(self, name: str) -> NDArray[np.bool_]:
        """Return (H, W): pixels that are tissue, but too uncertain for a class.

        Raises
        ------
        DataError
            If there are no masks of this patch, or they do not fit together.
        """
        certainty, masks = self._read("agreement", name), self.targets(name)
        if certainty.shape != masks.shape[1:]:
            (h, w), (height, width) = masks.shape[1:], certainty.shape
            raise DataError(
                f"The mask of patch {name!r} has {w} x {h} px, the image of how certain it is "
                f"{width} x {height}. Make the pseudo masks again."
            )
        if not self.record.get(GLASS_IS_CERTAIN):
            return np.zeros(certainty.shape, bool)
        return (masks == IGNORE).all(0) & (certainty < 255)

    def has(self, name: str) -> bool:
        """Whether the patch called `name` has masks."""
        return _has(self.folder, self.depths, name)

    def _read(self, kind: str, name: str) -> NDArray[np.uint8]:
        path = self.folder / kind / f"{name}.png"
        try:
            with Image.open(path) as image:
                pixels = np.asarray(image)
        except FileNotFoundError:
            raise DataError(
                f"{self.folder} has no pseudo mask of patch {name!r}. Make the pseudo masks "
                "from the same patch set."
            ) from None
        except (
            OSError,
            SyntaxError,
            ValueError,
            zlib.error,
            struct.error,
            Image.DecompressionBombError,
        ) as error:
            raise DataError(f"{path} cannot be read: {error}. Make it again.") from error
        if pixels.ndim != 2 or pixels.dtype != np.uint8:
            raise DataError(f"{path} is not a mask of one byte per pixel. Make it again.")
        return pixels


class PseudoMaskWriter:
    """Writes the files of one patch after the other.

    Parameters
    ----------
    folder
        Where to.
    classes
        For the palette.
    depths
        Masks per patch, D.
    """

    def __init__(self, folder: Path, classes: ClassTable, depths: int):
        self.folder = folder
        self.depths = depths
        palette = np.full((256, 3), 255, np.uint8)
        palette[: len(classes)] = classes.rgb
        self._palette = palette.tobytes()

    def has(self, name: str) -> bool:
        """Whether all files of the patch called `name` are there."""
        return _has(self.folder, self.depths, name)

    def write(self, name: str, masks: NDArray[np.uint8], agreement: NDArray[np.uint8]) -> None:
        """Write (D, H, W) class indices and (H, W) agreement times 255."""
        for d, mask in enumerate(masks):
            image = Image.fromarray(mask, mode="P")
            image.putpalette(self._palette)
            self._save(f"depth-{d + 1}", name, image)
        self._save("agreement", name, Image.fromarray(agreement))

    def _save(self, kind: str, name: str, image: Image.Image) -> None:
        buffer = io.BytesIO()
        image.save(buffer, "png", compress_level=3)
        write_atomic(self.folder / kind / f"{name}.png", buffer.getvalue(), durable=False)


def _has(folder: Path, depths: int, name: str) -> bool:
    kinds = [*(f"depth-{d + 1}" for d in range(depths)), "agreement"]
    return all((folder / kind / f"{name}.png").is_file() for kind in kinds)


def read_record(folder: Path) -> dict[str, Any]:
    """Return the parsed ``pseudo_masks.json`` of `folder`; DataError if there is none."""
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{folder} holds no pseudo masks. Make them with: napari-wsss pseudo-masks DATASET "
            "--classifier MODEL --out DIR"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not isinstance(record, dict) or not {"depths", "fingerprint"} <= set(record):
        raise DataError(f"{path} is not a record of pseudo masks.")
    return record


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write ``pseudo_masks.json``, all or nothing."""
    write_atomic(folder / RECORD, json.dumps(record, indent=1).encode())
