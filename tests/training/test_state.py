"""The state file of an unfinished run."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
import torch

from napari_wsss.errors import CheckpointError
from napari_wsss.training.state import load_state, save_state, state_path


@pytest.fixture
def out(tmp_path):
    """Return the model of an unfinished run."""
    state = {
        "fingerprint": "mark",
        "model": {"weight": torch.arange(500.0)},
        "history": [{"loss": 0.5}],
        "best": -float("inf"),
        "best_weights": None,
    }
    save_state(tmp_path / "c.safetensors", state)
    return tmp_path / "c.safetensors"


def test_it_comes_back_as_it_was(out):
    state = load_state(out, "mark", overwrite=False)
    assert torch.equal(state["model"]["weight"], torch.arange(500.0))
    assert (state["history"], state["best"]) == ([{"loss": 0.5}], -float("inf"))
    assert load_state(out.with_name("other"), "mark", overwrite=False) is None


def test_a_damaged_state_is_refused(out):
    path = state_path(out)
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    samples = [b"", b"hello", good[: len(good) // 2], good[:-3], rng.bytes(300)]
    for _ in range(20):
        damaged = bytearray(good)
        for place in rng.integers(0, len(good), 4):
            damaged[place] ^= 1 << int(rng.integers(8))
        samples.append(bytes(damaged))
    for data in samples:
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=r"damaged(.|\n)*--overwrite"):
            load_state(out, "mark", overwrite=False)
        assert load_state(out, "mark", overwrite=True) is None


def test_a_pickle_in_place_of_the_state_is_not_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    out = tmp_path / "c.safetensors"
    buffer = io.BytesIO()
    torch.save({"fingerprint": "x", "a": Bomb()}, buffer)
    data = buffer.getvalue()
    state_path(out).write_bytes(hashlib.sha256(data).digest() + data)
    with pytest.raises(CheckpointError):
        load_state(out, "x", overwrite=False)
    assert not (tmp_path / "executed").exists()
