from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_wsss.cams import (
    PseudoMasks,
    generate_pseudo_masks,
    pseudo_mask_job,
)
from napari_wsss.cams.masks import agreement
from napari_wsss.classes import ClassTable
from napari_wsss.errors import CancelledError, DataError, ModelError, OutputError
from napari_wsss.jobs import CancelToken, Progress
from napari_wsss.models import Classifier
from napari_wsss.patches import PatchSet
from napari_wsss.settings import PseudoMaskSettings


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def out(tmp_path):
    return tmp_path / "masks"


@pytest.mark.parametrize(
    ("method", "flips"), [("gradcam", False), ("gradcam", True), ("heads", False)]
)
def test_masks_hold_only_classes_of_the_label(make_classifier, patches, out, method, flips):
    model = make_classifier(
        name="tf_efficientnet_lite0", weights="packaged", deep_supervision=method == "heads"
    )
    settings = PseudoMaskSettings(method=method, flips=flips, batch_size=3, glass="tissue")
    masks = generate_pseudo_masks(patches, model, out, settings)
    assert (masks.depths, masks.classes.names) == (3, ("a", "b", "c"))
    several = 0
    for name, row in zip(patches.names, patches.labels, strict=True):
        found = masks.targets(name)
        assert found.shape == (3, 48, 48)
        assert set(np.unique(found)) <= set(np.flatnonzero(row))
        several += len(np.unique(found)) > 1
        share = (found == found[-1]).mean(0)
        np.testing.assert_allclose(masks.agreement(name), share, atol=1 / 255)
    assert several >= 2  # the maps do decide


def test_the_joint_head_writes_one_mask_and_how_certain_it_is(make_classifier, patches, out):
    model = make_classifier(
        name="tf_efficientnet_lite0", weights="packaged", joint_head=16, depths=[-3, -2, -1]
    )
    settings = PseudoMaskSettings(method="joint", certainty=0, glass="tissue")
    masks = generate_pseudo_masks(patches, model, out, settings)
    assert masks.depths == 1
    assert not (out / "depth-2").exists()
    for name, row in zip(patches.names, patches.labels, strict=True):
        found, certainty = masks.targets(name), masks.agreement(name)
        assert set(np.unique(found)) <= set(np.flatnonzero(row))
        assert certainty.min() >= 1 / row.sum() - 0.005
        assert (certainty == 1).all() == (row.sum() == 1)


def test_a_segmenter_makes_the_masks_of_a_second_round(segmenter, patches, out):
    settings = PseudoMaskSettings(certainty=0, glass="tissue")
    masks = generate_pseudo_masks(patches, segmenter, out, settings)
    assert (masks.depths, masks.made_by) == (1, "segmenter")
    assert masks.encoder_name == segmenter.encoder.settings.name
    several = 0
    for i, (name, row) in enumerate(zip(patches.names, patches.labels, strict=True)):
        found, certainty = masks.targets(name)[0], masks.agreement(name)
        assert set(np.unique(found)) <= set(np.flatnonzero(row))
        several += len(np.unique(found)) > 1
        if row.sum() == 1:
            assert (certainty == 1).all()
            continue
        expected = by_hand(segmenter, patches.read(i), row)
        assert (found == expected.argmax(0)).mean() > 0.99
        np.testing.assert_allclose(certainty, expected.max(0), atol=0.01)
    assert several  # the network does decide


def by_hand(segmenter, rgb, row):
    """Return the mean over the four flips of the probabilities of the label's classes."""
    image = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
    absent = torch.tensor(~row)[None, :, None, None]
    total = 0
    for axes in ((), (2,), (3,), (2, 3)):
        with torch.inference_mode():
            logits = segmenter.dense(image.flip(axes)).logits.flip(axes)
        total = total + logits.masked_fill(absent, -99).softmax(1)[0].numpy()
    return total / 4


