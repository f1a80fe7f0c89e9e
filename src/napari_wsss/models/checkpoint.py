"""Checkpoints: safetensors with a JSON header and a checksum; nothing is ever unpickled.

The file's metadata holds ``wsss`` (the `ModelInfo` as JSON) and ``sha256`` (of header and
tensors). A file that was cut, altered or made by something else is refused.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from napari_wsss.errors import CheckpointError, ModelError, WsssError, listed
from napari_wsss.files import check_absent, write_atomic
from napari_wsss.models.base import WsssModel
from napari_wsss.models.classifier import Classifier
from napari_wsss.models.fetching import model_file
from napari_wsss.models.info import ModelInfo
from napari_wsss.models.segmenter import Segmenter

__all__ = [
    "load_classifier",
    "load_model",
    "load_segmenter",
    "read_info",
    "save_model",
    "weights_digest",
]

M = TypeVar("M", bound=WsssModel)


def save_model(
    model: WsssModel, path: str | Path, *, overwrite: bool = False, half: bool = False
) -> Path:
    """Write `model` to a ``.safetensors`` file, all or nothing.

    Parameters
    ----------
    model
        A classifier or a segmenter.
    path
        The file.
    overwrite
        Whether an existing file may be replaced.
    half
        Store the weights in half precision (IEEE 754 binary16, 11 bits of significand): half
        the size, for handing a model on. Statistics and biases, which are small, stay as they
        are. Loaded, the weights are float32 again.

    Raises
    ------
    OutputError
        If the file exists and `overwrite` is False, or it cannot be written.
    ModelError
        If a weight is too large for half precision.
    """
    path = Path(path)
    check_absent(path, overwrite)
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    if half:
        tensors = {k: _halved(k, v) for k, v in tensors.items()}
    header = model.info.model_dump_json()
    metadata = {"wsss": header, "sha256": _digest(header, tensors)}
    write_atomic(path, _ordered(save(tensors, metadata)))
    return path


def _halved(name: str, value: Tensor) -> Tensor:
    """Return the weights of a convolution in half precision, anything else as it is."""
    if value.ndim < 2 or not value.is_floating_point():
        return value
    half = value.half()
    if not bool(torch.isfinite(half).all()):
        raise ModelError(f"{name} holds numbers that are too large for half precision.")
    return half


def _ordered(data: bytes) -> bytes:
    """Return a safetensors file with its header in a fixed order.

    The library writes metadata in the order of a hash map, another one each time; equal
    models shall be equal files. https://github.com/huggingface/safetensors#format
    """
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":"))
    encoded = header.encode()
    encoded += b" " * (-len(encoded) % 8)
    return len(encoded).to_bytes(8, "little") + encoded + data[8 + size :]


def weights_digest(model: WsssModel) -> str:
    """Return the sha256 of a model's weights, as results record it."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def read_info(path: str | Path) -> ModelInfo:
    """Read a checkpoint's header without its weights.

    Parameters
    ----------
    path
        File, or name of a registered model.

    Raises
    ------
    CheckpointError
        If the file is not a checkpoint of ours.
    """
    return _read_header(model_file(path))[0]


def load_model(path: str | Path) -> WsssModel:
    """Load a `Classifier` or `Segmenter`, in evaluation mode on the CPU.

    Parameters
    ----------
    path
        File, or name of a registered model.

    Raises
    ------
    CheckpointError
        If the file is missing, cut, altered, a pickle, or of another program; if a
        registered model cannot be had.
    ModelError
        If its tensors are not those of the architecture in its header.
    """
    path = model_file(path)
    info, checksum, header = _read_header(path)
    try:
        with safe_open(str(path), "pt") as file:
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged and cannot be read: {error}") from error
    if _digest(header, tensors) != checksum:
        raise CheckpointError(
            f"{path} was altered or damaged: its checksum does not match. Copy it again."
        )
    kind = Classifier if info.kind == "classifier" else Segmenter
    try:
        model: WsssModel = kind(info, load_weights=False)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} has a header that is not understood: architecture {info.architecture} "
            f"({error})."
        ) from None
    own = model.state_dict()
    rows = [f"{k} is missing" for k in own if k not in tensors]
    rows += [f"{k} is unknown" for k in tensors if k not in own]
    rows += [
        f"{k}: {tuple(tensors[k].shape)} in the file, {tuple(own[k].shape)} expected"
        for k in own
        if k in tensors and tensors[k].shape != own[k].shape
    ]
    if rows:
        raise ModelError(f"{path} does not fit the architecture it names:{listed(rows, 6)}")
    model.load_state_dict(tensors)
    return model.eval()


def load_classifier(path: str | Path) -> Classifier:
    """Load a checkpoint that must be a classifier; errors as of `load_model`."""
    return _of_kind(load_model(path), Classifier, path)


def load_segmenter(path: str | Path) -> Segmenter:
    """Load a checkpoint that must be a segmenter; errors as of `load_model`."""
    return _of_kind(load_model(path), Segmenter, path)


def _of_kind(model: WsssModel, kind: type[M], path: str | Path) -> M:
    if not isinstance(model, kind):
        raise ModelError(f"{path} is a {model.info.kind}; a {kind.__name__.lower()} is needed.")
    return model


def _read_header(path: Path) -> tuple[ModelInfo, str, str]:
    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a model of napari-wsss (safetensors): {error}. Pickled files "
            "(.pt, .pth) are refused because loading one can run code."
        ) from None
    header, checksum = metadata.get("wsss"), metadata.get("sha256")
    if header is None or checksum is None:
        raise CheckpointError(
            f"{path} holds tensors but no header of napari-wsss. To start from its weights, "
            "name it as encoder.weights."
        )
    try:
        return ModelInfo.model_validate(json.loads(header)), checksum, header
    except (ValidationError, json.JSONDecodeError, RecursionError, WsssError) as error:
        raise CheckpointError(f"{path} has a header that is not understood: {error}") from None


def _digest(header: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(header.encode())
    for key in sorted(tensors):
        value = tensors[key]
        digest.update(f"{key}{value.dtype}{tuple(value.shape)}".encode())
        # Through bytes, because numpy has no bfloat16.
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
