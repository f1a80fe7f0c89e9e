"""The mean teacher: an average of the weights that judges, labels and is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from napari_wsss.classes import IGNORE

__all__ = ["Judgement", "Teacher", "judged"]

#: Classes below this probability of the teacher are negatives of an unreliable pixel.
_IMPROBABLE = 0.1
#: How much of the sums of shares stays at each step.
_SHARES_STAY = 0.9
_SHARES = "shares of classes"


class Teacher:
    """Exponential moving average of a network's weights (Tarvainen and Valpola 2017).

    Parameters
    ----------
    decay
        Share of the average that stays at each step. Early steps, when the weights change
        fast, keep less: ``min(decay, (1 + n) / (10 + n))``.
    """

    def __init__(self, decay: float):
        self._decay = decay
        self._average: AveragedModel | None = None
        self._shares: Tensor | None = None

    def start(self, model: nn.Module) -> None:
        """Begin with a copy of `model`, on its device."""

        def average(old: Tensor, new: Tensor, n: Tensor | int) -> Tensor:
            stays = min(self._decay, (1 + float(n)) / (10 + float(n)))
            return torch.lerp(new, old, stays)

        self._average = AveragedModel(model, avg_fn=average)
        self._average.requires_grad_(False)
        self._average.eval()

    @property
    def model(self) -> Any:
        """The averaged network, in evaluation mode."""
        assert self._average is not None, "start comes first"
        return self._average.module

    def update(self, model: nn.Module) -> None:
        """Take in the weights of `model` after a step; running statistics are its own."""
        assert self._average is not None, "start comes first"
        self._average.update_parameters(model)

    def state(self) -> dict[str, Tensor]:
        """Return what a resumed run needs."""
        assert self._average is not None, "start comes first"
        state = {key: value.cpu() for key, value in self._average.state_dict().items()}
        return state if self._shares is None else {**state, _SHARES: self._shares.cpu()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        assert self._average is not None, "start comes first"
        shares = state.get(_SHARES)
        self._average.load_state_dict({k: v for k, v in state.items() if k != _SHARES})
        self._shares = None if shares is None else shares.clone()

    @torch.no_grad()
    def aligned(self, logits: Tensor, labels: Tensor, strength: float) -> Tensor:
        """Return logits with what distinguishes the classes' average shares taken back.

        Distribution alignment (Berthelot et al. 2020, ReMixMatch, section 3.1): probabilities
        are multiplied by expected over observed shares, here those of a class in the patches
        that have it. Nothing is known of sizes, so the classes of a patch are expected to
        share it equally. Both are averages over the patches seen so far.

        Parameters
        ----------
        logits
            (N, K, H, W) of the teacher.
        labels
            (N, K): 1 where the class is present. Patches of fewer than two say nothing.
        strength
            Exponent of the ratio, 0 to 1.
        """
        if strength == 0:
            return logits
        several = labels.sum(1) > 1
        chosen = labels[several].bool()
        p = logits[several].float().masked_fill(~chosen[:, :, None, None], -torch.inf)
        observed = p.softmax(1).mean((2, 3))
        expected = chosen / chosen.sum(1, keepdim=True).clamp_min(1)
        seen = torch.stack([observed.sum(0), expected.sum(0)])
        if self._shares is None:
            self._shares = seen
        else:
            self._shares = _SHARES_STAY * self._shares.to(seen) + seen
        # The observed share of a class that no patch has is 0, as is the expected one.
        ratio = (self._shares + 1e-3).log()
        return logits + strength * (ratio[1] - ratio[0]).view(1, -1, 1, 1)


class Judgement(NamedTuple):
    """What a teacher says of patches.

    Attributes
    ----------
    masks
        (N, H, W) uint8 class indices; 255 where it is too uncertain.
    possible
        (N, K, H, W) bool: the classes that it does not find improbable.
    """

    masks: Tensor
    possible: Tensor


@torch.no_grad()
def judged(logits: Tensor, labels: Tensor, unreliable: float) -> Judgement:
    """Return the teacher's labels of patches, restricted to the classes that these have.

    Pixels are reliable or not by the entropy of the teacher's probabilities, as in U2PL
    (Wang et al. 2022, section 3.2); here the probabilities of classes that the patch does not
    have are set to 0 first, and the entropy is divided by the largest one possible, so that
    patches of two and of more classes are comparable.

    Parameters
    ----------
    logits
        (N, K, H, W) of the teacher.
    labels
        (N, K): 1 where the class is present, none of a patch if nothing is known of it.
    unreliable
        Share of the pixels, those of largest entropy, that get no label.
    """
    present = labels.bool()
    present = present | ~present.any(1, keepdim=True)
    allowed = logits.float().masked_fill(~present[:, :, None, None], -torch.inf)
    p = allowed.softmax(1)
    masks = p.argmax(1).to(torch.uint8)
    if unreliable > 0:
        entropy = torch.special.entr(p).sum(1)
        entropy = entropy / present.sum(1).clamp_min(2).log().view(-1, 1, 1)
        # kthvalue, not quantile, which takes no more than 2 ** 24 numbers.
        rank = max(1, round((1 - unreliable) * entropy.numel()))
        limit = entropy.flatten().kthvalue(rank).values
        masks = masks.masked_fill(entropy > limit, IGNORE)
    return Judgement(masks, p >= _IMPROBABLE)
