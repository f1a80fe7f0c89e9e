"""Settings on the command line: files, single changes, and the text that explains them."""

import tomllib

import pytest

from napari_wsss.cli.settings_text import commented_toml, settings_help
from napari_wsss.cli.stages import MODELS, Stage, field_rows, read_settings
from napari_wsss.errors import SettingsError
from napari_wsss.recipes import recipe
from napari_wsss.settings import (
    ClassifierSettings,
    InferenceSettings,
    PseudoMaskSettings,
    SegmenterSettings,
)


@pytest.mark.parametrize("stage", list(Stage))
def test_printed_settings_are_the_defaults(cli, stage):
    text = cli("settings", stage).stdout
    model = MODELS[stage]
    assert model.from_dict(tomllib.loads(text)) == model()


@pytest.mark.parametrize("stage", list(Stage))
def test_every_field_is_explained(stage):
    text, help_ = " ".join(commented_toml(stage).replace("\n#", "").split()), settings_help(stage)
    for name, _, description, _ in field_rows(MODELS[stage]):
        assert description
        assert description in text
        assert f"{name} = " in help_


def test_bounds_and_choices_are_named():
    text = commented_toml("classifier")
    assert "(one of adamw, sgd)" in text
    assert "(above 0, at most 1)" in text
    assert "(auto, at least 0.25, at most 8)" in text


def test_the_help_of_a_stage_lists_its_settings(cli):
    text = " ".join(cli("train-segmenter", "--help").stdout.split())
    assert "depth_weights = [0.2, 0.2, 0.6]" in text
    assert "optimiser.encoder_lr = 0.0003" in text


def test_changes_overrule_the_file_and_the_seed_both(tmp_path):
    file = tmp_path / "s.toml"
    file.write_text("epochs = 3\nseed = 4\nbatch_size = 8\n[encoder]\noutput_stride = 32\n")
    changes = ["epochs=5", "encoder.name=resnet18", "depths=[-2, -1]", "pda.enabled=false"]
    found = read_settings(ClassifierSettings, file, changes, seed=7)
    assert (found.epochs, found.batch_size, found.seed) == (5, 8, 7)
    assert (found.encoder.name, found.encoder.output_stride) == ("resnet18", 32)
    assert found.depths == (-2, -1)
    assert not found.pda.enabled


def test_a_recipe_is_what_file_and_changes_are_put_over(tmp_path):
    file = tmp_path / "s.toml"
    file.write_text("epochs = 3\n[optimiser]\nencoder_lr = 0.001\n")
    bundle = recipe("mlps").segmenter
    found = read_settings(SegmenterSettings, file, ["noise.loss=gce"], 7, "mlps")
    assert (found.epochs, found.seed, found.noise.loss) == (3, 7, "gce")
    assert found.depth_weights == bundle.depth_weights
    assert found.optimiser == bundle.optimiser.changed(encoder_lr=0.001)
    assert read_settings(PseudoMaskSettings, None, None, recipe="mlps").method == "gradcam"


def test_a_recipe_that_is_not_there_is_met_with_those_that_are():
    with pytest.raises(SettingsError, match=r"no recipe 'mlsp'; use mlps or default.*mean 'mlps'"):
        read_settings(ClassifierSettings, None, None, recipe="mlsp")


def test_without_anything_the_defaults_hold():
    assert read_settings(InferenceSettings, None, None) == InferenceSettings()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["epoch=3"], r"epoch \(did you mean epochs\?\)"),
        (["encoder.output_strid=8"], r"did you mean encoder\.output_stride"),
        (["epochs"], "KEY=VALUE"),
        (["=3"], "KEY=VALUE"),
        (["encoder..name=x"], "KEY=VALUE"),
        (["epochs=0"], "epochs: .*greater than or equal to 1"),
        (["epochs=many"], "epochs: .*integer"),
        (["encoder=resnet18"], "encoder: "),
        (["encoder.name.size=1"], r"encoder\.name: .*string"),
        (["encoder.output_stride=7"], r"encoder\.output_stride: .*8, 16 or 32"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(SettingsError, match=message):
        read_settings(ClassifierSettings, None, changes)


def test_all_unknown_names_are_listed(tmp_path):
    file = tmp_path / "s.toml"
    file.write_text("epoch = 3\n[pda]\nsigmas = 1\n")
    with pytest.raises(SettingsError, match=r"s\.toml") as caught:
        read_settings(ClassifierSettings, file, None)
    assert "epoch (" in str(caught.value)
    assert "pda.sigmas (" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no settings file"), (b"epochs = ", "TOML"), (b"\xff", "TOML")]
)
def test_unusable_files_are_named(tmp_path, cli, content, message):
    file = tmp_path / "s.toml"
    if content is not None:
        file.write_bytes(content)
    result = cli("train-classifier", "set", "--out", "model", "--settings", file)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "s.toml" in result.stderr
