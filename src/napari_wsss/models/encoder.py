"""The encoder: any timm network, or the paper's ResNet-38d, as five stages of features."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_wsss.errors import ModelError
from napari_wsss.models.pruning import drop_deeper
from napari_wsss.models.resnet38 import ResNet38d
from napari_wsss.models.weights import load_encoder_weights
from napari_wsss.settings import EncoderSettings

__all__ = ["Encoder"]

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Encoder(nn.Module):
    """Feature extractor shared by classifier and segmenter.

    Parameters
    ----------
    settings
        Name, weights and output stride.
    load_weights
        False leaves the weights random, because a checkpoint follows.
    stages
        Use the first so many stages only; None, or more than there are, uses all.

    Attributes
    ----------
    channels : tuple of int
        Channels of each stage, shallow to deep.
    reductions : tuple of int
        Input pixels per feature pixel of each stage.
    normalisation : tuple
        Mean and standard deviation (R, G, B) that the pretrained weights expect.

    Raises
    ------
    ModelError
        If there is no such encoder, or its weights cannot be had.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        settings: EncoderSettings,
        *,
        load_weights: bool = True,
        stages: int | None = None,
    ):
        super().__init__()
        self.settings = settings
        self.normalisation = (_IMAGENET_MEAN, _IMAGENET_STD)
        #: Whether images come with values 0 to 1; else they go into the network as they are.
        self.normalises = True
        self._whole_tokens = False
        if settings.name == "resnet38d":
            self.net: nn.Module = ResNet38d(settings.output_stride)
            self.channels: tuple[int, ...] = ResNet38d.channels
            self.reductions: tuple[int, ...] = self.net.reductions
            self._stage_names: tuple[str, ...] = self.net.stage_names
        else:
            self.net = _create_timm(settings, load_weights)
            info: Any = self.net.feature_info
            self.channels = tuple(info.channels())
            self.reductions = tuple(info.reduction())
            self._stage_names = tuple(info.module_name(i) for i in range(len(self.channels)))
            config = getattr(self.net, "pretrained_cfg", None) or {}
            # Transformers take sizes that their tokens divide.
            self._whole_tokens = bool(config.get("fixed_input_size"))
            self.normalisation = (
                tuple(config.get("mean", _IMAGENET_MEAN)),
                tuple(config.get("std", _IMAGENET_STD)),
            )
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.ones(1, 3, 1, 1), persistent=False)
        self.normalise_by(*self.normalisation)
        if load_weights:
            load_encoder_weights(self.net, settings)
        if stages is not None and stages < len(self.channels):
            self.channels = self.channels[:stages]
            self.reductions = self.reductions[:stages]
            self._stage_names = self._stage_names[:stages]
            drop_deeper(self.net, self._stage_names[-1], stages)

    def normalise_by(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """Normalise images by this mean and standard deviation (R, G, B; values 0 to 1)."""
        self.mean.copy_(torch.tensor(mean).view(1, 3, 1, 1))
        self.std.copy_(torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Turn images (N, 3, H, W) with values 0 to 1 into stages of features."""
        if self.normalises:
            x = (x - self.mean) / self.std
        if self._whole_tokens:
            step, (height, width) = max(self.reductions), x.shape[-2:]
            x = F.pad(x, (0, -width % step, 0, -height % step), mode="replicate")
        stages = list(self.net(x))[: len(self.channels)]
        # Some transformers put the channels last.
        return [
            f.permute(0, 3, 1, 2) if f.shape[1] != c and f.shape[-1] == c else f
            for f, c in zip(stages, self.channels, strict=True)
        ]

    def depth_index(self, depth: int) -> int:
        """Return `depth` (negative counts from the deepest) as an index of a stage."""
        n = len(self.channels)
        index = depth + n if depth < 0 else depth
        if not 0 <= index < n:
            raise ModelError(
                f"Encoder {self.settings.name!r} has {n} depths; depth {depth} does not exist. "
                f"Use -{n} to -1."
            )
        return index

    @contextmanager
    def gradients_from(self, stage: int) -> Iterator[None]:
        """Within this context the autograd graph begins at the output of `stage`.

        Whatever lies below runs without a graph, so a backward pass to that stage costs
        no more than the layers above it.

        Raises
        ------
        ModelError
            If the network has no module whose output is that stage.
        """
        module = self._stage_module(stage)
        if module is None:
            raise ModelError(
                f"Encoder {self.settings.name!r} does not name its stages; use class heads "
                "(method = 'heads') instead of Grad-CAM."
            )

        def begin(_: nn.Module, __: object, output: Tensor) -> Tensor:
            return output.detach().requires_grad_()

        handle = module.register_forward_hook(begin)
        required = [p.requires_grad for p in self.parameters()]
        try:
            for p in self.parameters():
                p.requires_grad_(False)
            yield
        finally:
            handle.remove()
            for p, flag in zip(self.parameters(), required, strict=True):
                p.requires_grad_(flag)

    def _stage_module(self, stage: int) -> nn.Module | None:
        """Return the module whose output is stage `stage`, None if the network has none."""
        modules = dict(self.net.named_modules())
        name = self._stage_names[stage]
        return modules.get(name, modules.get(name.replace(".", "_")))


def _create_timm(settings: EncoderSettings, load_weights: bool) -> nn.Module:
    """Create the timm network; errors name what to do instead."""
    hub = settings.name.startswith("hf-hub:")
    pretrained = load_weights and (hub or settings.weights == "pretrained")
    known = hub or timm.is_model(settings.name)
    if not known:
        near = difflib.get_close_matches(settings.name, [*timm.list_models(), "resnet38d"], n=6)
        raise ModelError(
            f"timm has no encoder {settings.name!r}."
            + (f" Similar names: {', '.join(near)}." if near else "")
        )
    options: dict[str, Any] = {"features_only": True, "pretrained": pretrained}
    if settings.output_stride != 32:
        options["output_stride"] = settings.output_stride
    try:
        architecture = settings.name.split("/")[-1]
        config = timm.get_pretrained_cfg(architecture, allow_unregistered=True)
        if config is not None and config.fixed_input_size:
            options["dynamic_img_size"] = True  # transformers otherwise take one size only
        return timm.create_model(settings.name, **options)
    except (TypeError, NotImplementedError, AssertionError) as error:
        if settings.output_stride != 32:
            raise ModelError(
                f"Encoder {settings.name!r} cannot run at output stride "
                f"{settings.output_stride}; set encoder.output_stride = 32."
            ) from error
        raise ModelError(f"Encoder {settings.name!r} takes no free image size: {error}") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"Encoder {settings.name!r} could not be created: {error}. Without internet, use "
            "weights = 'packaged' or a local file."
        ) from error
