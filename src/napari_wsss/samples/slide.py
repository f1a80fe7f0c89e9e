"""The synthetic slide and how it is written to files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_wsss.classes import IGNORE, ClassTable
from napari_wsss.errors import SettingsError
from napari_wsss.files import output_error
from napari_wsss.samples.layout import draw_layout
from napari_wsss.samples.noise import Canvas
from napari_wsss.samples.stain import scan
from napari_wsss.samples.tissues import draw_tissues

__all__ = ["SyntheticSlide", "synthetic_slide"]

_CLASSES = ClassTable.from_names(
    ["tumour", "stroma", "lymphocytes", "necrosis"], values=[0, 1, 2, 3], ignore=[4]
)
_MIN_PX, _MAX_PX = 64, 16_384
_MIN_MPP, _MAX_MPP = 0.2, 4.0


@dataclass(frozen=True)
class SyntheticSlide:
    """A drawn H&E slide and the truth it was drawn from.

    Attributes
    ----------
    image
        (H, W, 3) uint8 RGB.
    truth
        (H, W) uint8 class indices, 255 for glass.
    classes
        Tumour, stroma, lymphocytes and necrosis, with the mask values of `save`.
    mpp
        Micrometres per pixel.
    """

    image: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    classes: ClassTable
    mpp: float

    def save(self, folder: str | Path) -> None:
        """Write ``slide.tif``, ``truth.png`` and ``classes.toml`` into `folder`.

        ``slide.tif`` is a tiled OME-TIFF with its µm/px; ``truth.png`` is a palette image
        with the mask values of ``classes.toml``, 4 for glass.

        Parameters
        ----------
        folder
            Made if missing. Files of these names are replaced.

        Raises
        ------
        OutputError
            If the folder cannot be made or written to.
        """
        import tifffile
        from PIL import Image

        folder = Path(folder)
        mask = np.where(self.truth == IGNORE, self.classes.ignore[0], self.truth)
        picture = Image.fromarray(mask.astype(np.uint8))
        # A palette makes a grey image one of mode P; the pixel values stay.
        picture.putpalette([*self.classes.rgb.reshape(-1).tolist(), 255, 255, 255])
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(
                folder / "slide.tif",
                self.image,
                ome=True,
                photometric="rgb",
                tile=(256, 256),
                compression="zlib",
                resolution=(1e4 / self.mpp, 1e4 / self.mpp),
                resolutionunit="CENTIMETER",
                metadata={
                    "axes": "YXS",
                    "PhysicalSizeX": self.mpp,
                    "PhysicalSizeXUnit": "µm",
                    "PhysicalSizeY": self.mpp,
                    "PhysicalSizeYUnit": "µm",
                },
            )
            picture.save(folder / "truth.png")
            self.classes.write(folder / "classes.toml")
        except OSError as error:
            raise output_error(folder, error) from error


def synthetic_slide(
    shape: tuple[int, int] = (2048, 2048), *, seed: int = 0, mpp: float = 1.0
) -> SyntheticSlide:
    """Draw an H&E-like slide whose truth is known.

    The same arguments give the same slide. Sizes of nuclei, fibres and tissue areas are
    given in micrometres, so `mpp` sets how large they appear.

    Parameters
    ----------
    shape
        (H, W) in pixels, 64 to 16384 each. From about 256 µm a side all classes occur.
    seed
        Seed of every random choice, 0 or more.
    mpp
        Micrometres per pixel, 0.2 to 4; 1 is about a 10x objective.

    Returns
    -------
    SyntheticSlide
        Image, truth, classes and µm/px.

    Raises
    ------
    SettingsError
        If an argument is out of bounds.

    Examples
    --------
    >>> slide = synthetic_slide((256, 256), seed=1)
    >>> slide.image.shape, slide.classes.names
    ((256, 256, 3), ('tumour', 'stroma', 'lymphocytes', 'necrosis'))
    """
    if len(shape) != 2 or not all(_MIN_PX <= n <= _MAX_PX for n in shape):
        raise SettingsError(
            f"A synthetic slide of {shape} pixels cannot be drawn. Give height and width, "
            f"each from {_MIN_PX} to {_MAX_PX}."
        )
    if not _MIN_MPP <= mpp <= _MAX_MPP:
        raise SettingsError(
            f"A synthetic slide at {mpp} µm/px cannot be drawn. "
            f"Choose {_MIN_MPP} to {_MAX_MPP} µm/px."
        )
    if seed < 0:
        raise SettingsError(f"Seed {seed} is negative. Choose 0 or more.")
    canvas = Canvas((int(shape[0]), int(shape[1])), float(mpp), np.random.default_rng(seed))
    truth = draw_layout(canvas)
    image = scan(canvas, *draw_tissues(canvas, truth))
    return SyntheticSlide(image, truth, _CLASSES, float(mpp))
