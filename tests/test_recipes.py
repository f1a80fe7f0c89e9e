"""Recipes: what they hold, and in projects."""

from __future__ import annotations

import pytest

from napari_wsss.errors import SettingsError
from napari_wsss.recipes import RECIPES, recipe
from napari_wsss.settings import ClassifierSettings, PseudoMaskSettings, SegmenterSettings
from napari_wsss.workflows.project import ProjectFile


def test_mlps_is_what_was_published():
    found = recipe("mlps")
    assert found.classifier.pda.enabled
    assert not found.classifier.deep_supervision
    assert found.pseudo_masks.method == "gradcam"
    assert len(found.classifier.depths) == len(found.segmenter.depth_weights) == 3
    assert found.segmenter.depth_weights == (0.2, 0.2, 0.6)
    assert found.segmenter.gate_weight > 0
    assert found.segmenter.noise.loss == "ce"
    assert found.segmenter.teacher.decay == 0
    # Nor anything of what came later.
    assert not found.classifier.joint_head
    stages = found.classifier, found.pseudo_masks, found.segmenter
    assert not any(stage.overlaps for stage in stages)
    assert not found.segmenter.teacher.label_uncertain
    assert found.pseudo_masks.certainty == 0  # so that nothing is kept beside a teacher
    assert found.segmenter.choose_by == "targets"


@pytest.mark.parametrize("name", RECIPES)
def test_the_stages_of_a_recipe_fit_together(name):
    found = recipe(name)
    if found.pseudo_masks.method == "heads":
        assert found.classifier.deep_supervision
    if found.pseudo_masks.method == "joint":
        assert found.classifier.joint_head
    assert found.classifier.encoder.name == found.segmenter.encoder.name
    assert type(found).from_dict(found.model_dump(mode="json")) == found


def test_a_project_names_a_recipe_and_overrules_it(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text(
        '[project]\nout = "run"\ndataset = "patches"\nrecipe = "mlps"\n'
        "[segmenter]\nepochs = 3\n[segmenter.noise]\nloss = 'sce'\n"
    )
    file = ProjectFile.read(path)
    wanted = recipe("mlps").segmenter.changed(epochs=3)
    assert file.segmenter == wanted.changed(noise=wanted.noise.changed(loss="sce"))
    assert file.classifier == recipe("mlps").classifier


def test_a_project_with_a_recipe_that_is_not_there_is_refused(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text('[project]\nout = "run"\ndataset = "patches"\nrecipe = "best"\n')
    with pytest.raises(SettingsError, match="no recipe 'best'; use mlps or default"):
        ProjectFile.read(path)


def test_the_defaults_of_the_stages_are_those_of_the_default_recipe():
    found = recipe("default")
    assert found.classifier == ClassifierSettings()
    settled = found.pseudo_masks.resolved(found.classifier.architecture)
    assert settled == PseudoMaskSettings().resolved(found.classifier.architecture)
    other = PseudoMaskSettings.from_dict(found.with_values("pseudo_masks", {"method": "gradcam"}))
    assert (other.sizes, other.least_certainty) == ((1.0,), 0.0)
    assert found.segmenter == SegmenterSettings()


def test_the_default_recipe_is_what_measured_best():
    found = recipe("default")
    assert found.classifier.deep_supervision
    assert found.classifier.joint_head
    assert found.classifier.joint_loss == "pixels"
    settled = found.pseudo_masks.resolved(found.classifier.architecture)
    assert (found.classifier.choose_by, found.segmenter.choose_by) == ("last", "last")
    assert (settled.method, settled.certainty, len(settled.scales)) == ("joint", 0.7, 4)
    teacher = found.segmenter.teacher
    assert (teacher.decay, teacher.relabel_from, teacher.align) == (0.97, 0.35, 0.7)
    assert teacher.label_uncertain
    assert teacher.keep_certain
    assert all(s.overlaps for s in (found.classifier, found.pseudo_masks, found.segmenter))
