"""One image explained: class maps of every depth, and the masks that follow from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from napari_wsss.cams.maps import fuse, scaled
from napari_wsss.cams.masks import MaskNetwork, agreement, masks_from_maps
from napari_wsss.classes import IGNORE, ClassTable
from napari_wsss.errors import DataError
from napari_wsss.evaluation.metrics import ConfusionMatrix, scores
from napari_wsss.jobs import CancelToken, Event, Job, Progress, run_job
from napari_wsss.models import Classifier
from napari_wsss.models.device import choose_device
from napari_wsss.patches.patch_set import Glass, default_glass
from napari_wsss.settings import InferenceSettings, PseudoMaskSettings
from napari_wsss.slides import glass_mask

__all__ = ["FUSED", "LARGEST_PX", "SMALLEST_SIDE_PX", "Explainer", "Explanation"]

#: Index of the fused map among the maps of an `Explanation`.
FUSED = -1
#: Larger images are refused: their maps do not fit into memory in one piece.
LARGEST_PX = 2048 * 2048
#: Smaller images leave too few pixels at the deepest layer.
SMALLEST_SIDE_PX = 16


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
        (H, W) float32: share of the depths that agree with the deepest.
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

    def pseudo_mask(self, depth: int = FUSED, threshold: float = 0.0) -> NDArray[np.uint8]:
        """Return the pseudo mask of one depth, as it is written for a data set.

        Parameters
        ----------
        depth
            0 (shallowest) to D - 1; D or `FUSED` for that of the fused map.
        threshold
            Pixels whose winning map is below it are no class; 0 keeps all.

        Returns
        -------
        NDArray[np.uint8]
            (H, W) class indices, 255 where a pixel is no class.
        """
        # One pass over the image: a slider waits for it.
        kept = self.strength[depth] >= threshold
        kept &= ~self.glass
        return np.where(kept, self.masks[depth], np.uint8(IGNORE))

    def miou(self, truth: NDArray[np.uint8], threshold: float = 0.0) -> list[float]:
        """Return the mean IoU of the mask of each depth and of the fused one against a mask.

        Parameters
        ----------
        truth
            (H, W) class indices, 255 for pixels that do not count.
        threshold
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
            mask = self.pseudo_mask(depth, threshold)
            matrix = ConfusionMatrix(len(self.classes))
            matrix.update(np.where(mask == IGNORE, IGNORE, truth), mask)
            found.append(scores(matrix).miou)
        return found


