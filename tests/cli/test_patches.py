"""``patches from-masks`` and ``patches report``."""

import json
import shutil

import pytest


@pytest.fixture
def cut(cli, pairs, tmp_path):
    """Call 'patches from-masks' with the usual arguments and some more."""

    def run(*args, images=None):
        return cli(
            *("patches", "from-masks", images or pairs / "images", pairs / "masks"),
            *("--classes", pairs / "classes.toml", "--size", 32, "--stride", 32),
            *("--min-share", 0.05, "--out", tmp_path / "set", *args),
        )

    return run


def test_from_masks_writes_a_set_and_its_summary(cut, tmp_path):
    result = cut("--mpp", 0.5, "--split", "val", "--json", tmp_path / "s.json")
    assert result.exit_code == 0, result.output
    assert "18 patches of 32 px" in result.stdout
    assert "cut: 3/3" in result.stderr
    summary = json.loads((tmp_path / "s.json").read_text("utf-8"))
    assert summary["patches"] == 18
    assert summary["groups"] == 3
    assert summary["classes"] == {"tumour": 12, "stroma": 12}
    assert summary["mpp"] == 0.5
    assert summary["glass"] == "ignore"
    assert (tmp_path / "set" / "dataset.toml").is_file()


def test_options_reach_the_cutting(cut):
    result = cut("--glass", "tissue", "--min-share", 0.3, "--json", "-", "--quiet")
    summary = json.loads(result.stdout)
    assert summary["glass"] == "tissue"
    assert summary["classes"] == {"tumour": 6, "stroma": 12}
    assert summary["single_label"] == 18
    assert summary["mpp"] is None


def test_an_existing_set_is_kept_without_overwrite(cut):
    assert cut().exit_code == 0
    again = cut()
    assert again.exit_code == 1
    assert "--overwrite" in again.stderr
    assert cut("--overwrite").exit_code == 0


def test_images_without_masks_are_listed(cut, pairs, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(pairs / "images", images)
    for name in ("lonely1.png", "lonely2.png"):
        shutil.copy(pairs / "images" / "case0.png", images / name)
    result = cut(images=images)
    assert result.exit_code == 1
    assert "lonely1" in result.stderr
    assert "lonely2" in result.stderr
    assert not (tmp_path / "set").exists()


def test_report_counts(cli, dataset):
    result = cli("patches", "report", dataset, "--json", "-")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["n_patches"] == 18
    assert report["classes"] == {"tumour": 12, "stroma": 12}
    assert report["combinations"] == {"tumour": 6, "tumour + stroma": 6, "stroma": 6}
    assert report["sizes_px"] == {"32 x 32": 18}


def test_report_fails_where_training_would(cli, dataset, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(dataset, broken)
    for path in sorted(broken.rglob("images/*.png"))[:2]:
        path.write_bytes(path.read_bytes()[:60])
    result = cli("patches", "report", broken)
    assert result.exit_code == 1
    assert result.stdout.count("case0_y00000_x000") >= 2
    assert "18 patches in 3 groups" in result.stdout


def test_report_of_a_folder_that_is_no_set_says_what_is_understood(cli, tmp_path):
    result = cli("patches", "report", tmp_path)
    assert result.exit_code == 1
    assert "What is understood" in result.stderr
