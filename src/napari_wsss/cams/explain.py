"""Explaining one image: class maps of every depth, and the masks that follow from them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from napari_wsss.cams.explanation import Explanation
from napari_wsss.cams.maps import fuse, scaled
from napari_wsss.cams.masks import MaskNetwork, masks_from_maps
from napari_wsss.errors import DataError
from napari_wsss.jobs import CancelToken, Event, Job, Progress, run_job
from napari_wsss.models import Classifier
from napari_wsss.models.device import choose_device
from napari_wsss.patches.patch_set import Glass, default_glass
from napari_wsss.settings import InferenceSettings, PseudoMaskSettings
from napari_wsss.slides import glass_mask

__all__ = ["LARGEST_AVERAGED_PX", "LARGEST_PX", "SMALLEST_SIDE_PX", "Explainer"]

#: Larger images are refused: their maps do not fit into memory in one piece.
LARGEST_PX = 2048 * 2048
#: Larger images are looked at once, as they are: in several sizes they take five times as long and
#: twice the memory. Patches are smaller, as a rule.
LARGEST_AVERAGED_PX = 1024 * 1024
#: Smaller images leave too few pixels at the deepest layer.
SMALLEST_SIDE_PX = 16


class Explainer:
    """A classifier ready to explain images, one after the other.

    Parameters
    ----------
    classifier
        The model; a copy of it is prepared once.
    settings
        Method, flips, scales, glass and precision; `threshold` and `certainty` are chosen
        afterwards.
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
        # With them, the network would leave out pixels on its own.
        self.settings = (settings or PseudoMaskSettings()).changed(threshold=0.0, certainty=0.0)
        self._network = MaskNetwork(
            classifier, self.settings, choose_device(device), CancelToken()
        )
        self._averaged = self._network.settings
        self._once = self._averaged.changed(flips=False, scales=(1.0,))
        #: Pixels of network input per pixel of the deepest map.
        self._reduction = classifier.encoder.reductions[classifier.stages[-1]]

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
        not explained as its parts would be; the deepest map is the same. Flips and scales of the
        settings hold for images of up to 1024 x 1024 px; larger ones are looked at as they are.

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
            Maps, masks and probabilities. At threshold 0, and with the certainty of the
            settings, the masks of the D depths are those that `generate_pseudo_masks` writes
            for this image, of up to 1024 x 1024 px, and label (in a batch of its own: other
            batches may round otherwise where two classes are equal).

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
        small = image.shape[0] * image.shape[1] <= LARGEST_AVERAGED_PX
        network.settings = self._averaged if small else self._once
        network.cancel.raise_if_cancelled()
        yield Progress("Class maps", 0, 3)
        chances = self._probabilities(network.presence(name, image))
        label = _present(chances) if label is None else np.asarray(label, bool)
        if label.shape != chances.shape or not label.any():
            raise DataError(
                f"A label of {name!r} must say for each of {len(chances)} classes whether it "
                "occurs, and at least one must. Tick a class."
            )
        yield Progress("Class maps", 1, 3)
        maps = network.maps(name, image, label)
        wanted = torch.tensor(label)[None].to(network.device)
        fused = fuse(maps)
        shown = [scaled(m, wanted)[0].cpu().numpy() for m in (*maps, fused)]
        fused = fused.masked_fill(~wanted[:, :, None, None], -torch.inf)
        fused_mask = masks_from_maps([fused])[0].cpu().numpy()
        several, own = label.sum() > 1, None
        # Grad-CAM of the label's classes alone, as it is written, rounds otherwise.
        if several and network.settings.method == "joint":
            own = network.of_maps(maps, label[None])
        del maps, fused
        yield Progress("Class maps", 2, 3)
        if not several:
            masks = np.full((len(shown), *image.shape[:2]), label.argmax(), np.uint8)
            strength = np.ones(masks.shape, np.float32)
            certainty = np.full(image.shape[:2], 255, np.uint8)
        else:
            (written,) = own or network.masks([name], [image], label[None])
            masks = np.concatenate([written.masks, fused_mask])
            certainty = written.certainty
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
            certainty.astype(np.float32) / np.float32(255),
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


def _present(chances: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the classes above the gate's threshold, and the most probable one always."""
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