@pytest.mark.parametrize("method", ["gradcam", "heads", "joint"])
def test_a_segmenter_has_no_maps_of_a_classifier(segmenter, patches, out, method):
    with pytest.raises(ModelError, match=f"segmenter has no maps by method '{method}'"):
        generate_pseudo_masks(patches, segmenter, out, PseudoMaskSettings(method=method))
    assert not out.exists()


def test_a_classifier_has_no_map_of_a_segmenter(classifier, patches, out):
    with pytest.raises(ModelError, match="classifier has no maps by method 'segmenter'"):
        generate_pseudo_masks(patches, classifier, out, PseudoMaskSettings(method="segmenter"))


def test_absent_classes_lose_even_to_maps_of_nothing(classifier, patches, out):
    for head in classifier.heads:
        torch.nn.init.zeros_(head.weight)
    masks = generate_pseudo_masks(patches, classifier, out)
    for name, row in zip(patches.names, patches.labels, strict=True):
        assert (masks.targets(name) == row.argmax()).all()


def test_patches_with_one_label_never_reach_the_network(
    make_patches, classifier, out, monkeypatch
):
    patches = make_patches(("100", "010", "001"))
    monkeypatch.setattr(Classifier, "features", lambda *_: pytest.fail("network was used"))
    masks = generate_pseudo_masks(patches, classifier, out)
    for i, name in enumerate(patches.names):
        assert (masks.targets(name) == i).all()
        assert (masks.agreement(name) == 1).all()


@pytest.mark.parametrize("batch_size", [1, 4])
def test_masks_do_not_depend_on_batches_or_sizes(make_patches, classifier, out, batch_size):
    patches = make_patches(("101", "011", "110", "111"), sizes=(48, 33))
    settings = PseudoMaskSettings(batch_size=batch_size)
    masks = generate_pseudo_masks(patches, classifier, out, settings)
    for i, name in enumerate(patches.names):
        assert masks.targets(name).shape == (3, *patches.read(i).shape[:2])
        alone = generate_pseudo_masks(
            patches.subset([i]), classifier, out.with_name(f"alone{i}"), settings
        )
        same = alone.targets(name) == masks.targets(name)
        assert same.mean() > 0.99


def test_uncertain_tissue_is_told_from_glass(make_patches, make_classifier, out):
    patches = make_patches(("110", "011", "100"), white=16)
    model = make_classifier(
        name="tf_efficientnet_lite0", weights="packaged", joint_head=16, depths=[-3, -2, -1]
    )
    torch.nn.init.normal_(model.joint.classes.weight, std=3.0)  # sure here, unsure there
    masks = generate_pseudo_masks(patches, model, out, PseudoMaskSettings(certainty=0.95))
    for name, row in zip(patches.names, patches.labels, strict=True):
        found, unsure = masks.targets(name)[0], masks.unsure(name)
        assert (found[:15] == 255).all()
        assert not unsure[:15].any()
        np.testing.assert_array_equal(unsure[17:], found[17:] == 255)
        assert unsure.any() == (row.sum() > 1)
    record = json.loads((out / "pseudo_masks.json").read_text())
    record.pop("glass_is_certain")  # as versions were that did not tell them apart
    (out / "pseudo_masks.json").write_text(json.dumps(record))
    assert not masks.unsure(patches.names[0]).any()


def test_agreement_is_the_share_of_depths_equal_to_the_deepest():
    masks = np.array([[[0, 0, 1]], [[0, 1, 1]], [[0, 1, 2]]], np.uint8)
    assert agreement(masks).tolist() == [[255, 170, 85]]
    assert agreement(masks[:1]).tolist() == [[255, 255, 255]]


@pytest.mark.parametrize(
    ("glass", "ignored"), [("ignore", True), ("tissue", False), ("auto", True)]
)
def test_glass_is_left_out_if_it_is_no_tissue(make_patches, classifier, out, glass, ignored):
    patches = make_patches(("100", "011"), white=16)
    assert patches.glass == "ignore"  # its table ignores a value
    masks = generate_pseudo_masks(patches, classifier, out, PseudoMaskSettings(glass=glass))
    for name in patches.names:
        found = masks.targets(name)
        assert (found[:, :15] == 255).all() == ignored
        assert (found[:, 17:] != 255).all()
    assert masks.record["settings"]["glass"] == ("ignore" if ignored else "tissue")


