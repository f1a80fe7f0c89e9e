"""What is said of a result before and while it is made."""

from __future__ import annotations

import numpy as np
import pytest

from napari_wsss.errors import CancelledError, MissingResolutionError, SlideError
from napari_wsss.inference import (
    RunOptions,
    SlideSegmentation,
    areas_so_far,
    run_status,
    segment_job,
    segment_slide,
)
from napari_wsss.jobs import BlockDone, CancelToken, ResultCreated, run_job
from napari_wsss.settings import InferenceSettings
from napari_wsss.slides import open_labels, open_slide

SETTINGS = InferenceSettings(block_px=512, tissue_only=False, precision="fp32")


@pytest.fixture
def model(make_model):
    model = make_model(encoder_stages=3)
    model.info = model.info.model_copy(update={"mpp": 0.5})
    return model


@pytest.fixture
def slide():
    coarse = np.random.default_rng(0).integers(0, 256, (72, 40, 3), np.uint8)
    return open_slide(coarse.repeat(16, 0).repeat(16, 1), mpp=0.5, name="a")  # 1152 x 640


def stopped_after(blocks, slide, model, out):
    """Run until so many blocks are done; returns the events."""
    token, seen = CancelToken(), []

    def on_event(event):
        seen.append(event)
        if sum(isinstance(e, BlockDone) for e in seen) >= blocks:
            token.cancel()

    with pytest.raises(CancelledError):
        run_job(segment_job(slide, model, out, SETTINGS, cancel=token), on_event)
    return seen


def test_new_begun_finished(slide, model, tmp_path):
    status = run_status(slide, model, tmp_path, SETTINGS)
    assert (status.state, status.done, status.total) == ("new", 0, 6)
    assert status.path == tmp_path / "a.ome.zarr"
    assert list(tmp_path.iterdir()) == []

    done = sum(isinstance(e, BlockDone) for e in stopped_after(2, slide, model, tmp_path))
    status = run_status(slide, model, tmp_path, SETTINGS)
    assert (status.state, status.total) == ("begun", 6)
    assert status.done == done

    segment_slide(slide, model, tmp_path, SETTINGS)
    status = run_status(slide, model, tmp_path, SETTINGS)
    assert (status.state, status.done, status.total) == ("finished", 6, 6)


def test_settings_that_leave_no_trace_do_not_matter_and_others_are_named(slide, model, tmp_path):
    segment_slide(slide, model, tmp_path, SETTINGS)
    assert run_status(slide, model, tmp_path, SETTINGS.changed(readers=5)).state == "finished"
    status = run_status(slide, model, tmp_path, SETTINGS.changed(gate=False))
    assert status.state == "other"
    assert status.different == ("settings.gate: True then, False now",)


def test_a_folder_of_something_else_is_in_the_way(slide, model, tmp_path):
    (tmp_path / "a.ome.zarr").mkdir()
    (tmp_path / "a.ome.zarr" / "mine.txt").write_text("mine")
    assert run_status(slide, model, tmp_path, SETTINGS).state == "other"


def test_unknown_resolution_is_said(slide, make_model, tmp_path):
    with pytest.raises(MissingResolutionError, match="model"):
        run_status(slide, make_model(encoder_stages=3), tmp_path, SETTINGS)


def test_areas_grow_to_those_of_the_summary(slide, model, tmp_path):
    stopped_after(2, slide, model, tmp_path)
    path = tmp_path / "a.ome.zarr"
    rows = areas_so_far(path)
    labels = open_labels(path / "labels/segmentation").levels[0][:]
    assert [row["class"] for row in rows] == ["background", "a", "b", "c"]
    # A block that reached the disk and not the journal may be there, too.
    computed = int((labels != 255).sum())
    counted = sum(row["pixels"] for row in rows)
    assert 0 < counted <= computed
    assert counted % (512 * 128) == 0
    assert rows[1]["area_mm2"] == pytest.approx(rows[1]["pixels"] * 0.25e-6)

    result = segment_slide(slide, model, tmp_path, SETTINGS)
    assert areas_so_far(path) == result.summary()["classes"]


def test_areas_of_nothing(tmp_path):
    with pytest.raises(SlideError, match="not a result"):
        areas_so_far(tmp_path)


def test_the_result_can_be_looked_at_before_the_first_block(slide, model, tmp_path):
    seen = stopped_after(1, slide, model, tmp_path)
    (where,) = [i for i, e in enumerate(seen) if isinstance(e, ResultCreated)]
    assert seen[where] == ResultCreated(tmp_path / "a.ome.zarr")
    assert not any(isinstance(e, BlockDone) for e in seen[:where])


def test_a_resumed_run_shows_in_the_coarser_levels_what_was_done(slide, model, tmp_path):
    stopped_after(2, slide, model, tmp_path)
    path = tmp_path / "a.ome.zarr"
    assert (open_labels(path / "labels/segmentation").levels[-1][:] == 255).all()
    token = CancelToken()
    with pytest.raises(CancelledError):
        run_job(
            segment_job(slide, model, tmp_path, SETTINGS, RunOptions(live=True), cancel=token),
            lambda event: token.cancel() if "Checking" in getattr(event, "stage", "") else None,
        )
    assert (open_labels(path / "labels/segmentation").levels[-1][:] != 255).any()
    assert (
        SlideSegmentation.open(segment_slide(slide, model, tmp_path, SETTINGS).path).labels[:]
        != 255
    ).all()