class Explainer:
    """A classifier ready to explain images, one after the other.

    Parameters
    ----------
    classifier
        The model; a copy of it is prepared once.
    settings
        Method, flips, glass and precision; `threshold` is chosen afterwards.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` ...

    Raises
    ------
    ModelError
        If the device cannot be used.
    """

    def __init__(
        self,
        classifier: Classifier,
        settings: PseudoMaskSettings | None = None,
        *,
        device: str = "auto",
    ):
        self.info = classifier.info
        # With it, the network would leave out pixels on its own.
        self.settings = (settings or PseudoMaskSettings()).changed(threshold=0.0)
        self._network = MaskNetwork(
            classifier, self.settings, choose_device(device), CancelToken()
        )

    def explain(
        self,
        image: NDArray[np.uint8],
        *,
        name: str = "image",
        label: NDArray[np.bool_] | None = None,
        glass: Glass | None = None,
        on_event: Callable[[Event], object] | None = None,
        cancel: CancelToken | None = None,
    ) -> Explanation:
        """Explain one image.

        Lower depths weigh their features by gradients pooled over the image, so a region is
        not explained as its parts would be; the deepest map is the same.

        Parameters
        ----------
        image
            (H, W, 3) uint8 at the model's µm/px, up to 2048 x 2048 px in area. Whole slides
            are for `map_slide`.
        name
            For messages.
        label
            (K,) bool: the classes that occur. None takes those that the classifier finds, as
            the gate does.
        glass
            Whether white pixels are no class (``"ignore"``) or ``"tissue"``. None takes what
            the settings say, and where these say ``"auto"``, what the class table implies.
        on_event, cancel
            As in `generate_pseudo_masks`.

        Returns
        -------
        Explanation
            Maps, masks and probabilities. At threshold 0 the masks of the D depths are those
            that `generate_pseudo_masks` writes for this image and label (in a batch of its
            own: other batches may round otherwise where two classes are equal).

        Raises
        ------
        DataError
            If the image is too small, too large or no RGB, or the label empty.
        ModelError, WsssError, CancelledError
            As in `generate_pseudo_masks`.
        """
        job = self.job(image, name=name, label=label, glass=glass, cancel=cancel)
        return run_job(job, on_event)

    def job(
        self,
        image: NDArray[np.uint8],
        *,
        name: str = "image",
        label: NDArray[np.bool_] | None = None,
        glass: Glass | None = None,
        cancel: CancelToken | None = None,
    ) -> Job[Explanation]:
        """Yield the events of `explain`, which documents the parameters."""
        _check_image(image)
        network = self._network
        network.cancel = cancel or CancelToken()
        network.cancel.raise_if_cancelled()
        yield Progress("Class maps", 0, 3)
        maps, presence = network.maps(name, image)
        chances = self._probabilities(presence)
        label = _present(chances) if label is None else np.asarray(label, bool)
        if label.shape != chances.shape or not label.any():
            raise DataError(
                f"A label of {name!r} must say for each of {len(chances)} classes whether it "
                "occurs, and at least one must. Tick a class."
            )
        yield Progress("Class maps", 1, 3)
        wanted = torch.tensor(label)[None].to(network.device)
        shown = [scaled(m, wanted)[0].cpu().numpy() for m in (*maps, fuse(maps))]
        fused = fuse(maps).masked_fill(~wanted[:, :, None, None], -torch.inf)
        fused_mask = masks_from_maps([fused])[0].cpu().numpy()
        del maps, fused
        yield Progress("Class maps", 2, 3)
        if label.sum() == 1:
            masks = np.full((len(shown), *image.shape[:2]), label.argmax(), np.uint8)
            strength = np.ones(masks.shape, np.float32)
        else:
            (written,) = network.masks([name], [image], label[None])
            masks = np.concatenate([written, fused_mask])
            strength = np.stack(
                [
                    np.take_along_axis(m, w[None].astype(np.intp), 0)[0]
                    for m, w in zip(shown, masks, strict=True)
                ]
            )
        yield Progress("Class maps", 3, 3)
        return Explanation(
            image,
            self.info.class_table,
            label,
            chances,
            np.stack(shown),
            masks,
            strength,
            agreement(masks[:-1]).astype(np.float32) / np.float32(255),
            self._glass(image, glass),
        )

    def _glass(self, image: NDArray[np.uint8], glass: Glass | None) -> NDArray[np.bool_]:
        chosen = self.settings.glass
        if chosen == "auto":
            chosen = glass or default_glass(self.info.class_table)
        if chosen == "tissue":
            return np.zeros(image.shape[:2], bool)
        return glass_mask(
            image,
            luminance=self.settings.glass_luminance,
            min_px=self.settings.glass_min_px,
        )

    def _probabilities(self, presence: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (K,): the best mean of (K, h, w) over windows of a training patch."""
        model = self._network.model
        cell = self._reduction
        window = max(1, round(self.info.patch_size_px * model.upscale / cell))
        logits = torch.from_numpy(presence)[None]
        kernel = [min(window, side) for side in logits.shape[-2:]]
        means = torch.nn.functional.avg_pool2d(
            logits, kernel, [max(1, side // 2) for side in kernel], ceil_mode=True
        )
        return torch.sigmoid(means.amax((2, 3)))[0].numpy()

    @property
    def _reduction(self) -> int:
        """Pixels of network input per pixel of the deepest map."""
        model = self._network.model
        return model.encoder.reductions[model.stages[-1]]


def _present(chances: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the classes that the gate would leave: the most probable one always."""
    return (chances > InferenceSettings().gate_threshold) | (chances == chances.max())


def _check_image(image: NDArray[np.uint8]) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise DataError(f"An image of {image.shape} {image.dtype} is no 8-bit RGB.")
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST_SIDE_PX:
        raise DataError(
            f"{width} x {height} px are too few for class maps. Take at least "
            f"{SMALLEST_SIDE_PX} x {SMALLEST_SIDE_PX} px at the model's resolution."
        )
    if height * width > LARGEST_PX:
        raise DataError(
            f"{width} x {height} px are too many for one look: 2048 x 2048 px at the model's "
            "resolution fit. Draw a smaller region, or map the whole slide."
        )