def test_small_bright_spots_stay_tissue(make_patches, classifier, out):
    patches = make_patches(("100",), white=1)  # 48 px
    masks = generate_pseudo_masks(patches, classifier, out)
    assert (masks.targets(patches.names[0]) == 0).all()


# -- resuming ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cancelled", "closed"])
def test_a_resumed_folder_equals_one_made_at_once(patches, classifier, tmp_path, how):
    settings = PseudoMaskSettings(batch_size=1)
    straight = tmp_path / "straight"
    generate_pseudo_masks(patches, classifier, straight, settings)
    out, cancel = tmp_path / "out", CancelToken()
    job = pseudo_mask_job(patches, classifier, out, settings, cancel=cancel)

    def start():
        for event in job:
            if isinstance(event, Progress) and event.done == 4:
                cancel.cancel()
                if how == "closed":
                    job.close()
                    raise CancelledError

    with pytest.raises(CancelledError):
        start()
    with pytest.raises(DataError, match="not finished"):
        PseudoMasks(out)
    finished = {k: v for k, v in contents(out).items() if k.endswith(".png")}
    stamps = {k: (out / k).stat().st_mtime_ns for k in finished}
    # A cancelled job writes what is computed, one patch ahead of what it has told.
    assert len(finished) == 4 * {"cancelled": 5, "closed": 4}[how]
    first = next(iter(finished))
    (out / first).unlink()  # as if killed between two files of a patch
    generate_pseudo_masks(patches, classifier, out, settings)
    assert contents(out) == contents(straight)
    again = {k for k, t in stamps.items() if (out / k).stat().st_mtime_ns != t}
    assert {k.rsplit("/")[-1] for k in again} == {first.rsplit("/")[-1]}


def test_finished_folders_are_kept(patches, classifier, out):
    generate_pseudo_masks(patches, classifier, out)
    before = contents(out)
    with pytest.raises(OutputError, match=r"exists(.|\n)*--overwrite"):
        generate_pseudo_masks(patches, classifier, out)
    assert contents(out) == before
    settings = PseudoMaskSettings(glass="tissue")
    replaced = generate_pseudo_masks(patches, classifier, out, settings, overwrite=True)
    assert replaced.record["settings"]["glass"] == "tissue"


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_not_ours_is_never_replaced(patches, classifier, out, kind):
    if kind == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "thesis.doc").write_text("mine")
    with pytest.raises(OutputError, match="by hand"):
        generate_pseudo_masks(patches, classifier, out, overwrite=True)
    assert (out if kind == "file" else out / "thesis.doc").read_text() == "mine"


@pytest.mark.parametrize("change", ["weights", "settings", "patches", "scale"])
def test_an_unfinished_folder_of_other_inputs_is_refused(patches, classifier, out, change):
    job = pseudo_mask_job(patches, classifier, out, PseudoMaskSettings(batch_size=2))
    for event in job:
        if isinstance(event, Progress):
            job.close()
    settings = PseudoMaskSettings(batch_size=2, flips=change != "settings")
    if change == "weights":
        with torch.no_grad():
            classifier.heads[0].weight[0, 0] += 1
    elif change == "patches":
        patches = patches.subset(range(5))
    elif change == "scale":
        encoder = classifier.info.encoder.changed(upscale=2.0)
        bigger = Classifier(classifier.info.model_copy(update={"encoder": encoder}))
        bigger.load_state_dict(classifier.state_dict())
        classifier = bigger
    with pytest.raises(OutputError, match="exists"):
        generate_pseudo_masks(patches, classifier, out, settings)


