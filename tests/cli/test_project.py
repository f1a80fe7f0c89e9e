"""``run`` with every stage of a tiny project, and ``demo`` around a job that is not run."""

import json

import pytest

from napari_wsss.jobs import Log, Progress
from napari_wsss.workflows import DemoResult

TRAINING = """
epochs = 1
steps_per_epoch = 1
batch_size = 2
validation_share = 0
encoder = { weights = "random", upscale = 1.0, output_stride = 32 }
"""


@pytest.fixture
def project(pairs, slide, tmp_path):
    """A project of cutting, training, evaluation and a slide."""
    path = tmp_path / "project.toml"
    images, masks = json.dumps(str(pairs / "images")), json.dumps(str(pairs / "masks"))
    path.write_text(
        f"""
[project]
out = "run"
mpp = 0.5
[cut]
images = {images}
masks = {masks}
classes = {json.dumps(str(pairs / "classes.toml"))}
size_px = 32
stride_px = 32
[classifier]{TRAINING}
[segmenter]{TRAINING}
[inference]
block_px = 64
[evaluate]
images = {images}
masks = {masks}
settings = {{ bootstrap = 0 }}
[slides]
paths = [{json.dumps(str(slide))}]
mpp = 0.5
""",
        encoding="utf-8",
    )
    return path


def test_run_does_every_stage_once(cli, project, slide, tmp_path):
    first = cli("run", project, "--device", "cpu", "--json", tmp_path / "s.json")
    assert first.exit_code == 0, first.output
    summary = json.loads((tmp_path / "s.json").read_text("utf-8"))
    assert {"classifier", "segmenter"} <= set(summary["stages"])
    assert set(summary["stages"].values()) == {"done"}
    assert set(summary["evaluation"]["protocols"]) == {"predicted_gate", "oracle_labels"}
    assert list(summary["slides"]) == [slide.stem]
    for text in ("mIoU", slide.stem, "tumour", str(tmp_path / "run")):
        assert text in first.stdout

    again = json.loads(cli("run", project, "--device", "cpu", "--json", "-", "-q").stdout)
    assert again["stages"]["classifier"] == again["stages"]["segmenter"] == "skipped"
    assert again["evaluation"]["protocols"] == summary["evaluation"]["protocols"]


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "no project file"), ("[project", "TOML"), ("[projekt]\nout = 'x'\n", "projekt")],
)
def test_run_names_what_is_wrong_with_the_file(cli, tmp_path, content, words):
    path = tmp_path / "project.toml"
    if content is not None:
        path.write_text(content)
    result = cli("run", path)
    assert result.exit_code == 1
    assert words in result.stderr
    assert "project.toml" in result.stderr


def test_demo_shows_its_table(cli, monkeypatch, tmp_path):
    def job(out, *, seed, device, overwrite, cancel):
        yield Log(f"seed {seed} on {device}")
        yield Progress("demo", 1, 1)
        rows = [{"method": "weak", "mIoU": 0.5, "IoU tumour": None}]
        return DemoResult(rows, out / "report.html", 1.25)

    monkeypatch.setattr("napari_wsss.workflows.demo_job", job)
    args = ("demo", "--out", tmp_path, "--seed", 3, "--device", "cpu")
    shown = cli(*args)
    assert shown.exit_code == 0, shown.output
    assert "seed 3 on cpu" in shown.stderr
    for text in ("method", "weak", "0.500", "–", str(tmp_path / "report.html")):
        assert text in shown.stdout
    summary = json.loads(cli(*args, "--json", "-").stdout)
    assert summary["table"][0]["mIoU"] == 0.5
    assert summary["report"] == str(tmp_path / "report.html")
