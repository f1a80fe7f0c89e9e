"""A classifier cut down to the map of one of its depths, so that a pass costs no more than it."""

from __future__ import annotations

from napari_wsss.errors import ModelError
from napari_wsss.models.classifier import Classifier

__all__ = ["OneDepth"]


class OneDepth(Classifier):
    """One class head of a classifier and the layers below it.

    Deeper layers are left out. Tiles still begin, and images are still mirrored at their ends,
    where the whole classifier needs it, so that the map is the one that a pass of the whole
    classifier computes on its way.

    Parameters
    ----------
    classifier
        Not changed; the weights are copied.
    number
        Of the depth, 1 (shallowest) to D (deepest).

    Raises
    ------
    ModelError
        If that depth has no head.
    """

    def __init__(self, classifier: Classifier, number: int):
        stage = classifier.stages[number - 1]
        if stage not in classifier.headed:
            raise ModelError(f"Depth {number} of this classifier has no class head.")
        architecture = {
            "depths": [stage],
            "deep_supervision": False,
            "encoder_stages": stage + 1,
            # Also tells it, where networks are known by their header, from a classifier that
            # was trained like this, whose tiles may begin elsewhere.
            "alignment_px": classifier.alignment_px,
        }
        info = classifier.info.model_copy(update={"architecture": architecture})
        super().__init__(info, load_weights=False)
        self._alignment_px = classifier.alignment_px
        whole = classifier.encoder.state_dict()
        self.encoder.load_state_dict({k: whole[k] for k in self.encoder.state_dict()})
        head = classifier.heads[classifier.headed.index(stage)]
        self.heads[0].load_state_dict(head.state_dict())
        self.eval()

    @property
    def alignment_px(self) -> int:
        """Tiles begin at multiples of this many pixels, as those of the whole classifier."""
        return self._alignment_px