@pytest.mark.parametrize("text", ["{", "[]", '{"depths": 3}', ""])
def test_a_damaged_record_is_told_and_can_be_replaced(patches, classifier, out, text):
    generate_pseudo_masks(patches, classifier, out)
    (out / "pseudo_masks.json").write_text(text)
    for attempt in (
        lambda: PseudoMasks(out),
        lambda: generate_pseudo_masks(patches, classifier, out),
    ):
        with pytest.raises(DataError, match=r"pseudo_masks\.json"):
            attempt()
    generate_pseudo_masks(patches, classifier, out, overwrite=True)
    assert PseudoMasks(out).depths == 3


# -- refusing ---------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("b", "a", "c"), ("a", "b", "c", "d"), ("a", "b", "x")])
def test_a_classifier_of_other_classes_is_refused(make_classifier, patches, out, names):
    model = make_classifier(classes=ClassTable.from_names(names))
    with pytest.raises(ModelError, match=f"knows {', '.join(names)}; the patches have a, b, c"):
        generate_pseudo_masks(patches, model, out)
    assert not out.exists()


def test_patches_without_label_are_named(make_patches, classifier, out):
    patches = make_patches()
    labels = patches.labels.copy()
    labels[[1, 3]] = False
    with pytest.raises(DataError, match="2 patches have no label") as caught:
        generate_pseudo_masks(replace(patches, labels=labels), classifier, out)
    assert "p1" in str(caught.value)
    assert "p3" in str(caught.value)


@pytest.mark.parametrize("where", ["heads", "encoder"])
def test_maps_that_are_no_numbers_name_the_patch(patches, classifier, out, where):
    module = classifier.heads[0] if where == "heads" else classifier.encoder.net.conv1
    with torch.no_grad():
        next(module.parameters()).fill_(torch.nan)
    with pytest.raises(ModelError, match=r"maps of patch 'p0' are no numbers"):
        generate_pseudo_masks(patches, classifier, out)
    with pytest.raises(DataError, match="not finished"):
        PseudoMasks(out)


def test_unreadable_patches_are_named(patches, classifier, out):
    patches.paths[2].write_bytes(patches.paths[2].read_bytes()[:200])
    with pytest.raises(DataError, match=r"p2\.png"):
        generate_pseudo_masks(patches, classifier, out)


def test_masks_of_the_patches_are_never_read(patches, classifier, out, monkeypatch):
    monkeypatch.setattr(PatchSet, "read_mask", lambda *_: pytest.fail("a mask was read"))
    with_masks = replace(patches, masks=tuple(p.with_suffix(".none") for p in patches.paths))
    generate_pseudo_masks(with_masks, classifier, out)


def test_a_full_disk_is_told_and_the_rest_can_follow(patches, classifier, out, monkeypatch):
    replaced = []
    original = __import__("os").replace

    def full(source, target):
        replaced.append(target)
        if len(replaced) > 6:
            raise OSError(28, "No space left on device")
        original(source, target)

    monkeypatch.setattr("napari_wsss.files.os.replace", full)
    with pytest.raises(OutputError, match="full"):
        generate_pseudo_masks(patches, classifier, out)
    monkeypatch.undo()
    assert not [k for k in contents(out) if "/." in k]  # no half-written files
    assert generate_pseudo_masks(patches, classifier, out).depths == 3


#: Labels of patches that overlap, by their place.
OVERLAPPING = {(0, 0): "110", (0, 24): "010", (24, 0): "011", (72, 72): "111"}


def test_pseudo_masks_keep_to_what_overlapping_labels_allow(
    make_overlapping, make_classifier, tmp_path
):
    patches = make_overlapping(OVERLAPPING)
    events = []
    settings = PseudoMaskSettings(overlaps=True)
    pseudo = generate_pseudo_masks(
        patches, make_classifier(), tmp_path / "p", settings, on_event=events.append
    )
    first = pseudo.targets(patches.names[0])
    assert (first[:, :24, 24:] == 1).all()
    assert (first[:, 24:, :24] == 1).all()
    assert (pseudo.agreement(patches.names[0])[:24, 24:] == 1).all()
    assert any("3 pairs" in getattr(e, "message", "") for e in events)
