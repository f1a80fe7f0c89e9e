"""What earlier runs left where a model shall be written."""

from __future__ import annotations

import pytest

from napari_wsss.errors import CheckpointError
from napari_wsss.jobs import EpochEnd
from napari_wsss.settings import ClassifierSettings, SegmenterSettings
from napari_wsss.training import classifier_job, train_classifier
from napari_wsss.training.classifier import classifier_mark
from napari_wsss.training.earlier import earlier_run
from napari_wsss.training.loop import history_path
from napari_wsss.training.state import state_path


@pytest.fixture
def out(tmp_path):
    return tmp_path / "c.safetensors"


def unfinished(patches, out, settings, **options):
    """Train for one epoch, then leave."""
    job = classifier_job(patches, out, settings, **options)
    for event in job:
        if isinstance(event, EpochEnd):
            job.close()


def test_nothing_is_there(out):
    assert earlier_run(out, ClassifierSettings) is None


def test_an_unfinished_run_says_how_to_go_on(patches, out, classifier_settings):
    settings = classifier_settings(seed=3)
    unfinished(patches, out, settings)
    run = earlier_run(out, ClassifierSettings)
    assert run.unfinished
    assert run.settings == settings
    assert run.mark == classifier_mark(patches, settings)
    assert [row["best"] for row in run.history] == [1]


def test_a_finished_run_has_its_curves(patches, out, classifier_settings):
    settings = classifier_settings()
    model = train_classifier(patches, out, settings)
    run = earlier_run(out, ClassifierSettings)
    assert not run.unfinished
    assert list(run.history) == model.history
    assert run.settings == settings
    assert run.info.metrics == model.info.metrics
    history_path(out).unlink()
    assert earlier_run(out, ClassifierSettings).history == ()


def test_the_run_that_replaces_a_model_goes_before_it(patches, out, classifier_settings):
    train_classifier(patches, out, classifier_settings())
    unfinished(patches, out, classifier_settings(seed=3), overwrite=True)
    run = earlier_run(out, ClassifierSettings)
    assert run.unfinished
    assert run.settings.seed == 3


def test_settings_of_another_kind_are_none(patches, out, classifier_settings):
    train_classifier(patches, out, classifier_settings())
    assert earlier_run(out, SegmenterSettings).settings is None


@pytest.mark.parametrize("where", ["out", "state"])
def test_what_is_something_else_is_said(out, where):
    (out if where == "out" else state_path(out)).write_bytes(b"hello")
    with pytest.raises(CheckpointError):
        earlier_run(out, ClassifierSettings)
