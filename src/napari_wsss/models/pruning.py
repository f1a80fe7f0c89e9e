"""Removing the stages of an encoder that nobody uses, so that they cost no time."""

from __future__ import annotations

from torch import nn

from napari_wsss.models.resnet38 import ResNet38d

__all__ = ["drop_deeper"]


def drop_deeper(net: nn.Module, last: str, count: int) -> None:
    """Delete the layers of a network that follow the module called `last`.

    Parameters
    ----------
    net
        A feature extractor; of a kind that is not known it stays whole, and merely computes
        more than is used.
    last
        Name of the module whose output is the deepest stage that is kept.
    count
        How many stages are kept.
    """
    if isinstance(net, ResNet38d):
        net.keep(count)
    elif last.startswith("blocks.") and isinstance(net.get_submodule("blocks"), nn.Sequential):
        blocks = net.get_submodule("blocks")
        del blocks[int(last.split(".")[1]) + 1 :]  # type: ignore[operator]
    elif isinstance(net, nn.ModuleDict):  # timm's list of layers, run one after the other
        names = list(net)
        flat = last.replace(".", "_")
        if flat in names:
            for name in names[names.index(flat) + 1 :]:
                del net[name]
