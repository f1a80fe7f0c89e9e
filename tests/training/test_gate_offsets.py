"""Offsets of the gate from patch labels: found where they are known, bounded elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_wsss.inference.engine import Engine
from napari_wsss.inference.predict import image_logits
from napari_wsss.models import load_segmenter, save_model
from napari_wsss.settings import InferenceSettings
from napari_wsss.training import TrueMasks, gate_offsets, train_segmenter
from napari_wsss.training.gate_offsets import fitted_offset, shift_gate

CPU = torch.device("cpu")


@pytest.mark.parametrize("offset", [-2.0, 0.0, 1.5])
def test_a_known_offset_is_found(offset):
    rng = np.random.default_rng(0)
    true = rng.normal(0, 3, 2000)
    labels = (rng.random(2000) < 1 / (1 + np.exp(-true))).astype(np.float32)
    logits = torch.tensor(true - offset, dtype=torch.float32)
    assert fitted_offset(logits, torch.from_numpy(labels)) == pytest.approx(offset, abs=0.25)


def test_few_patches_move_it_little():
    few = fitted_offset(torch.full((3,), 1.0), torch.zeros(3))
    many = fitted_offset(torch.full((300,), 1.0), torch.zeros(300))
    assert -3 < few < -1
    assert many < few - 1


@pytest.fixture
def model(make_patches, tmp_path, segmenter_settings):
    patches = make_patches(18)
    return train_segmenter(
        patches, TrueMasks(patches), tmp_path / "s.safetensors", segmenter_settings()
    )


def test_training_patches_speak_for_a_class_that_is_not_held_out(model, make_patches, monkeypatch):
    monkeypatch.setattr(gate_offsets, "FEWEST", 4)
    train = make_patches(18, name="train")
    dots = train.subset(np.array([labels.tolist() == [True, False] for labels in train.labels]))
    with_witnesses = gate_offsets.gate_offsets(model, train, dots, CPU)
    alone = gate_offsets.gate_offsets(model, dots, dots, CPU)
    assert alone[1] == 0  # a class that occurs nowhere is left as it is
    monkeypatch.setattr(gate_offsets, "_WITNESSES", 1)
    few = gate_offsets.gate_offsets(model, train, dots, CPU)
    assert few[1] < with_witnesses[1]
    assert few[0] == with_witnesses[0] == alone[0]


def test_too_few_patches_say_nothing(model, make_patches):
    patches = make_patches(gate_offsets.FEWEST - 1, name="few")
    assert gate_offsets.gate_offsets(model, patches, patches, CPU) == [0.0, 0.0]


def test_the_gate_is_shifted_and_nothing_else_also_in_files(model, make_patches, tmp_path):
    image = make_patches(3, name="seen").read(2)
    x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        logits, gate = model(x)
        shift_gate(model, [1.0, -20.0])
        shift_gate(model, [0.5, 0.0])
        new_logits, new_gate = model(x)
    assert torch.equal(new_logits, logits)
    torch.testing.assert_close(new_gate, gate + torch.tensor([1.5, -20.0]))
    loaded = load_segmenter(save_model(model, tmp_path / "shifted.safetensors"))
    with torch.inference_mode():
        torch.testing.assert_close(loaded(x)[1], new_gate)
    # The second class is now found nowhere, so it wins no pixel.
    engine = Engine(loaded, InferenceSettings(precision="fp32"), device="cpu")
    assert (image_logits(engine, image, 32).labels() == 0).all()


def test_training_with_it_changes_the_gate_alone_and_reads_no_mask(
    make_patches, tmp_path, segmenter_settings, monkeypatch
):
    monkeypatch.setattr(gate_offsets, "FEWEST", 4)
    patches = make_patches(18)
    masks = TrueMasks(patches)
    models = {}
    for on in (False, True):
        out = tmp_path / f"{on}.safetensors"
        settings = segmenter_settings(calibrate_gate=on)
        models[on] = train_segmenter(replace(patches, masks=None), masks, out, settings)
    plain, shifted = models[False].state_dict(), models[True].state_dict()
    assert bool((shifted.pop("gate.bias") != 0).any())
    assert all(torch.equal(plain[key], value) for key, value in shifted.items())
    assert load_segmenter(tmp_path / "True.safetensors").gate.bias is not None
    untaught = segmenter_settings(calibrate_gate=True, gate_weight=0)
    model = train_segmenter(patches, masks, tmp_path / "untaught.safetensors", untaught)
    assert model.gate.bias is None
