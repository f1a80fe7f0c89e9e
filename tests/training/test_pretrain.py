"""Pretraining: it learns, resumes, is taken by phase 1, and says when it collapsed."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from napari_wsss import pretrain_encoder, train_classifier
from napari_wsss.errors import (
    CancelledError,
    DataError,
    ModelError,
    OutputError,
    SettingsError,
    TrainingError,
)
from napari_wsss.jobs import CancelToken, EpochEnd, Progress
from napari_wsss.settings import ClassifierSettings, PretrainSettings
from napari_wsss.slides import open_slide
from napari_wsss.training import history_path, pretrain_job
from napari_wsss.training.pretrain import STAGE, _order
from napari_wsss.training.ssl_networks import Byol, PatchContrast, SimClr
from napari_wsss.training.state import state_path

ENCODER = {"name": "test_resnet", "weights": "random", "output_stride": 32, "upscale": 1.0}
SMALL = {
    "encoder": ENCODER,
    "optimiser": {"freeze_batch_norm": False},
    "tile_px": 32,
    "min_tissue": 0.0,
    "epochs": 2,
    "steps_per_epoch": 2,
    "batch_size": 8,
    "projection": 16,
}


def settings(**changes):
    return PretrainSettings.from_dict({**SMALL, **changes})


@pytest.fixture
def tissue():
    """Squares of 32 px, each of its own colour and pattern, as a slide."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(60, 220, (8, 8, 3)).repeat(32, 0).repeat(32, 1)
    grid = np.indices(pixels.shape[:2])
    period = rng.integers(2, 9, (8, 8)).repeat(32, 0).repeat(32, 1)
    pixels[(grid[0] // period + grid[1] // period) % 2 == 0] -= 50
    return open_slide(pixels.clip(0, 255).astype(np.uint8), name="tissue")


@pytest.mark.parametrize("method", ["simclr", "byol", "patches"])
def test_every_method_learns_and_phase_1_begins_from_it(
    method, tissue, tmp_path, events, patches, classifier_settings
):
    out = tmp_path / "encoder.safetensors"
    how = {"epochs": 3, "steps_per_epoch": 6, "method": method}
    if method == "byol":
        how["target_momentum"] = 0.9
    done = pretrain_encoder(tissue, out, settings(**how), on_event=events.append)
    ends = [e.metrics for e in events if isinstance(e, EpochEnd)]
    assert len(ends) == 3
    if method != "byol":  # whose target moves
        assert ends[-1]["loss"] < ends[0]["loss"]
    assert ends[-1]["spread"] > 0.2
    assert ends[-1]["match"] > 0.08  # chance is 1 in 64
    assert done.info.metrics["match"] == ends[-1]["match"]
    assert json.loads(history_path(out).read_text()) == done.history
    assert not state_path(out).exists()

    first = classifier_settings(encoder=done.encoder().changed(upscale=1.0).model_dump(), epochs=1)
    first = first.changed(optimiser={"encoder_lr": 1e-12, "head_lr": 1e-12})
    model = train_classifier(patches, tmp_path / "c.safetensors", first)
    saved = load_file(str(out))
    ours = model.encoder.net.state_dict()
    assert all(torch.allclose(ours[k].float(), v.float(), atol=1e-6) for k, v in saved.items())
    assert model.info.encoder.weights == str(out)


def test_the_file_holds_the_encoder_only_and_says_what_made_it(tissue, tmp_path):
    out = tmp_path / "e.safetensors"
    pretrain_encoder(tissue, out, settings(seed=3))
    with safe_open(str(out), "pt") as file:
        header = json.loads(file.metadata()["wsss_encoder"])
        assert not [k for k in file.keys() if "projector" in k or "." not in k]  # noqa: SIM118
    assert header["encoder"]["name"] == "test_resnet"
    assert (header["tiles"], header["sources"], header["training"]["seed"]) == (64, 1, 3)


@pytest.mark.parametrize("method", ["simclr", "byol"])
def test_a_resumed_run_writes_the_same_bytes(tissue, tmp_path, method):
    how = settings(epochs=3, method=method)
    straight, stopped = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    pretrain_encoder(tissue, straight, how)
    cancel = CancelToken()

    def stop(event):
        if isinstance(event, Progress) and event.stage == STAGE and event.done == 3:
            cancel.cancel()

    with pytest.raises(CancelledError):
        pretrain_encoder(tissue, stopped, how, on_event=stop, cancel=cancel)
    assert state_path(stopped).exists()
    assert not stopped.exists()
    seen = []
    pretrain_encoder(tissue, stopped, how, on_event=seen.append)
    assert [e.epoch for e in seen if isinstance(e, EpochEnd)] == [2, 3]
    assert stopped.read_bytes() == straight.read_bytes()


def test_another_seed_gives_other_weights(tissue, tmp_path):
    for seed in (0, 1):
        pretrain_encoder(tissue, tmp_path / f"{seed}.safetensors", settings(seed=seed))
    one, two = (load_file(str(tmp_path / f"{seed}.safetensors")) for seed in (0, 1))
    assert any(not torch.equal(v, two[k]) for k, v in one.items())


def test_an_unfinished_run_with_other_settings_is_kept(tissue, tmp_path):
    out = tmp_path / "e.safetensors"
    job = pretrain_job(tissue, out, settings())
    for event in job:
        if isinstance(event, EpochEnd):
            break
    job.close()
    with pytest.raises(OutputError, match="other patches or settings"):
        pretrain_encoder(tissue, out, settings(seed=1))
    pretrain_encoder(tissue, out, settings(seed=1), overwrite=True)
    with pytest.raises(OutputError, match="exists"):
        pretrain_encoder(tissue, out, settings(seed=1))


@pytest.mark.parametrize("network", [SimClr, Byol, PatchContrast])
def test_a_collapse_is_noticed_and_nothing_is_written(network, tissue, tmp_path, monkeypatch):
    def together(self, tiles, generator):
        found = self.embed(self.view(tiles, generator))
        return ((found - 1) ** 2).mean()  # the same answer to every tile

    monkeypatch.setattr(network, "loss", together)
    method = {SimClr: "simclr", Byol: "byol", PatchContrast: "patches"}[network]
    rates = {"encoder_lr": 1e-2, "head_lr": 1e-1, "freeze_batch_norm": False}
    out = tmp_path / "e.safetensors"
    how = settings(method=method, epochs=12, steps_per_epoch=20, optimiser=rates)
    with pytest.raises(TrainingError, match=r"collapsed.*spread 0\.0.*are not written") as caught:
        pretrain_encoder(tissue, out, how)
    assert "encoder_lr" in str(caught.value)
    assert not out.exists()


def test_a_batch_of_one_is_refused():
    with pytest.raises(SettingsError, match=r"batch_size.*greater than or equal to 2"):
        settings(batch_size=1)


def test_bad_input_is_refused_before_anything_is_written(tissue, tmp_path):
    out = tmp_path / "e.safetensors"
    with pytest.raises(DataError, match="a batch needs 65"):
        pretrain_encoder(tissue, out, settings(batch_size=65))
    with pytest.raises(OutputError, match=r"end in that"):
        pretrain_encoder(tissue, tmp_path / "e.pth", settings())
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_encoder_are_refused_by_phase_1(tissue, tmp_path, patches):
    out = tmp_path / "e.safetensors"
    done = pretrain_encoder(tissue, out, settings(epochs=1))
    other = done.encoder().changed(name="resnet10t")
    with pytest.raises(ModelError, match="do not fit the encoder"):
        train_classifier(patches, tmp_path / "c.safetensors", ClassifierSettings(encoder=other))


def test_no_tile_comes_twice_in_a_batch_and_all_take_turns():
    steps = list(_order(10, 4, 6, seed=0))
    assert [len(set(step)) for step in steps] == [4] * 6
    assert len({*steps[0], *steps[1]}) == 8


def test_the_target_of_byol_follows_slowly(tissue, tmp_path):
    networks = []

    class Kept(Byol):
        def __init__(self, *args):
            super().__init__(*args)
            networks.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_wsss.training.ssl_networks.Byol", Kept)
        how = settings(method="byol", target_momentum=0.5, epochs=1, steps_per_epoch=1)
        pretrain_encoder(tissue, tmp_path / "e.safetensors", how)
    (network,) = networks
    one, target = network.encoder.state_dict(), network.target["encoder"].state_dict()
    weight = next(k for k in one if k.endswith("conv1.weight"))
    before = target[weight].clone()
    assert not torch.equal(before, one[weight])
    network._follow()
    assert torch.allclose(
        network.target["encoder"].state_dict()[weight], (before + one[weight]) / 2
    )
