"""What a network makes of the patches of a grid: features, and what it takes them for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_wsss.allocator import prepare_process
from napari_wsss.errors import WsssError
from napari_wsss.jobs import CancelToken, Job, Progress

if TYPE_CHECKING:
    import torch

    from napari_wsss.models import Classifier

__all__ = ["PatchFeatures", "PatchNetwork", "features_job"]


class PatchNetwork:
    """A network that looks at whole patches.

    Parameters
    ----------
    classifier
        A trained classifier, or its file; None takes the packaged encoder, which has seen
        photographs only, and no classes.
    patch_mpp
        µm/px of the patches.
    device
        Where it computes.

    Attributes
    ----------
    key
        Tells networks apart: what was computed by one is not used for another.
    classes
        Names of the classes; none for an encoder.

    Raises
    ------
    ModelError
        If the file is no classifier, or was trained at other µm/px.
    """

    def __init__(
        self, classifier: Classifier | str | Path | None, patch_mpp: float, device: str = "auto"
    ) -> None:
        from napari_wsss.models import Encoder, load_classifier, weights_digest
        from napari_wsss.models.base import check_resolution
        from napari_wsss.models.device import choose_device
        from napari_wsss.settings import EncoderSettings

        prepare_process()
        self.device = choose_device(device)
        self._head: Classifier | None = None
        if classifier is None:
            settings = EncoderSettings(output_stride=32)
            self._net: torch.nn.Module = Encoder(settings)
            self.key = f"{settings.name} {settings.weights}"
            self.classes: tuple[str, ...] = ()
        else:
            model = (
                load_classifier(classifier) if isinstance(classifier, str | Path) else classifier
            )
            check_resolution(model, patch_mpp)
            self._net = self._head = model
            self.key = weights_digest(model)
            self.classes = model.classes.names
        self._net.eval().to(self.device)

    def __call__(
        self, images: Sequence[NDArray[np.uint8]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Look at patches.

        Parameters
        ----------
        images
            N arrays (H, W, 3) of one size.

        Returns
        -------
        tuple of NDArray
            Features (N, C) of length 1, and class probabilities (N, K); K is 0 for encoders.
        """
        import torch
        from torch.nn.functional import normalize

        from napari_wsss.models.device import autocast

        with torch.inference_mode(), autocast(self.device):
            x = torch.from_numpy(np.stack(images)).to(self.device).permute(0, 3, 1, 2) / 255
            if self._head is None:
                deepest, logits = self._net(x)[-1], x.new_zeros(len(images), 0)
            else:
                stages = self._head.features(x)
                deepest = stages[-1]
                logits = self._head.head_maps(stages)[-1].float().mean((2, 3))
            found = normalize(deepest.float().mean((2, 3)))
        return found.cpu().numpy(), torch.sigmoid(logits.float()).cpu().numpy()


class PatchFeatures:
    """Features and probabilities of patches, kept so that none is computed twice.

    Parameters
    ----------
    key
        Of the network they are from.

    Attributes
    ----------
    key
        The same.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self._features: dict[int, NDArray[np.float32]] = {}
        self._probabilities: dict[int, NDArray[np.float32]] = {}

    def __contains__(self, cell: int) -> bool:
        return cell in self._features

    def add(
        self,
        cells: Sequence[int],
        features: NDArray[np.float32],
        probabilities: NDArray[np.float32],
    ) -> None:
        """Remember (n, C) features and (n, K) probabilities of `cells`."""
        self._features.update(zip(cells, features, strict=True))
        self._probabilities.update(zip(cells, probabilities, strict=True))

    def features(self, cells: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """Return (n, C)."""
        return np.stack([self._features[int(cell)] for cell in cells])

    def probabilities(self, cells: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """Return (n, K)."""
        return np.stack([self._probabilities[int(cell)] for cell in cells])


def features_job(
    read: Callable[[int], NDArray[np.uint8]],
    network: PatchNetwork,
    cells: NDArray[np.int64],
    known: PatchFeatures | None = None,
    *,
    batch_size: int = 16,
    cancel: CancelToken | None = None,
) -> Job[PatchFeatures]:
    """Compute the features of patches, as a job; the next batch is read meanwhile.

    Parameters
    ----------
    read, network
        The patches, and what looks at them.
    cells
        Which patches.
    known
        Features of earlier; used, and added to batch by batch, if they are of this network.
    batch_size
        Patches per pass; halved by itself if memory runs out.
    cancel
        Stops the job; what is in `known` stays.

    Returns
    -------
    PatchFeatures
        `known`, or new ones, with all of `cells`.

    Raises
    ------
    SlideError
        If a patch cannot be read.
    WsssError
        If memory runs out even for one patch.
    """
    cancel = cancel or CancelToken()
    if known is None or known.key != network.key:
        known = PatchFeatures(network.key)
    todo = [int(cell) for cell in cells if int(cell) not in known]
    total, done, size = len(todo), 0, batch_size
    with ThreadPoolExecutor(2, thread_name_prefix="patches") as pool:
        coming = [pool.submit(read, cell) for cell in todo[:size]]
        while done < total:
            now = todo[done : done + len(coming)]
            images = [future.result() for future in coming]
            after = done + len(now)
            coming = [pool.submit(read, cell) for cell in todo[after : after + size]]
            for start in range(0, len(now), size):
                cancel.raise_if_cancelled()
                part = slice(start, start + size)
                size = yield from _look(network, known, now[part], images[part], size)
            done = after
            yield Progress("patches looked at", done, total)
    return known


def _look(
    network: PatchNetwork,
    known: PatchFeatures,
    cells: list[int],
    images: list[NDArray[np.uint8]],
    size: int,
) -> Job[int]:
    """Add one batch to `known`, in parts of `size`; returns the size that memory allowed."""
    from napari_wsss.jobs import Log
    from napari_wsss.models.device import is_out_of_memory

    start = 0
    while start < len(cells):
        part = slice(start, start + size)
        try:
            known.add(cells[part], *network(images[part]))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if size == 1:
                raise WsssError(
                    "There is not enough memory to look at a single patch. Close other programs."
                ) from error
            size //= 2
            yield Log(f"Memory ran out; {size} patches at a time from here on.", "warning")
            continue
        start += size
    return size
