"""Class activation maps at several depths, batched: one forward, partial backward passes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_wsss.errors import ModelError
from napari_wsss.models import Classifier, Segmenter

__all__ = [
    "check_method",
    "depth_maps",
    "fuse",
    "gradcam_maps",
    "head_maps",
    "joint_maps",
    "mean_logits",
    "scaled",
    "segmenter_maps",
    "supports_gradcam",
]

_FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-1, -2))


def depth_maps(
    model: Classifier | Segmenter,
    images: Tensor,
    wanted: Tensor,
    *,
    method: str,
    flips: bool = False,
    scales: Sequence[float] = (1.0,),
    label: Tensor | None = None,
    relative: bool = False,
) -> list[Tensor]:
    """Return the class maps of every depth at image size.

    Parameters
    ----------
    model
        In evaluation mode, on the device of `images`.
    images
        (N, 3, H, W), values 0 to 1.
    wanted
        (N, K) bool: classes to compute; the maps of all others are minus infinity.
    method
        ``"gradcam"``, ``"heads"`` or ``"joint"`` of a classifier; ``"segmenter"`` of a segmenter.
    flips
        Average over the four flips, or over the scales, each flipped otherwise.
    scales
        Average over the images enlarged (above 1) or reduced by these factors.
    label
        (N, K) bool: the classes that share the pixels, which the maps of the joint head or of a
        segmenter are averaged by; by default `wanted`.
    relative
        Leave out one backward pass: at all depths but the deepest the maps of a patch are
        then right up to a term that its wanted classes share, which is enough for the
        arg-max.

    Returns
    -------
    list of Tensor
        Per depth, shallow to deep, (N, K, H, W); one for the joint head or a segmenter. Values
        are signed: the negative part, which a displayed CAM cuts off, still orders the classes
        where all are weak. Those of joint head and segmenter are logits; where they are averaged,
        the mean is that of the probabilities (`mean_logits`).

    Raises
    ------
    ModelError
        If heads are asked for that the classifier was trained without, Grad-CAM of an encoder
        whose features do not lie on the way to the class logits, or maps of the other kind of
        model.
    """
    check_method(model, method)
    methods: dict[str, Callable[[Any, Tensor, Tensor], list[Tensor]]] = {
        "gradcam": partial(gradcam_maps, relative=relative),
        "heads": head_maps,
        "joint": joint_maps,
        "segmenter": segmenter_maps,
    }
    views = _seen(partial(methods[method], model), images, wanted, _views(scales, flips))
    if method in ("joint", "segmenter"):
        maps = [mean_logits((m for (m,) in views), wanted if label is None else label)]
    else:
        maps = _mean(views)
    absent = ~wanted[:, :, None, None]
    return [m.masked_fill(absent, -torch.inf) for m in maps]


def check_method(model: Classifier | Segmenter, method: str) -> None:
    """Raise ModelError if maps by `method` are those of the other kind of model."""
    if (model.info.kind == "segmenter") != (method == "segmenter"):
        raise ModelError(
            f"A {model.info.kind} has no maps by method {method!r}. Set method = 'auto'."
        )


def _seen(
    compute: Callable[[Tensor, Tensor], list[Tensor]],
    images: Tensor,
    wanted: Tensor,
    views: Sequence[tuple[float, tuple[int, ...]]],
) -> Iterator[list[Tensor]]:
    """Yield the maps of every depth of one view after the other, as large as the images."""
    size = images.shape[-2:]
    for scale, axes in views:
        viewed = _resized(images, scale)
        viewed = viewed.flip(axes) if axes else viewed
        maps = [
            F.interpolate(m, size, mode="bilinear", align_corners=False)
            for m in compute(viewed, wanted)
        ]
        yield [m.flip(axes) for m in maps] if axes else maps


def _views(scales: Sequence[float], flips: bool) -> list[tuple[float, tuple[int, ...]]]:
    """Return the scale and the flipped axes of each view.

    Every scale occurs equally often, with another flip than the one before it, until all four
    flips occurred: a pass for each of both would be four times the work.
    """
    if not flips:
        return [(scale, ()) for scale in scales]
    rounds = -(-len(_FLIPS) // len(scales))
    return list(zip([*scales] * rounds, itertools.cycle(_FLIPS), strict=False))


def _mean(views: Iterator[list[Tensor]]) -> list[Tensor]:
    """Return the mean of the maps of each depth; views are summed up, not kept."""
    total, n = next(views), 1
    for maps in views:
        n += 1
        total = [t + m for t, m in zip(total, maps, strict=True)]
    return [t / n for t in total]


def mean_logits(views: Iterable[Tensor], label: Tensor) -> Tensor:
    """Return logits whose softmax over the label's classes is the mean of that of the views.

    The mean of probabilities, unlike that of logits, is sure of a class only where most views
    are: a single sure one that errs does not outweigh the others.

    Parameters
    ----------
    views
        Each (N, K, H, W).
    label
        (N, K) bool: classes that share the pixels, one at least.

    Returns
    -------
    Tensor
        (N, K, H, W). Their log-sum-exp over the label's classes, which is how strong the
        evidence is for any of them, is the mean of that of the views; so are the logits of all
        other classes.
    """
    views = iter(views)
    first = next(views)
    others = ~label[:, :, None, None]

    def parts(view: Tensor) -> tuple[Tensor, Tensor]:
        strength = view.masked_fill(others, -torch.inf).logsumexp(1, keepdim=True)
        return view - strength, strength

    n, total, (shares, strength) = 1, first, parts(first)
    for view in views:
        n += 1
        more, strong = parts(view)
        total, strength = total + view, strength + strong
        shares = torch.logaddexp(shares, more)
    if n == 1:
        return first
    mean = shares - math.log(n) + strength / n
    return torch.where(others, total / n, mean)


def _resized(images: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return images
    size = [max(1, round(side * scale)) for side in images.shape[-2:]]
    # Without the filter a reduced image would hold what its pixels cannot show.
    return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=scale < 1)


def gradcam_maps(
    model: Classifier, images: Tensor, wanted: Tensor, *, relative: bool = False
) -> list[Tensor]:
    """Return Grad-CAM of the wanted classes per depth, (N, K, h, w), zero for the others.

    Selvaraju et al. 2017, equation 1 and 2 without the final ReLU: the features of a depth,
    weighted by the pooled gradient of the class logit. For the deepest features under
    global average pooling that is the head's own map, so it needs no backward pass. The
    other depths need as many partial backward passes as the patch with most classes has
    classes: in pass j each patch follows its j-th class. With `relative` it follows the
    difference of its j-th and its first class, whose own map is then zero, in one pass less.
    """
    if len(model.stages) == 1:
        with torch.no_grad():
            return [model.head_maps(model.features(images))[-1].float()]
    n, k = wanted.shape
    with torch.enable_grad(), model.encoder.gradients_from(model.stages[0]):
        features = model.features(images)
        deepest = model.heads[-1](features[-1])
        logits = deepest.float().mean((2, 3))
        lower = features[:-1]
        maps = [f.new_zeros((n, k, *f.shape[-2:]), dtype=torch.float32) for f in lower]
        passes = int(wanted.sum(1).max())
        # (N, passes) class numbers; patches with fewer classes repeat one of weight 0
        ranked = torch.sort(wanted.int(), dim=1, descending=True, stable=True)
        rows = torch.arange(n, device=wanted.device)
        if relative:
            logits = logits - logits[rows, ranked.indices[:, 0]][:, None]
        for j in range(int(relative), passes):
            chosen, valid = ranked.indices[:, j], ranked.values[:, j].bool()
            target = (logits[rows, chosen] * valid).sum()
            gradients = torch.autograd.grad(
                target, lower, retain_graph=j + 1 < passes, allow_unused=True
            )
            if any(g is None for g in gradients):
                raise ModelError(
                    f"The features of encoder {model.encoder.settings.name!r} are side outputs, "
                    "which have no gradients. Use method = 'heads' with a classifier trained "
                    "with deep_supervision = true."
                )
            for m, f, g in zip(maps, lower, gradients, strict=True):
                weight = g.float().mean((2, 3), keepdim=True)
                value = (weight * f.detach().float()).sum(1)
                m[rows[valid], chosen[valid]] = value[valid]
    return [*maps, deepest.detach().float()]


def supports_gradcam(model: Classifier) -> bool:
    """Whether Grad-CAM of all depths of `model` can be had, by trying it on a small image."""
    training = model.training
    model.eval()
    image = torch.zeros((1, 3, 64, 64), device=model.encoder.mean.device)
    wanted = torch.ones((1, len(model.classes)), dtype=torch.bool, device=image.device)
    wanted[:, 1:] = False
    try:
        gradcam_maps(model, image, wanted)
    except ModelError:
        return False
    finally:
        model.train(training)
    return True


@torch.no_grad()
def head_maps(model: Classifier, images: Tensor, wanted: Tensor) -> list[Tensor]:
    """Return the maps of the class heads of every depth, (N, K, h, w), by one forward pass."""
    if not model.deep_supervision and len(model.stages) > 1:
        raise ModelError(
            "This classifier has a class head at its deepest layer only. Use method = "
            "'gradcam', or train it with deep_supervision = true."
        )
    return [m.float() for m in model.head_maps(model.features(images))]


@torch.no_grad()
def joint_maps(model: Classifier, images: Tensor, wanted: Tensor) -> list[Tensor]:
    """Return the map of the joint head, (N, K, h, w), by one forward pass."""
    return [model.joint_map(model.features(images)).float()]


@torch.no_grad()
def segmenter_maps(model: Segmenter, images: Tensor, wanted: Tensor) -> list[Tensor]:
    """Return the pixel logits of a segmenter, (N, K, H, W), by one forward pass."""
    return [model.dense(images).logits.float()]


def fuse(maps: list[Tensor]) -> Tensor:
    """Return the mean of the depths' maps after scaling each to a largest value of 1.

    Parameters
    ----------
    maps
        Per depth (N, K, H, W); minus infinity marks classes that were not computed.

    Returns
    -------
    Tensor
        (N, K, H, W).
    """
    scaled = []
    for m in maps:
        largest = torch.where(torch.isfinite(m), m, 0).abs().amax((1, 2, 3), keepdim=True)
        scaled.append(m / largest.clamp_min(1e-8))
    return torch.stack(scaled).mean(0)


def scaled(maps: Tensor, wanted: Tensor) -> Tensor:
    """Return maps of one depth between 0 and 1, so that they can be shown and compared.

    All classes of an image share one scale, so the order of the classes at a pixel stays. At
    every pixel one of the wanted classes wins; 0 is the smallest value that wins anywhere in
    the image, 1 the largest. What lies beyond is cut off. So the winner's value says how
    strong the evidence for the pixel's class is, relative to the rest of the image.

    Parameters
    ----------
    maps
        (N, K, H, W), signed; minus infinity where a class was not computed.
    wanted
        (N, K) bool: the classes that may win, one at least.

    Returns
    -------
    Tensor
        (N, K, H, W). Where the winner has the same value everywhere, it is 1.
    """
    winner = maps.masked_fill(~wanted[:, :, None, None], -torch.inf).amax(1, keepdim=True)
    low = winner.amin((2, 3), keepdim=True)
    span = winner.amax((2, 3), keepdim=True) - low
    flat = span <= 1e-8
    value = torch.where(flat, (maps >= low).float(), (maps - low) / span.masked_fill(flat, 1))
    return value.clamp(0, 1)
