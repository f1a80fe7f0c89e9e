"""Training on two processes (gloo): the gradient of one, and no harm if one of them dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from napari_wsss.cams.store import PseudoMasks, PseudoMaskWriter, write_record
from napari_wsss.errors import CancelledError, DataError, SettingsError, TrainingError
from napari_wsss.jobs import CancelToken, EpochEnd, Progress, run_job
from napari_wsss.models import load_classifier, load_segmenter
from napari_wsss.training import classifier_job, train_classifier, train_segmenter
from napari_wsss.training.processes import check_processes
from napari_wsss.training.state import state_path

psutil = pytest.importorskip("psutil")
pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed"
)

#: Nothing random but the draw of patches, and batch norms that keep their statistics.
STILL = {
    "augmentation": {"flips": False, "stain": 0.0, "color": 0.0},
    "optimiser": {"encoder_lr": 1e-3, "head_lr": 1e-2, "freeze_batch_norm": True},
}


@pytest.fixture(autouse=True)
def _few_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def workers() -> list:
    """Return the training processes that run."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "napari_wsss.training.worker" in line and "torch.distributed.run" not in line:
            found.append(process)
    return found


def none_left() -> bool:
    end = time.monotonic() + 10
    while workers() and time.monotonic() < end:
        time.sleep(0.1)
    return not workers()


def test_two_processes_train_what_one_trains(patches, tmp_path, classifier_settings):
    """Also where batches cannot be halved (3 patches).

    Without the joint head, whose batch norms see a process's share of a batch.
    """
    settings = classifier_settings(**STILL, joint_head=False, batch_size=3)
    found, events = {}, {}
    for count in (1, 2):
        said = []
        out = tmp_path / f"{count}.safetensors"
        model = train_classifier(
            patches, out, settings, device="cpu", processes=count, on_event=said.append
        )
        found[count], events[count] = model, said
        assert load_classifier(out).info.metrics == model.info.metrics
        assert len(model.history) == 2
        assert not state_path(out).exists()
    for key, value in found[1].state_dict().items():
        torch.testing.assert_close(found[2].state_dict()[key], value, atol=1e-4, rtol=1e-3)
    assert found[1].info.metrics["loss"] == pytest.approx(found[2].info.metrics["loss"], abs=1e-4)
    for kind in (Progress, EpochEnd):
        one, two = ([e for e in events[n] if isinstance(e, kind)] for n in (1, 2))
        assert len(one) == len(two) > 0
    assert none_left()


def test_the_segmenter_too_and_each_resumes_the_other(patches, tmp_path, segmenter_settings):
    folder = tmp_path / "pseudo"
    writer = PseudoMaskWriter(folder, patches.classes, 3)
    for i, name in enumerate(patches.names):
        truth = patches.read_mask(i)
        writer.write(name, np.stack([truth] * 3), np.full(truth.shape, 255, np.uint8))
    patches.classes.with_index_values().write(folder / "classes.toml")
    write_record(folder, {"complete": True, "fingerprint": "f", "depths": 3})
    out = tmp_path / "s.safetensors"
    token = CancelToken()

    def stop(event):
        if isinstance(event, EpochEnd):
            token.cancel()

    arguments = (patches, PseudoMasks(folder), out, segmenter_settings(epochs=3))
    with pytest.raises(CancelledError):
        train_segmenter(*arguments, device="cpu", processes=2, on_event=stop, cancel=token)
    assert state_path(out).exists()
    assert none_left()
    said = []
    model = train_segmenter(*arguments, device="cpu", on_event=said.append)
    assert 1 <= sum(isinstance(e, EpochEnd) for e in said) < 3
    assert len(model.history) == 3
    assert np.isfinite([h["loss"] for h in model.history]).all()
    assert load_segmenter(out).info.supervision == "pseudo masks"


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_dying_process_ends_all_and_the_run_can_go_on(
    patches, tmp_path, classifier_settings, rank
):
    out = tmp_path / "c.safetensors"
    settings = classifier_settings(epochs=5000, patience=5000)
    killed = []

    def kill(event):
        if isinstance(event, EpochEnd) and not killed:
            (victim,) = [p for p in workers() if p.environ()["RANK"] == rank]
            os.kill(victim.pid, signal.SIGKILL)
            killed.append(time.monotonic())

    with pytest.raises(TrainingError, match=r"process died(.|\n)*go on"):
        train_classifier(patches, out, settings, device="cpu", processes=2, on_event=kill)
    assert time.monotonic() - killed[0] < 20
    assert none_left()
    token, ends = CancelToken(), []

    def stop(event):
        if isinstance(event, EpochEnd):
            ends.append(event.epoch)
            token.cancel()

    with pytest.raises(CancelledError):
        train_classifier(patches, out, settings, device="cpu", on_event=stop, cancel=token)
    assert ends[0] > 1


def test_errors_keep_their_kind_and_text(patches, tmp_path, classifier_settings):
    spoilt = patches.paths[0]
    spoilt.write_bytes(b"no image")
    with pytest.raises(DataError, match=spoilt.name):
        train_classifier(
            patches, tmp_path / "c.safetensors", classifier_settings(), device="cpu", processes=2
        )
    assert none_left()


def test_nobody_stays_when_the_parent_is_killed(patches, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from napari_wsss import load_patches, train_classifier\n"
        "from napari_wsss.settings import ClassifierSettings\n"
        "encoder = {'name': 'test_resnet', 'weights': 'random', 'upscale': 1.0}\n"
        "settings = ClassifierSettings.from_dict(\n"
        "    {'encoder': encoder, 'epochs': 5000, 'steps_per_epoch': 2, 'batch_size': 4}\n"
        ")\n"
        "train_classifier(load_patches(sys.argv[1]), sys.argv[2], settings, device='cpu',\n"
        "                 processes=2, on_event=lambda e: print(type(e).__name__, flush=True))\n"
    )
    command = [sys.executable, str(script), str(patches.root), str(tmp_path / "c.safetensors")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert any("EpochEnd" in line for line in parent.stdout)
        assert len(workers()) == 2
        parent.kill()
    assert none_left()


def test_a_job_that_is_closed_leaves_nobody(patches, tmp_path, classifier_settings):
    job = classifier_job(
        patches, tmp_path / "c.safetensors", classifier_settings(), device="cpu", processes=2
    )
    for event in job:
        if isinstance(event, Progress):
            break
    job.close()
    assert none_left()


def test_what_cannot_work_is_refused_before_anything_starts(
    patches, tmp_path, classifier_settings, monkeypatch
):
    with pytest.raises(SettingsError, match="cannot share batches of 4"):
        run_job(
            classifier_job(
                patches, tmp_path / "c", classifier_settings(), device="cpu", processes=5
            )
        )
    with pytest.raises(SettingsError, match="at least 1"):
        check_processes(0, 16, "cpu")
    monkeypatch.setattr(torch.distributed, "is_available", lambda: False)
    with pytest.raises(SettingsError, match="This build of PyTorch"):
        check_processes(2, 16, "cpu")
    check_processes(1, 16, "cpu")
