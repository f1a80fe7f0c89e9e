"""Where and in which precision a network computes, decided in one place."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

import torch

from napari_wsss.errors import ModelError

__all__ = [
    "autocast",
    "choose_device",
    "describe_device",
    "is_out_of_memory",
    "keep_threads",
    "one_thread",
    "resolved_precision",
    "uses_bf16",
]


#: Held while the number of threads is another than what computes shall have.
_COUNTING = threading.Lock()


def choose_device(name: str = "auto") -> torch.device:
    """Return the device called `name`; ``"auto"`` prefers CUDA, then MPS, then the CPU.

    Raises
    ------
    ModelError
        If the device is not known or not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = str(error).splitlines()[0]
        raise ModelError(
            f"The device {name!r} cannot be used ({first}). Use 'auto' or 'cpu'."
        ) from None
    return device


def uses_bf16(device: torch.device, precision: str = "auto") -> bool:
    """Whether to compute in bfloat16: asked for, or ``"auto"`` and native on `device`.

    On a CPU without AVX512-BF16 or AMX, bfloat16 is emulated and slower than float32.
    """
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and _cpu_bf16()


def resolved_precision(device: torch.device, precision: str = "auto") -> str:
    """Return ``"bf16"`` or ``"fp32"``: in which of them `device` computes."""
    return "bf16" if uses_bf16(device, precision) else "fp32"


def autocast(device: torch.device, precision: str = "auto") -> contextlib.AbstractContextManager:
    """Return the context in which a forward pass runs on `device`."""
    if uses_bf16(device, precision):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def describe_device(device: torch.device, precision: str = "auto") -> str:
    """Return a line such as ``"cpu (2 threads, bf16)"``."""
    kind = resolved_precision(device, precision)
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({kind})"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"cpu ({threads} thread{'s' if threads > 1 else ''}, {kind})"
    return f"{device.type} ({kind})"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device or the computer has no memory left."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
    )


def keep_threads(number: int | None = None) -> None:
    """Settle how many threads the CPU's part of what this thread computes is divided among.

    Called where a job begins. A thread takes torch's number over at its first operation, for
    good; while another is in `one_thread` that is 1, which would be slow, and not the same
    number every time: the last bit of a sum depends on it.

    Parameters
    ----------
    number
        For this thread and those that begin from now on; the number of the process by default.
    """
    with _COUNTING:
        if number is not None:
            torch.set_num_threads(number)
        torch.get_num_threads()  # takes it over; setting it alone does not


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let what this thread computes on the CPU run without others.

    Where cores are busy, small pieces of work take many times longer if they are divided: each
    waits for the part whose core had something else to do.
    """
    # One at a time: the number is the process's, and who began while it was 1 would leave it
    # so. (OpenMP's own number, which is a thread's, does not reach MKL.)
    with _COUNTING:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


@functools.cache
def _cpu_bf16() -> bool:
    """Whether this CPU has native bfloat16 dot products."""
    capabilities: Any = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
