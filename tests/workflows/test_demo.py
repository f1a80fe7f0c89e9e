from __future__ import annotations

import json

import pytest

from napari_wsss.errors import OutputError
from napari_wsss.samples import SyntheticSlide, synthetic_slide
from napari_wsss.workflows import run_demo


@pytest.fixture
def small_demo(monkeypatch):
    """The demo with small slides and one step per phase."""

    module = "napari_wsss.workflows.demo"

    def small(shape, **options) -> SyntheticSlide:
        return synthetic_slide((512, 512), **options)

    monkeypatch.setattr(f"{module}.synthetic_slide", small)
    for name, value in (("EPOCHS", 1), ("STEPS", 1), ("BATCH", 2)):
        monkeypatch.setattr(f"{module}.{name}", value)
    monkeypatch.setattr("napari_wsss.workflows.synthetic.REGION_PX", 256)
    monkeypatch.setattr(f"{module}.PATCH_PX", 96)
    monkeypatch.setattr(f"{module}.STRIDE_PX", 96)


def test_demo_runs_every_stage_and_is_quick_the_second_time(small_demo, tmp_path):
    out = tmp_path / "demo"
    found = run_demo(out)
    assert [row["method"] for row in found.table] == [
        "CAM only (patch labels)",
        "napari-wsss (patch labels)",
        "same network, true masks",
    ]
    assert all(0 <= row["mIoU"] <= 1 for row in found.table)
    html = found.report.read_text(encoding="utf-8")
    assert html.count("data:image/png") > 10
    assert (out / "results" / "synthetic.geojson.gz").exists()
    evaluations = list((out / "evaluation").glob("*.json"))
    assert len(evaluations) == 3
    assert set(json.loads(evaluations[0].read_text())["protocols"]) == {
        "predicted_gate",
        "oracle_labels",
    }
    stamp = found.report.stat().st_mtime_ns
    again = run_demo(out)
    assert again.table == found.table
    assert again.report.stat().st_mtime_ns == stamp
    with pytest.raises(OutputError, match="other settings"):
        run_demo(out, seed=5)


def test_demo_leaves_foreign_folders_alone(tmp_path):
    (tmp_path / "thesis.doc").write_text("years of work")
    with pytest.raises(OutputError, match="holds no demo"):
        run_demo(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.doc").read_text() == "years of work"
