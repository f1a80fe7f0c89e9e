"""Small models with random weights, and a network whose output is known."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from napari_wsss.classes import ClassTable
from napari_wsss.models import Classifier, DenseOutput, ModelInfo, Segmenter, WsssModel
from napari_wsss.settings import EncoderSettings

MakeModel = Callable[..., WsssModel]


def info_of(kind: str, encoder: dict, architecture: dict, **more: Any) -> ModelInfo:
    fields = {"name": "test_resnet", "weights": "random", "upscale": 1.0, **encoder}
    return ModelInfo(
        kind=kind,
        encoder=EncoderSettings(**fields),
        architecture=architecture,
        classes=ClassTable.from_names(["a", "b", "c"]).to_dict(),
        **{"patch_size_px": 48, **more},
    )


@pytest.fixture
def make_model() -> MakeModel:
    def make(kind: str = "segmenter", *, encoder: dict | None = None, **architecture) -> WsssModel:
        torch.manual_seed(0)
        if kind == "segmenter":
            architecture = {"decoder_channels": 16, **architecture}
        model = {"segmenter": Segmenter, "classifier": Classifier}[kind](
            info_of(kind, encoder or {}, architecture)
        )
        return model.eval()

    return make


@pytest.fixture(scope="module")
def model() -> Segmenter:
    """Return the segmenter of the tests that run over slides."""
    torch.manual_seed(0)
    architecture = {"decoder_channels": 16, "encoder_stages": 3}
    info = info_of("segmenter", {}, architecture, mpp=0.5, patch_size_px=64)
    return Segmenter(info).eval()


class KnownModel(Classifier):
    """Logits and presence that the test chooses, as functions of the pixels."""

    logits: Callable[[Tensor], Tensor]
    presence: Callable[[Tensor], Tensor]

    def dense(self, x: Tensor) -> DenseOutput:
        small = torch.nn.functional.avg_pool2d(x, 16)
        return DenseOutput(self.logits(x), self.presence(small))


@pytest.fixture
def known_model() -> Callable[..., KnownModel]:
    def make(
        logits: Callable[[Tensor], Tensor], presence: Callable[[Tensor], Tensor]
    ) -> KnownModel:
        model = KnownModel(info_of("classifier", {}, {})).eval()
        model.logits, model.presence = logits, presence
        return model

    return make


KillAt = Callable[..., int]


@pytest.fixture
def kill_at() -> KillAt:
    """Run work in a fork that kills itself at its n-th change of the disk.

    Called with the work, a file to count in, n (None lets it end), and a part of the name of
    the file whose first change is the first to count: chunks are written by several threads,
    which try to make one folder now twice and now once. Returns how many changes there were,
    or minus the signal that ended it.
    """

    def run(work: Callable[[], object], counter: Path, moment: int | None, since: str = "") -> int:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                torch.set_num_threads(1)
                made = _count_changes(moment, since)
                work()
                counter.write_text(str(made[0]))
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            return -os.WTERMSIG(status)
        assert os.WEXITSTATUS(status) == 0
        return int(counter.read_text())

    return run


def _count_changes(moment: int | None, since: str) -> list[int]:
    """Count calls that change the disk, through Python's audit hook; kill at the n-th."""
    made = [0]
    counting = not since
    changes = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")

    def watch(event: str, args: tuple) -> None:
        nonlocal counting
        writes = (
            event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if writes or event in changes:
            counting = counting or since in str(args[0])
            if not counting:
                return
            if made[0] == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            made[0] += 1

    sys.addaudithook(watch)
    return made
