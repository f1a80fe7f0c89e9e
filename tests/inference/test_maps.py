"""Class maps of whole slides: of every depth those of one pass, whatever stops the run."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_wsss.errors import CancelledError, ModelError
from napari_wsss.inference import (
    SlideMaps,
    find_maps,
    map_job,
    map_slide,
    segment_slide,
    verify_result,
)
from napari_wsss.jobs import BlockDone, CancelToken, Log, run_job
from napari_wsss.settings import InferenceSettings
from napari_wsss.slides import open_slide

SETTINGS = InferenceSettings(block_px=512, tissue_only=False, precision="fp32")
KINDS = {
    "a head at every depth": {"deep_supervision": True},
    "a joint head, too": {"deep_supervision": True, "joint_head": 8},
}


@pytest.fixture(scope="module")
def image():
    coarse = np.random.default_rng(0).integers(0, 256, (72, 56, 3), np.uint8)
    # Padded to multiples of 8, 16 and 32 px, as depths need it, it has three sizes.
    return coarse.repeat(16, 0).repeat(16, 1)[:1131, :869]


@pytest.fixture
def slide(image):
    return open_slide(image, mpp=0.5, name="a")


@pytest.fixture
def make(make_model):
    def make(encoder=None, **architecture):
        model = make_model("classifier", encoder=encoder, **architecture)
        model.info = model.info.model_copy(update={"mpp": 0.5})
        heads = [*model.heads, *([model.joint.classes] if model.joint is not None else [])]
        for head in heads:  # maps that are neither flat nor saturated
            torch.nn.init.normal_(head.weight)
            head.register_forward_hook(lambda h, _, out: h.weight.div_(out.std()))
        with torch.no_grad():
            model.eval()(torch.rand(1, 3, 256, 256))
        for head in heads:
            head._forward_hooks.clear()
        return model

    return make


def files(path: Path) -> dict[str, bytes]:
    names = [p for p in path.rglob("*") if p.is_file() and p.name != ".lock"]
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in names}


def whole_maps(model, image):
    """The evidence of every depth, by one pass over the whole image, mirrored at its ends."""
    step = model.alignment_px
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % step), (0, -width % step), (0, 0)), mode="symmetric")
    x = torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        features = model.features(x)
        maps = model.head_maps(features)
        if model.joint is not None:
            maps.append(model.joint_map(features))
        large = [
            torch.nn.functional.interpolate(m, x.shape[2:], mode="bilinear", align_corners=False)
            for m in maps
        ]
    return [torch.sigmoid(m)[0, :, :height, :width].numpy() * 254 for m in large]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("upscale", [1.0, 1.5])
def test_the_map_of_a_depth_is_that_of_one_pass_over_the_image(
    make, image, slide, tmp_path, kind, upscale
):
    model = make({"upscale": upscale}, **KINDS[kind])
    expected = whole_maps(model, image)
    chosen = [1, 2, 3] + (["joint"] if model.joint is not None else [])
    for depth, oracle in zip(chosen, expected, strict=True):
        found = map_slide(slide, model, tmp_path, SETTINGS, depth=depth, device="cpu").maps[:]
        difference = np.abs(found - oracle)
        assert difference.max() < 0.55  # rounded to whole numbers
        assert oracle.std() > 5
    # Depths differ, so that each test above shows something.
    for one, other in itertools.pairwise(expected):
        assert np.abs(one - other).max() > 20


def test_depths_lie_side_by_side_and_say_what_they_are(make, slide, tmp_path):
    model = make(deep_supervision=True)
    made = {d: map_slide(slide, model, tmp_path, SETTINGS, depth=d) for d in (None, 1, -1)}
    assert {d: m.path.name for d, m in made.items()} == {
        None: "a-maps.ome.zarr",
        1: "a-maps-depth-1.ome.zarr",
        -1: "a-maps-depth-3.ome.zarr",
    }
    assert [m.depth for m in made.values()] == [None, 1, 3]
    records = [json.loads((m.path / "run.json").read_text("utf-8")) for m in made.values()]
    assert "depth" not in records[0]
    assert [r["depth"] for r in records[1:]] == [1, 3]
    # All by the same model, which a reader of the record can find again.
    assert len({r["model"]["sha256"] for r in records}) == 1
    assert records[1]["model"]["architecture"] == model.info.architecture
    assert all(verify_result(m.path) == [] for m in made.values())
    assert SlideMaps.open(made[1].path).depth == 1


def test_the_own_map_by_another_name_is_not_made_twice(make, slide, tmp_path):
    first = map_slide(slide, make(joint_head=8), tmp_path, SETTINGS)
    said = []
    again = map_slide(
        slide, make(joint_head=8), tmp_path, SETTINGS, depth="joint", on_event=said.append
    )
    assert again.path == first.path
    assert any("finished already" in e.message for e in said if isinstance(e, Log))


def test_the_mean_of_the_heads_is_the_own_map(make, slide, tmp_path):
    model = make(deep_supervision=True)

    def logits(depth):
        evidence = map_slide(slide, model, tmp_path, SETTINGS, depth=depth).maps[:, 400:700]
        share = evidence.astype(float) / 254
        kept = (share > 0.05) & (share < 0.95)  # rounding counts for much beyond
        with np.errstate(divide="ignore"):
            return np.log(share / (1 - share)), kept

    found = [logits(d) for d in (None, 1, 2, 3)]
    kept = np.all([k for _, k in found], 0)
    assert kept.mean() > 0.2
    mean = np.mean([v for v, _ in found[1:]], 0)
    assert np.abs(mean - found[0][0])[kept].max() < 0.1


def test_a_stopped_run_goes_on_to_the_same_bytes(make, slide, tmp_path):
    model = make(deep_supervision=True)
    alone = map_slide(slide, model, tmp_path / "alone", SETTINGS, depth=2)
    token = CancelToken()
    job = map_job(slide, model, tmp_path, SETTINGS, depth=2, cancel=token)
    with pytest.raises(CancelledError):
        run_job(job, lambda event: isinstance(event, BlockDone) and token.cancel())
    said = []
    again = map_slide(slide, model, tmp_path, SETTINGS, depth=2, on_event=said.append)
    assert any("are done" in e.message for e in said if isinstance(e, Log))
    assert files(again.path) == files(alone.path)


def test_a_depth_that_cannot_be_had_is_told_before_anything_is_written(make, slide, tmp_path):
    for depth, reason in ((1, "needs gradients"), (4, "no depth 4"), ("joint", "no joint head")):
        with pytest.raises(ModelError, match=reason):
            map_slide(slide, make(), tmp_path / "out", SETTINGS, depth=depth)
    assert not (tmp_path / "out").exists()


def test_maps_are_no_segmentation_of_the_slide(make, slide, tmp_path):
    """A slide keeps its segmentation, its maps and those of a depth in one folder."""
    model = make(deep_supervision=True)
    segment_slide(slide, model, tmp_path, SETTINGS)
    map_slide(slide, model, tmp_path, SETTINGS)
    map_slide(slide, model, tmp_path, SETTINGS, depth=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a-maps-depth-1.ome.zarr", "a-maps.ome.zarr", "a.ome.zarr",
    ]  # fmt: skip


def test_maps_are_found_again_begun_or_finished(make, slide, image, tmp_path):
    model = make(deep_supervision=True)
    assert find_maps(slide, model, tmp_path, depth=2) is None
    token = CancelToken()
    job = map_job(slide, model, tmp_path, SETTINGS, depth=2, cancel=token)
    with pytest.raises(CancelledError):
        run_job(job, lambda event: isinstance(event, BlockDone) and token.cancel())
    begun = find_maps(slide, model, tmp_path, depth=-2)
    assert begun == map_slide(slide, model, tmp_path, SETTINGS, depth=2).path
    assert find_maps(slide, model, tmp_path, depth=2) == begun
    assert find_maps(slide, model, tmp_path) is None
    assert find_maps(slide, model, tmp_path, depth=1) is None
    # Another slide of that name, another classifier, something else at that place.
    other = open_slide(255 - image, mpp=0.5, name="a")
    assert find_maps(other, model, tmp_path, depth=2) is None
    assert find_maps(slide, make(deep_supervision=True, joint_head=8), tmp_path, depth=2) is None
    for content in ("no record", "[]", '{"kind": "maps", "slide": 3}'):
        (begun / "run.json").write_text(content)
        assert find_maps(slide, model, tmp_path, depth=2) is None
