"""Class maps of patches, and the pseudo masks of a data set."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from superqt import QCollapsible

from napari_wsss.cams import Explainer, PseudoMasks, generate_pseudo_masks
from napari_wsss.classes import ClassTable
from napari_wsss.models import Classifier, load_classifier
from napari_wsss.panels.cams import CamPanel
from napari_wsss.panels.support.state import state_of
from napari_wsss.patches import load_patches
from napari_wsss.settings import PseudoMaskSettings

CLASSES = ClassTable.from_names(
    ["gland", "stroma", "fat"], values=[0, 1, 2], colors=["#d55e00", "#009e73", "#0072b2"]
)
WAIT = 20_000


# -- what is missing ---------------------------------------------------------------------------


def test_it_says_what_is_missing_and_disables_what_cannot_work(
    viewer, add_panel, model, qtbot, choose
):
    panel = add_panel(CamPanel)
    assert "Choose a classifier" in panel.look.message.text()
    assert not panel.look.button.isEnabled()
    assert not panel.masks.work.button.isEnabled()
    panel.classifier.path = model
    qtbot.waitUntil(lambda: "Load a data set" in panel.look.message.text(), timeout=WAIT)
    assert state_of(viewer).classifier == model
    choose(panel, 1)
    assert "first is not an RGB image" in panel.look.message.text()
    assert not panel.region.button.isEnabled()
    choose(panel, 2)
    assert not panel.whole.work.button.isEnabled()
    assert "first is not an RGB image" in panel.whole.work.message.text()
    viewer.layers.clear()
    assert "Open a slide first" in panel.whole.work.message.text()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda m, p: m(p, names=("a", "b")), "the data set has gland, stroma, fat"),
        (lambda m, p: m(p, kind="segmenter"), "needs? a classifier|is a segmenter"),
        (lambda m, p: p.write_bytes(b"no model") and p, "not a model"),
    ],
)
def test_models_that_do_not_fit_are_told(
    viewer, add_panel, patches, tmp_path, qtbot, make, reason, make_model
):
    panel = add_panel(CamPanel)
    state_of(viewer).set(patch_set=patches)
    panel.classifier.path = make(make_model, tmp_path / "other.safetensors")
    qtbot.waitUntil(lambda: bool(re.search(reason, panel.look.message.text())), timeout=WAIT)
    assert not panel.look.button.isEnabled()
    assert not panel.masks.work.button.isEnabled()


def test_layers_that_are_no_slide_are_told(viewer, ready, choose):
    choose(ready, 1)
    viewer.add_image(np.zeros((64, 64)), name="grey")
    ready.slides.chooser.layer = viewer.layers["grey"]
    assert "grey is not an RGB image" in ready.look.message.text()
    assert not ready.region.button.isEnabled()
    viewer.add_image(np.zeros((20, 20, 3), np.uint8), rgb=True, name="small")
    assert "too small" in ready.look.message.text()
    plain = viewer.add_image(np.zeros((64, 64, 3), np.uint8), rgb=True, name="plain")
    ready.slides.chooser.layer = plain
    assert "how many µm" in ready.look.message.text()
    ready.slides.slide_mpp.setValue(0.5)
    assert "Draw a region" in ready.look.message.text()


# -- patches -----------------------------------------------------------------------------------


def test_a_patch_is_shown_class_by_class(viewer, ready, patches, qtbot, show):
    show(ready, qtbot)
    found = ready.explaining.found.explanation
    assert ready.patches.index == 0  # the first of several classes
    overs = [ready.grid.over(i) for i in range(5)]
    titles = [f"{n} ({p:.2f})" for n, p in zip(CLASSES.names, found.probabilities, strict=True)]
    assert [a.name for a in overs] == [*titles, "pseudo mask", "depths agree"]
    for k in range(3):
        np.testing.assert_array_equal(overs[k].data, found.maps[-1, k])
        np.testing.assert_array_equal(ready.grid.layers[2 * k].data, patches.read(0))
    for k, info in enumerate(CLASSES.classes):
        color = overs[3].colormap.color_dict[k + 1]
        np.testing.assert_allclose(color[:3] * 255, info.rgb, atol=1)
    np.testing.assert_allclose(overs[4].data, found.agreement)


def test_the_slider_moves_the_mask_and_nothing_is_computed(
    ready, qtbot, monkeypatch, show, mask_layer
):
    show(ready, qtbot)
    found = ready.explaining.found.explanation
    monkeypatch.setattr(Classifier, "features", lambda *_: pytest.fail("computed again"))
    kept = []
    for threshold in (0.0, 0.3, 0.6, 1.0):
        ready.view.threshold.setValue(threshold)
        expected = found.pseudo_mask(3, threshold)
        shown = mask_layer(ready).data
        np.testing.assert_array_equal(shown, np.where(expected == 255, 0, expected + 1))
        kept.append(int((shown > 0).sum()))
    assert kept[0] == 48 * 48
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] < kept[0]
    ready.maps.box.setCurrentIndex(0)
    np.testing.assert_array_equal(ready.grid.over(1).data, found.maps[0, 1])
    np.testing.assert_array_equal(mask_layer(ready).data > 0, found.pseudo_mask(0, 1.0) != 255)


def test_next_shows_the_next_and_the_last_of_many_wins(ready, patches, qtbot, show, mask_layer):
    show(ready, qtbot)
    assert ready.patches.number.maximum() == 3  # of several classes
    ready.patches.forward.click()
    ready.patches.forward.click()
    qtbot.waitUntil(
        lambda: ready.explaining.found.name == "p3" and not ready.look.runner.running, timeout=WAIT
    )
    np.testing.assert_array_equal(ready.grid.layers[0].data, patches.read(3))
    ready.patches.name.setText("p1")
    ready.patches.name.editingFinished.emit()
    assert not ready.patches.several.isChecked()
    qtbot.waitUntil(lambda: ready.explaining.found.name == "p1", timeout=WAIT)
    assert (mask_layer(ready).data == 2).all()
    qtbot.waitUntil(lambda: "One class only" in ready.view.text.text())


def test_the_mask_of_a_patch_is_measured(ready, patches, qtbot, show):
    show(ready, qtbot)
    qtbot.waitUntil(lambda: "mean IoU by depth" in ready.view.text.text())
    values = ready.explaining.found.explanation.miou(patches.read_mask(0))
    assert f"fused: {values[-1]:.2f}" in ready.view.text.text()


# -- how certain ------------------------------------------------------------------------------


@pytest.fixture
def joint(viewer, ready, tmp_path, qtbot, make_model):
    """The panel with a classifier as trained by default: heads at each depth, and a joint one."""
    path = tmp_path / "joint.safetensors"
    ready.classifier.path = make_model(path, joint_head=8, deep_supervision=True)
    qtbot.waitUntil(lambda: ready.header.info is not None, timeout=WAIT)
    return ready


def switch(panel, name):
    at = panel.maps.box.findText(name)
    assert at >= 0
    panel.maps.box.setCurrentIndex(at)


def method_shown(panel, qtbot, method):
    """Wait until maps made by a method are shown."""

    def there():
        found = panel.explaining.found
        return found.method == method and not panel.look.runner.running

    qtbot.waitUntil(there, timeout=WAIT)


def test_the_map_of_a_joint_head_is_said_to_be_one_of_all_depths(joint, qtbot, show):
    show(joint, qtbot)
    found = joint.explaining.found.explanation
    assert joint.maps.box.currentText() == "Joint head, of all depths"
    assert [joint.grid.over(i).name for i in (3, 4)] == ["pseudo mask", "certainty"]
    np.testing.assert_allclose(joint.grid.over(4).data, found.agreement)
    text = joint.view.text.text()
    # By default the certainty is 0.7, which is 178 of 255.
    share = (np.round(found.agreement * 255) >= 178).mean()
    assert 0.01 < share < 0.99
    assert f"{share:.0%} of the pixels are certain" in text
    assert "0.70 or more" in text
    assert "as the settings ask" in text
    assert "agree" not in text
    assert re.search(r"mean IoU: 0\.\d\d \(", text)
    joint.masks.form._rows["certainty"].widget.value = "0"
    assert "as the recipe 'default' asks" in joint.view.text.text()


def test_a_patch_of_one_class_has_no_certainty_to_speak_of(joint, qtbot, show):
    show(joint, qtbot)
    joint.patches.name.setText("p1")
    joint.patches.name.editingFinished.emit()
    qtbot.waitUntil(lambda: "One class only" in joint.view.text.text(), timeout=WAIT)
    assert "certain" not in joint.view.text.text()


def test_going_from_the_joint_head_to_depths_and_back(
    joint, patches, qtbot, show, monkeypatch, mask_layer
):
    """Every map by one control, without knowing how it is made; none is made twice."""
    show(joint, qtbot)
    first = joint.explaining.found
    assert not joint.maps.note.isVisible()
    model = load_classifier(joint.classifier.path)
    for name, method, index in (
        ("Depth 2", "heads", 1),
        ("Grad-CAM, depth 1 (shallowest)", "gradcam", 0),
    ):
        switch(joint, name)
        method_shown(joint, qtbot, method)
        alone = Explainer(model, PseudoMaskSettings(method=method)).explain(
            patches.read(0), label=patches.labels[0]
        )
        np.testing.assert_allclose(joint.grid.over(0).data, alone.maps[index, 0], atol=1e-5)
        np.testing.assert_allclose(joint.grid.over(4).data, alone.agreement)
        assert joint.grid.over(4).name == "depths agree"
        assert "All depths agree on" in joint.view.text.text()
        assert "pseudo masks of the data set are made from the joint head" in (
            joint.maps.note.text()
        )
        assert joint.maps.note.isVisible()
    assert joint.masks.settings().method == "auto", "to look is not to choose"
    monkeypatch.setattr(Classifier, "features", lambda *_: pytest.fail("computed again"))
    for name, method in (
        ("All depths, fused", "heads"),
        ("Grad-CAM, depth 3 (deepest)", "gradcam"),
        ("Depth 1 (shallowest)", "heads"),
    ):
        switch(joint, name)
        assert joint.explaining.found.method == method
    np.testing.assert_array_equal(
        joint.grid.over(1).data, joint.explaining.found.explanation.maps[0, 1]
    )
    joint.masks.form._rows["certainty"].widget.value = "0.5"
    assert "a share of 0.50 of them agree with the deepest" in joint.view.text.text()
    switch(joint, "Joint head, of all depths")
    assert joint.explaining.found is first
    assert joint.grid.over(4).name == "certainty"
    # What depends on the method, such as the sizes of a patch, is no change of the settings.
    joint.masks.form._rows["certainty"].widget.value = "0.85"
    assert joint.explaining.found is first
    assert "0.85 or more" in joint.view.text.text()
    np.testing.assert_allclose(joint.grid.over(4).data, first.explanation.agreement)


def test_the_map_follows_how_pseudo_masks_are_made(joint, qtbot, show):
    show(joint, qtbot)
    method = joint.masks.form._rows["method"].widget
    for value, name in (
        ("gradcam", "Grad-CAM, all depths, fused"),
        ("heads", "All depths, fused"),
        ("auto", "Joint head, of all depths"),
    ):
        method.value = value
        assert joint.maps.box.currentText() == name
        assert not joint.maps.note.isVisible()
        method_shown(joint, qtbot, "joint" if value == "auto" else value)


def test_a_method_that_the_classifier_has_nothing_for_is_told(ready, qtbot, show):
    show(ready, qtbot)
    method = ready.masks.form._rows["method"].widget
    for value, reason in (("heads", "at its deepest layer only"), ("joint", "joint head")):
        method.value = value
        assert reason in ready.masks.work.message.text()
        assert not ready.masks.work.button.isEnabled()
    method.value = "auto"
    assert ready.masks.work.button.isEnabled()
    assert ready.look.error.text() == ""


def test_the_map_stays_from_patch_to_patch(joint, patches, qtbot, show):
    show(joint, qtbot)
    switch(joint, "Depth 1 (shallowest)")
    joint.patches.forward.click()
    qtbot.waitUntil(lambda: joint.explaining.found.name == "p2", timeout=WAIT)
    method_shown(joint, qtbot, "heads")
    assert joint.maps.box.currentText() == "Depth 1 (shallowest)"
    np.testing.assert_array_equal(
        joint.grid.over(0).data, joint.explaining.found.explanation.maps[0, 0]
    )
    switch(joint, "Joint head, of all depths")  # of this patch, not of the one before
    method_shown(joint, qtbot, "joint")
    assert joint.explaining.found.name == "p2"


def test_who_changes_their_mind_meanwhile_sees_what_they_chose_last(joint, qtbot, show):
    show(joint, qtbot)
    first = joint.explaining.found
    switch(joint, "Grad-CAM, depth 2")
    switch(joint, "Joint head, of all depths")
    assert joint.explaining.found is first
    qtbot.waitUntil(lambda: not joint.look.runner.running, timeout=WAIT)
    qtbot.wait(20)
    assert joint.explaining.found is first
    assert joint.look.message.text() == ""
    for name in ("Depth 1 (shallowest)", "Grad-CAM, depth 1 (shallowest)", "Depth 2"):
        switch(joint, name)
    method_shown(joint, qtbot, "heads")
    np.testing.assert_array_equal(
        joint.grid.over(2).data, joint.explaining.found.explanation.maps[1, 2]
    )


def test_the_map_is_chosen_by_keyboard(joint, qtbot, show):
    show(joint, qtbot)
    box = joint.maps.box
    assert box.focusPolicy() & Qt.FocusPolicy.TabFocus
    for key, name in (
        (Qt.Key.Key_Down, "Depth 1 (shallowest)"),
        (Qt.Key.Key_End, "Grad-CAM, all depths, fused"),
        (Qt.Key.Key_Home, "Joint head, of all depths"),
        (Qt.Key.Key_A, "All depths, fused"),
        (Qt.Key.Key_Down, "Grad-CAM, depth 1 (shallowest)"),  # over the line between
    ):
        QTest.keyClick(box, key)
        assert box.currentText() == name
    method_shown(joint, qtbot, "gradcam")


def test_the_certainty_that_is_asked_for_is_seen_at_once(
    joint, patches, tmp_path, qtbot, monkeypatch, show, mask_layer
):
    form = joint.masks.form
    show(joint, qtbot)
    monkeypatch.setattr(Classifier, "features", lambda *_: pytest.fail("computed again"))
    form._rows["certainty"].widget.value = "0.85"
    monkeypatch.undo()
    asked = PseudoMaskSettings(certainty=0.85)
    assert joint.masks.settings() == asked
    written = generate_pseudo_masks(
        patches, load_classifier(joint.classifier.path), tmp_path / "alone", asked
    ).targets("p0")
    shown = mask_layer(joint).data
    np.testing.assert_array_equal(shown, np.where(written[0] == 255, 0, written[0] + 1))
    kept = (shown > 0).mean()
    assert 0 < kept < 1
    assert "as the settings ask" in joint.view.text.text()
    joint.view.threshold.setValue(1.0)
    assert (mask_layer(joint).data > 0).mean() < kept
    form._rows["certainty"].widget.value = "2"  # no share
    assert joint.look.error.text() == ""
    assert (mask_layer(joint).data > 0).mean() < kept


# -- settings ----------------------------------------------------------------------------------


def test_every_setting_of_pseudo_masks_can_be_set(ready, qtbot, show):
    """Three in view, the rest folded away, and the threshold by its slider."""
    form = ready.masks.form
    fields = set(PseudoMaskSettings.model_fields)
    assert set(form._rows) == fields - {"threshold"}
    (fold,) = form.findChildren(QCollapsible)
    assert "Advanced" in fold.text()
    assert not fold.isExpanded()
    folded = {n for n, row in form._rows.items() if fold.isAncestorOf(row.widget.native)}
    assert set(form._rows) - folded == {"method", "flips", "glass"}
    for name, text in {"scales": "0.5, 1", "refine_px": 4, "glass_luminance": 190}.items():
        form._rows[name].widget.value = text
    assert ready.masks.settings() == PseudoMaskSettings(
        scales=(0.5, 1), refine_px=4, glass_luminance=190
    )
    show(ready, qtbot)
    before = ready.explaining.found
    form._rows["refine_px"].widget.value = 9  # maps are made anew
    qtbot.waitUntil(
        lambda: ready.explaining.found is not before and not ready.look.runner.running,
        timeout=WAIT,
    )
    assert "patches that overlap" not in ready.view.text.text()


def test_a_patch_says_that_others_narrow_its_mask_down(viewer, ready, tmp_path, qtbot, show):
    root = tmp_path / "overlapping"
    root.mkdir()
    picture = np.random.default_rng(0).integers(60, 180, (48, 72, 3), np.uint8)
    rows = [f"path,{','.join(CLASSES.names)}"]
    for x, label in ((0, "1,1,0"), (24, "0,1,0")):
        name = f"slide_y00000_x{x:05d}.png"
        Image.fromarray(picture[:, x : x + 48]).save(root / name)
        rows.append(f"{name},{label}")
    (root / "labels.csv").write_text("\n".join(rows))
    CLASSES.write(root / "classes.toml")
    state_of(viewer).set(patch_set=load_patches(root))
    show(ready, qtbot)
    assert "patches that overlap" in ready.view.text.text()
    ready.masks.form._rows["overlaps"].widget.value = False
    assert "patches that overlap" not in ready.view.text.text()


# -- pseudo masks ------------------------------------------------------------------------------


def test_pseudo_masks_are_made_as_on_the_command_line(
    viewer, ready, patches, model, tmp_path, qtbot
):
    ready.view.threshold.setValue(0.3)
    assert ready.masks.folder.path == tmp_path / "work" / "set-pseudo-masks"
    assert not ready.masks.measuring.button.isEnabled()
    ready.masks.work.button.click()
    qtbot.waitUntil(lambda: state_of(viewer).pseudo_masks is not None, timeout=WAIT)
    made = PseudoMasks(state_of(viewer).pseudo_masks)
    alone = generate_pseudo_masks(
        patches, load_classifier(model), tmp_path / "alone", PseudoMaskSettings(threshold=0.3)
    )
    for name in patches.names:
        np.testing.assert_array_equal(made.targets(name), alone.targets(name))
    assert made.record["settings"]["threshold"] == 0.3
    assert "Train segmenter" in ready._guide.text()

    ready.masks.measuring.button.click()
    qtbot.waitUntil(lambda: ready.masks.table.rowCount() == 3, timeout=WAIT)
    from napari_wsss.cams import pseudo_mask_quality

    rows = pseudo_mask_quality(alone, patches)["depths"]
    for d, row in enumerate(rows):
        assert ready.masks.table.item(d, 1).text() == f"{row['miou_multi_label']:.3f}"


def test_only_pseudo_masks_of_the_chosen_set_lead_on(viewer, ready, patches, tmp_path):
    state = state_of(viewer)
    state.set(pseudo_masks=tmp_path / "of another set", masked=patches.subset([0, 1]))
    assert "Train segmenter" not in ready._guide.text()
    state.set(pseudo_masks=tmp_path / "masks", masked=patches)
    assert "Next: Train segmenter" in ready._guide.text()
    state.set(patch_set=replace(patches, split=("train", "train", "val", "val")))
    assert "Next: Train segmenter" in ready._guide.text(), "edited, but the same patches"
    state.set(patch_set=patches.subset([1, 2, 3]))
    assert "Train segmenter" not in ready._guide.text()
    state.set(patch_set=patches)
    ready.classifier.path = None
    assert "Choose a classifier" in ready._guide.text()


def test_pseudo_masks_that_exist_are_not_replaced(ready, qtbot):
    folder = ready.masks.folder.path
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("mine")
    ready.masks.work.button.click()
    qtbot.waitUntil(lambda: "exists" in ready.masks.work.error.text(), timeout=WAIT)
    assert (folder / "thesis.txt").read_text() == "mine"
