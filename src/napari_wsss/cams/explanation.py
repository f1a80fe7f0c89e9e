"""One image explained: class maps of every depth, and the masks that follow from them.

Nothing here needs torch: a viewer shows explanations that another process makes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_wsss.classes import IGNORE, ClassTable
from napari_wsss.errors import DataError
from napari_wsss.evaluation.metrics import ConfusionMatrix, scores

__all__ = ["FUSED", "Explanation"]

#: Index of the fused map among the maps of an `Explanation`.
FUSED = -1


@dataclass(frozen=True, eq=False)
class Explanation:
    """What a classifier sees in one image of (H, W) pixels, at D depths.

    Attributes
    ----------
    image
        (H, W, 3) uint8.
    classes
        The K classes.
    label
        (K,) bool: the classes that may occur in the masks.
    probabilities
        (K,) float: how probable each class is anywhere in the image. Images larger than a
        training patch are looked at in windows of its size, and the best one counts.
    maps
        (D + 1, K, H, W) float32, 0 to 1, shallow to deep and last the fused map, scaled by
        `napari_wsss.cams.scaled`: one scale for all classes of a depth, so where two of the
        label's classes compete, the brighter wins.
    masks
        (D + 1, H, W) uint8: index of the class that wins at each depth, and in the fused map.
        The first D are the pseudo masks before threshold and glass.
    strength
        (D + 1, H, W) float32: the winner's map; 1 everywhere if the label has one class only,
        which needs no map.
    agreement
        (H, W) float32: share of the depths that agree with the deepest; of the joint head, the
        probability of the winner among the label's classes.
    glass
        (H, W) bool: pixels that are no tissue, and no class.
    """

    image: NDArray[np.uint8]
    classes: ClassTable
    label: NDArray[np.bool_]
    probabilities: NDArray[np.float32]
    maps: NDArray[np.float32]
    masks: NDArray[np.uint8]
    strength: NDArray[np.float32]
    agreement: NDArray[np.float32]
    glass: NDArray[np.bool_]

    @property
    def depths(self) -> int:
        """Number of depths, D."""
        return len(self.maps) - 1

    def pseudo_mask(
        self, depth: int = FUSED, threshold: float = 0.0, certainty: float = 0.0
    ) -> NDArray[np.uint8]:
        """Return the pseudo mask of one depth, as it is written for a data set.

        Parameters
        ----------
        depth
            0 (shallowest) to D - 1; D or `FUSED` for that of the fused map.
        threshold
            Pixels whose winning map is below it are no class; 0 keeps all.
        certainty
            Pixels less certain than this are no class, as by the setting of that name.

        Returns
        -------
        NDArray[np.uint8]
            (H, W) class indices, 255 where a pixel is no class.
        """
        # One pass over the image: a slider waits for it.
        kept = self.strength[depth] >= threshold
        kept &= ~self.glass
        if certainty > 0:
            kept &= self.certain(certainty)
        return np.where(kept, self.masks[depth], np.uint8(IGNORE))

    def certain(self, certainty: float) -> NDArray[np.bool_]:
        """Return (H, W): pixels whose `agreement` is at least `certainty`, 0 to 1.

        Both are rounded to 255 steps, which is how certainties are written.
        """
        return np.round(self.agreement * np.float32(255)) >= round(certainty * 255)

    def miou(
        self, truth: NDArray[np.uint8], threshold: float = 0.0, certainty: float = 0.0
    ) -> list[float]:
        """Return the mean IoU of the mask of each depth and of the fused one against a mask.

        Parameters
        ----------
        truth
            (H, W) class indices, 255 for pixels that do not count.
        threshold, certainty
            As in `pseudo_mask`; pixels without class do not count.

        Raises
        ------
        DataError
            If the mask has another size than the image.
        """
        if truth.shape != self.image.shape[:2]:
            raise DataError(
                f"The mask has {truth.shape[1]} x {truth.shape[0]} px, the image "
                f"{self.image.shape[1]} x {self.image.shape[0]}. They must be equal."
            )
        found = []
        for depth in range(len(self.masks)):
            mask = self.pseudo_mask(depth, threshold, certainty)
            matrix = ConfusionMatrix(len(self.classes))
            matrix.update(np.where(mask == IGNORE, IGNORE, truth), mask)
            found.append(scores(matrix).miou)
        return found
