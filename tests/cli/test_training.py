"""``train-classifier``, ``pseudo-masks`` and ``train-segmenter`` on tiny patches."""

import json

import pytest
from safetensors.torch import load_file

from napari_wsss import load_patches, train_classifier
from napari_wsss.cams import PseudoMasks
from napari_wsss.models import read_info
from napari_wsss.settings import ClassifierSettings, EncoderSettings


def test_the_classifier_and_its_summary(cli, dataset, tiny, tmp_path):
    out = tmp_path / "c.safetensors"
    result = cli("train-classifier", dataset, "--out", out, *tiny, "--seed", 5, "--json", "-")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["model"] == str(out)
    assert summary["kind"] == "classifier"
    assert summary["classes"] == ["tumour", "stroma"]
    assert summary["mpp"] == 0.5
    assert summary["epochs"] == 1
    assert summary["metrics"]["loss"] > 0
    info = read_info(out)
    assert (info.seed, info.encoder.output_stride, info.patch_size_px) == (5, 32, 32)


def test_the_command_and_the_function_write_the_same_bytes(cli, dataset, tiny, tmp_path):
    ours = tmp_path / "command.safetensors"
    assert cli("train-classifier", dataset, "--out", ours, *tiny, "--seed", 5).exit_code == 0
    settings = ClassifierSettings(
        encoder=EncoderSettings(weights="random", upscale=1.0, output_stride=32),
        epochs=1,
        steps_per_epoch=1,
        batch_size=2,
        validation_share=0,
        seed=5,
    )
    other = tmp_path / "function.safetensors"
    train_classifier(load_patches(dataset), other, settings, device="cpu")
    assert tensors(ours) == tensors(other)
    assert read_info(ours) == read_info(other).model_copy(
        update={"metrics": read_info(ours).metrics}
    )
    assert read_info(ours).metrics["loss"] == read_info(other).metrics["loss"]


def tensors(path):
    """Return the bytes of every tensor of a checkpoint."""
    return {k: v.numpy().tobytes() for k, v in load_file(str(path)).items()}


def test_an_existing_model_is_kept_without_overwrite(cli, dataset, classifier, tiny):
    before = classifier.read_bytes()
    result = cli("train-classifier", dataset, "--out", classifier, *tiny)
    assert result.exit_code == 1
    assert "--overwrite" in result.stderr
    assert classifier.read_bytes() == before


def test_mpp_of_the_patches_can_be_given(cli, dataset, tiny, tmp_path):
    out = tmp_path / "c.safetensors"
    assert cli("train-classifier", dataset, "--out", out, *tiny, "--mpp", 0.25).exit_code == 0
    assert read_info(out).mpp == 0.25


def test_pseudo_masks_are_measured_on_demand(cli, dataset, classifier, tmp_path):
    args = ("pseudo-masks", dataset, "--classifier", classifier, "--out", tmp_path / "p")
    result = cli(*args, "--check-against", dataset / "masks", "--json", tmp_path / "s.json")
    assert result.exit_code == 0, result.output
    assert "where wholly certain" in result.stdout
    assert "share of the pixels that have a class" in result.stdout
    summary = json.loads((tmp_path / "s.json").read_text("utf-8"))
    assert summary["patches"] == 18
    assert [row["depth"] for row in summary["quality"]["depths"]] == [1]  # the joint head's
    assert 0 <= summary["quality"]["depths"][-1]["miou"] <= 1


def test_masks_to_check_against_must_exist_before_work(cli, dataset, classifier, tmp_path):
    out = tmp_path / "p"
    args = ("pseudo-masks", dataset, "--classifier", classifier, "--out", out)
    result = cli(*args, "--check-against", tmp_path / "none")
    assert result.exit_code == 1
    assert "There is no folder of masks" in result.stderr
    assert not out.exists()


def test_a_segmenter_makes_the_masks_of_a_second_round(cli, dataset, segmenter, tiny, tmp_path):
    masks, out = tmp_path / "p", tmp_path / "second.safetensors"
    result = cli("pseudo-masks", dataset, "--classifier", segmenter, "--out", masks)
    assert result.exit_code == 0, result.output
    assert PseudoMasks(masks).made_by == "segmenter"
    again = cli("train-segmenter", dataset, "--pseudo-masks", masks, "--out", out, *tiny)
    assert again.exit_code == 0, again.output


def test_a_segmenter_has_no_maps_of_a_classifier(cli, dataset, segmenter, tmp_path):
    args = ("--classifier", segmenter, "--out", tmp_path / "p", "--set", "method=joint")
    result = cli("pseudo-masks", dataset, *args)
    assert result.exit_code == 1
    assert "Set method = 'auto'" in result.stderr
    assert not (tmp_path / "p").exists()


def test_supervision_is_what_was_asked_for(cli, dataset, segmenter, tiny, tmp_path):
    assert read_info(segmenter).supervision == "pseudo masks"
    out = tmp_path / "full.safetensors"
    result = cli("train-segmenter", dataset, "--masks", dataset / "masks", "--out", out, *tiny)
    assert result.exit_code == 0, result.output
    assert read_info(out).supervision == "true masks"
    assert "from true masks" in result.stdout


@pytest.mark.parametrize(
    ("option", "words"),
    [("--masks", "There is no folder of masks"), ("--pseudo-masks", "holds no pseudo masks")],
)
def test_missing_targets_are_named(cli, dataset, tiny, tmp_path, option, words):
    out = tmp_path / "m.safetensors"
    result = cli("train-segmenter", dataset, option, tmp_path / "none", "--out", out, *tiny)
    assert result.exit_code == 1
    assert words in result.stderr
    assert not out.exists()


def test_a_pickle_is_refused_as_a_model(cli, dataset, tmp_path):
    model = tmp_path / "m.safetensors"
    model.write_bytes(b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.")
    result = cli("pseudo-masks", dataset, "--classifier", model, "--out", tmp_path / "p")
    assert result.exit_code == 1
    assert "m.safetensors" in result.stderr
    assert not (tmp_path / "pwned").exists()


def test_unlabelled_tiles_are_learnt_from_besides(cli, dataset, classifier, tiny, tmp_path):
    masks, out = tmp_path / "pseudo", tmp_path / "s.safetensors"
    assert cli("pseudo-masks", dataset, "--classifier", classifier, "--out", masks).exit_code == 0
    command = ("train-segmenter", dataset, "--pseudo-masks", masks, "--out", out, *tiny)
    off = ("--set", "teacher.decay=0", "--set", "teacher.relabel_from=1")
    refused = cli(*command, *off, "--unlabelled", dataset / "images")
    assert refused.exit_code == 1
    assert "Set teacher.decay" in refused.stderr
    teacher = ("--set", "teacher.decay=0.9", "--set", "teacher.relabel_from=0")
    found = cli(*command, *teacher, "--unlabelled", dataset / "images", "--json", "-")
    assert found.exit_code == 0, found.output
    assert read_info(out).training["teacher"]["decay"] == 0.9


@pytest.mark.parametrize("command", ["train-classifier", "pseudo-masks", "train-segmenter"])
def test_every_stage_takes_a_recipe_by_name(cli, dataset, tmp_path, command):
    more = {
        "train-classifier": (),
        "pseudo-masks": ("--classifier", tmp_path / "c.safetensors"),
        "train-segmenter": ("--pseudo-masks", tmp_path / "pseudo"),
    }[command]
    found = cli(command, dataset, *more, "--out", tmp_path / "out", "--recipe", "paper")
    assert found.exit_code == 1
    assert "There is no recipe 'paper'; use mlps or default." in " ".join(found.stderr.split())
