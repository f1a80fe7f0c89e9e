"""Optimiser and learning-rate schedule from the settings."""

from __future__ import annotations

import math

import torch
from torch import nn

from napari_wsss.models.base import Trainable
from napari_wsss.settings import OptimiserSettings

__all__ = ["factor", "make_optimiser", "set_training_mode"]


def make_optimiser(model: Trainable, settings: OptimiserSettings) -> torch.optim.Optimizer:
    """Make the optimiser: a lower rate for the encoder, no decay of norms and biases."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith("encoder."), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    options = []
    for (encoder, decays), parameters in groups.items():
        rate = settings.encoder_lr if encoder else settings.head_lr
        options.append(
            {
                "params": parameters,
                "lr": rate,
                "base_lr": rate,
                "weight_decay": settings.weight_decay if decays else 0.0,
            }
        )
    if settings.name == "sgd":
        return torch.optim.SGD(options, momentum=settings.momentum)
    return torch.optim.AdamW(options)


def factor(settings: OptimiserSettings, step: int, steps: int) -> float:
    """Return the learning rate's factor at `step` of `steps` (linear warm-up, then schedule).

    The poly schedule is ``(1 - step / steps) ** power`` (Chen et al. 2017, DeepLab).
    """
    warmup = round(settings.warmup * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    share = (step - warmup) / max(steps - warmup, 1)
    if settings.schedule == "poly":
        return (1 - share) ** settings.power
    return 0.5 * (1 + math.cos(math.pi * share))


def set_training_mode(model: Trainable, freeze_batch_norm: bool) -> None:
    """Put `model` in training mode; the encoder's batch norms may keep their statistics."""
    model.train()
    if freeze_batch_norm:
        for module in model.encoder.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
