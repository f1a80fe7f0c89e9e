"""``segment``, ``maps``, ``convert`` and ``export`` on a tiny slide."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from napari_wsss.inference import SlideSegmentation, map_slide
from napari_wsss.models import Classifier, load_classifier, read_info, save_model
from napari_wsss.settings import InferenceSettings
from napari_wsss.slides import open_slide


@pytest.fixture
def segment(cli, segmenter, tmp_path):
    """Call 'segment' with a model and small blocks."""

    def run(*args):
        small = ("--set", "block_px=64", "--out", tmp_path / "out")
        return cli("segment", *args, "--model", segmenter, *small)

    return run


def test_a_result_and_its_summary(segment, slide, tmp_path):
    result = segment(slide, "--mpp", 0.5, "--json", tmp_path / "s.json")
    assert result.exit_code == 0, result.output
    summary = json.loads((tmp_path / "s.json").read_text("utf-8"))
    assert summary["failed"] == 0
    (row,) = summary["slides"]
    assert row["shape"] == [128, 160]
    assert row["mpp"] == 0.5
    pixels = {area["class"]: area["pixels"] for area in row["classes"]}
    assert sum(pixels.values()) == 128 * 160
    found = SlideSegmentation.open(row["result"])
    assert np.array_equal(
        np.unique(found.labels[:]), [i for i, n in enumerate(pixels.values()) if n]
    )
    assert "tumour" in result.stdout
    assert row["result"] in result.stdout


def test_unknown_mpp_is_asked_for(segment, slide, tmp_path):
    result = segment(slide)
    assert result.exit_code == 1
    assert "--mpp" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_failing_slide_does_not_stop_the_others(segment, slide, tmp_path):
    text, gone, last = tmp_path / "text.svs", tmp_path / "gone.svs", tmp_path / "last.png"
    text.write_text("not a slide")
    shutil.copy(slide, last)
    result = segment(text, slide, gone, last, "--mpp", 0.5, "--json", tmp_path / "s.json", "-q")
    assert result.exit_code == 1
    assert "2 of 4 slides failed" in result.stderr
    assert str(text) in result.stderr
    assert f"There is no file {gone}" in result.stderr
    rows = json.loads((tmp_path / "s.json").read_text("utf-8"))["slides"]
    assert ["error" in row for row in rows] == [True, False, True, False]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "a [1 0].ome.zarr",
        "last.ome.zarr",
    ]


def test_slides_of_one_name_are_refused_before_work(segment, slide, tmp_path):
    other = tmp_path / "b" / slide.name
    other.parent.mkdir()
    shutil.copy(slide, other)
    result = segment(slide, other, "--mpp", 0.5)
    assert result.exit_code == 1
    assert str(other) in result.stderr
    assert "same name" in result.stderr
    assert not (tmp_path / "out").exists()


def test_names_that_share_their_beginning_are_no_clash(segment, slide, tmp_path):
    slides = [tmp_path / name for name in ("TCGA-1.aa.png", "TCGA-1.bb.png")]
    for path in slides:
        shutil.copy(slide, path)
    assert segment(*slides, "--mpp", 0.5).exit_code == 0


def test_a_finished_result_is_not_made_again(segment, slide, tmp_path):
    assert segment(slide, "--mpp", 0.5).exit_code == 0
    (record,) = (tmp_path / "out").glob("*/run.json")
    written = record.stat().st_mtime_ns
    again = segment(slide, "--mpp", 0.5)
    assert again.exit_code == 0
    assert "finished already" in again.stderr
    assert record.stat().st_mtime_ns == written


def test_a_result_of_other_settings_is_kept_without_overwrite(segment, slide):
    assert segment(slide, "--mpp", 0.5).exit_code == 0
    other = ("--mpp", 0.5, "--set", "gate_threshold=0.4")
    again = segment(slide, *other)
    assert again.exit_code == 1
    assert "--overwrite" in again.stderr
    assert "gate_threshold" in again.stderr
    assert segment(slide, *other, "--overwrite").exit_code == 0


def test_maps(cli, classifier, slide, tmp_path):
    result = cli(
        *("maps", slide, "--classifier", classifier, "--out", tmp_path, "--mpp", 0.5),
        *("--json", "-", "--quiet", "--set", "block_px=64"),
    )
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["slides"]
    assert set(row["mean_evidence"]) == {"tumour", "stroma"}
    assert row["shape"] == [128, 160]


@pytest.fixture
def maps(cli, slide, tmp_path):
    """Call 'maps' with a classifier and small blocks."""

    def run(classifier, *args):
        small = ("--set", "block_px=64", "--out", tmp_path / "out", "--mpp", 0.5)
        return cli("maps", slide, "--classifier", classifier, *small, *args)

    return run


@pytest.mark.parametrize(("given", "number"), [("1", 1), ("-2", 2)])
def test_maps_of_a_depth_are_those_of_python(maps, classifier, slide, tmp_path, given, number):
    result = maps(classifier, "--depth", given)
    assert result.exit_code == 0, result.output
    written = tmp_path / "out" / f"a [1 0]-maps-depth-{number}.ome.zarr"
    assert str(written) in result.stdout
    with open_slide(slide, mpp=0.5) as opened:
        alone = map_slide(
            opened,
            load_classifier(classifier),
            tmp_path / "alone",
            InferenceSettings(block_px=64),
            depth=number,
        )
    for name in ("checksums.json", "run.json"):
        assert (written / name).read_bytes() == (alone.path / name).read_bytes()


@pytest.mark.parametrize(
    ("depth", "reason"), [("1", "needs gradients"), ("9", "no depth 9"), ("deep", "or 'joint'")]
)
def test_a_depth_that_cannot_be_had_is_said(maps, classifier, tmp_path, depth, reason):
    plain = tmp_path / "plain.safetensors"
    info = read_info(classifier)
    architecture = {"depths": info.architecture["depths"], "deep_supervision": False}
    model = Classifier(info.model_copy(update={"architecture": architecture}), load_weights=False)
    save_model(model.eval(), plain)
    result = maps(plain, "--depth", depth)
    assert result.exit_code == 1
    assert reason in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("out", "where"), [("x.ome.zarr", "x.ome.zarr"), ("folder", "folder/a [1 0].ome.zarr")]
)
def test_convert(cli, slide, tmp_path, out, where):
    result = cli("convert", slide, "--out", tmp_path / out, "--mpp", 0.25)
    assert result.exit_code == 0, result.output
    assert str(tmp_path / where) in result.stdout
    with open_slide(slide) as original, open_slide(tmp_path / where) as converted:
        assert converted.mpp == 0.25
        assert np.array_equal(
            converted.read_region(0, 0, 0, 128, 160), original.read_region(0, 0, 0, 128, 160)
        )


def test_export_both_ways(cli, result, tmp_path):
    geojson, csv = tmp_path / "r.geojson", tmp_path / "r.csv"
    done = cli("export", result, "--geojson", geojson, "--csv", csv, "--json", "-")
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    features = json.loads(geojson.read_text("utf-8"))["features"]
    assert summary["features"] == len(features) > 0
    stored = SlideSegmentation.open(result)
    areas = {row["class"]: row for row in summary["areas"]}
    for i, name in enumerate(stored.classes.names, 1):
        pixels = int((stored.labels[:] == i).sum())
        assert areas[name]["pixels"] == pixels
        assert areas[name]["area_mm2"] == pytest.approx(pixels * 0.25e-6)
    assert csv.read_text("utf-8").startswith("class,label,pixels")


def test_export_of_a_picture_over_the_slide(cli, result, slide, tmp_path):
    bare, over = tmp_path / "bare.png", tmp_path / "over.png"
    assert cli("export", result, "--picture", bare).exit_code == 0
    done = cli("export", result, "--picture", over, "--slide", slide, "--json", "-")
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    with Image.open(bare) as one, Image.open(over) as two:
        assert [two.height, two.width] == summary["picture_px"]
        assert one.size == two.size
        assert one.tobytes() != two.tobytes()


def test_export_takes_another_mpp_and_leaves_out_small_regions(cli, result, tmp_path):
    files = ("--geojson", tmp_path / "r.geojson.gz", "--csv", tmp_path / "r.csv")
    done = cli("export", result, *files, "--mpp", 1.0, "--min-area", 1e9, "--json", "-")
    summary = json.loads(done.stdout)
    assert summary["features"] == 0
    row = summary["areas"][0]
    assert row["area_mm2"] == pytest.approx(row["pixels"] * 1e-6)


def test_export_checks_everything_before_it_writes(cli, result, tmp_path):
    csv = tmp_path / "r.csv"
    csv.write_text("mine")
    done = cli("export", result, "--geojson", tmp_path / "r.geojson", "--csv", csv)
    assert done.exit_code == 1
    assert csv.read_text() == "mine"
    assert not (tmp_path / "r.geojson").exists()


def test_export_of_something_else_says_so(cli, slide, tmp_path):
    done = cli("export", slide.parent, "--csv", tmp_path / "r.csv")
    assert done.exit_code == 1
    assert "not a result" in done.stderr


def test_verify(cli, result, tmp_path):
    assert cli("verify", result).exit_code == 0
    spoilt = tmp_path / "spoilt.ome.zarr"
    shutil.copytree(result, spoilt)
    (chunk,) = (spoilt / "labels" / "segmentation" / "0" / "c").rglob("0/0")
    data = bytearray(chunk.read_bytes())
    data[-1] ^= 1
    chunk.write_bytes(data)
    done = cli("verify", spoilt, result, tmp_path / "gone.ome.zarr", "--json", tmp_path / "v.json")
    assert done.exit_code == 1
    assert "labels/segmentation/0/c/0/0" in done.stderr
    summary = json.loads((tmp_path / "v.json").read_text("utf-8"))
    assert summary["failed"] == 2
    assert [bool(row["problems"]) for row in summary["results"]] == [True, False, True]


def test_workers_give_the_same_result(process, segmenter, slide, result, tmp_path):
    done = process(
        *("segment", slide, "--model", segmenter, "--out", tmp_path, "--mpp", 0.5),
        *("--set", "block_px=64", "--quiet", "--workers", 2),
    )
    assert done.returncode == 0, done.stderr
    one, two = SlideSegmentation.open(result), SlideSegmentation.open(tmp_path / result.name)
    # Workers have fewer threads, which can change the last digit of a sum.
    assert (one.labels[:] != two.labels[:]).mean() < 1e-3
    assert abs(one.uncertainty()[:].astype(int) - two.uncertainty()[:]).max() <= 1


def test_workers_and_scheduler_exclude_each_other(segment, slide):
    done = segment(slide, "--mpp", 0.5, "--workers", 2, "--scheduler", "tcp://nowhere:1")
    assert done.exit_code == 1
    assert "not both" in done.stderr
