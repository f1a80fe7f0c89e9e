"""The data set panel: loading, report, gallery, editing, cutting."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from qtpy.QtWidgets import QApplication

from napari_wsss.classes import ClassTable
from napari_wsss.panels.dataset import DatasetPanel
from napari_wsss.panels.dataset_gallery import PAGE
from napari_wsss.panels.support.layer_slide import is_picture
from napari_wsss.panels.support.state import state_of
from napari_wsss.patches import cut_patches, load_patches

WAIT_MS = 20_000
SCROLL_BAR_PX = 14


@pytest.fixture
def images(tmp_path):
    """Folders of images and masks: six images, tissue left, glass (9) in the middle."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / "raw" / name).mkdir(parents=True)
    for i in range(6):
        image = rng.integers(0, 255, (64, 96, 3), dtype=np.uint8)
        mask = np.repeat([[0, 9, 3]], 64, axis=0).repeat(32, axis=1).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / "raw" / "images" / f"case{i}.png")
        Image.fromarray(mask).save(tmp_path / "raw" / "masks" / f"case{i}.png")
    return tmp_path / "raw"


@pytest.fixture
def root(images, tmp_path):
    classes = ClassTable.from_names(["tumour", "stroma"], [0, 3], ignore=[9])
    options = {"size_px": 32, "stride_px": 16, "mpp": 0.5}
    return cut_patches(
        images / "images", images / "masks", classes, tmp_path / "set", **options
    ).root


@pytest.fixture
def panel(add_panel):
    return add_panel(DatasetPanel)


def quiet(panel):
    return not (
        panel.load.runner.running
        or panel.check.runner.running
        or panel.gallery._runner.running
        or panel.cut.job.runner.running
        or panel.cut._finder.running
        or panel.split.runner.running
    )


@pytest.fixture
def settle(panel, qtbot):
    """Return a function that waits until nothing runs any more."""

    def wait():
        qtbot.waitUntil(lambda: quiet(panel), timeout=WAIT_MS)
        qtbot.wait(5)
        qtbot.waitUntil(lambda: quiet(panel), timeout=WAIT_MS)

    return wait


def folder_per_class(path, counts, broken=False):
    for name, count in counts.items():
        (path / name).mkdir(parents=True)
        for i in range(count):
            shade = np.full((40, 40, 3), 3 * i + len(name), np.uint8)
            Image.fromarray(shade).save(path / name / f"{name}_{i}.png")
    if broken:
        (path / name / f"{name}_0.png").write_bytes(b"cut off")
    return path


# -- loading --------------------------------------------------------------------------


def test_it_says_what_is_needed(panel):
    assert "Choose labelled patches" in panel._guide.text()
    assert not panel.load.button.isEnabled()
    assert not panel.report.isVisible()
    assert not panel.gallery.isVisible()


def test_a_chosen_folder_becomes_the_data_set(panel, viewer, root, settle):
    panel.path.path = root
    settle()
    patches = state_of(viewer).patch_set
    assert len(patches) == len(load_patches(root))
    counts = dict(zip(patches.classes.names, patches.labels.sum(0), strict=True))
    assert {bar.name: bar.patches for bar in panel.report.classes.bars} == counts
    assert sum(bar.patches for bar in panel.report.combinations.bars) == len(patches)
    assert panel.report.classes.bars[0].colors == (patches.classes.classes[0].color,)
    assert "32 x 32 px" in panel.report.facts.text(), "the files were opened"
    assert "Next: Train classifier" in panel._guide.text()


def test_a_table_is_loaded_and_its_path_stays(panel, viewer, root, settle):
    table = root / "my patches.csv"
    table.write_text((root / "labels.csv").read_text())
    panel.path.path = table
    settle()
    assert state_of(viewer).patch_set.format == "table"
    assert panel.path.path == table


def test_another_table_of_the_folder_is_another_set(panel, viewer, root, settle):
    head, *rows = (root / "labels.csv").read_text().splitlines()
    first, second = root / "first.csv", root / "second.csv"
    for table, some in ((first, rows[:4]), (second, rows[4:7])):
        table.write_text("\n".join([head, *some]))
    panel.path.path = first
    settle()
    assert len(state_of(viewer).patch_set) == 4
    panel.path.path = second
    settle()
    assert len(state_of(viewer).patch_set) == 3
    panel.editor.set_name(0, "carcinoma")
    panel.apply.click()
    settle()
    assert panel.path.path == second
    assert state_of(viewer).patch_set.classes.names[0] == "carcinoma"


def test_a_folder_in_the_folder_of_a_table_is_another_set(panel, viewer, root, settle):
    inside = folder_per_class(root / "more", {"a": 3, "bb": 3})
    panel.path.path = root / "labels.csv"
    settle()
    panel.path.path = inside
    settle()
    assert state_of(viewer).patch_set.root == inside
    panel.path.path = root
    settle()
    assert state_of(viewer).patch_set.root == root


def test_going_back_while_another_set_is_loaded(panel, viewer, root, tmp_path, settle):
    panel.path.path = root
    settle()
    panel.path.path = folder_per_class(tmp_path / "other", {"a": 3, "bb": 3})
    panel.path.path = root
    settle()
    assert state_of(viewer).patch_set.root == panel.path.path == root


def test_how_it_is_read_is_respected(panel, viewer, root, settle):
    panel.mpp.setValue(0.75)
    panel.path.path = root
    settle()
    assert state_of(viewer).patch_set.mpp == 0.75


def test_what_is_no_data_set_leaves_the_one_there_was(panel, viewer, root, tmp_path, settle):
    panel.path.path = root
    settle()
    before = state_of(viewer).patch_set
    (tmp_path / "empty").mkdir()
    panel.path.path = tmp_path / "empty"
    settle()
    assert "is not a patch set" in panel.load.error.text()
    assert panel.load.error.isVisible()
    assert state_of(viewer).patch_set is before


def test_the_last_of_two_quick_choices_wins(panel, viewer, root, tmp_path, settle):
    other = folder_per_class(tmp_path / "other", {"a": 3, "bb": 3})
    panel.path.path = root
    panel.path.path = other
    settle()
    assert state_of(viewer).patch_set.root == other


def test_it_follows_the_set_that_another_panel_made(panel, viewer, root, settle):
    state_of(viewer).set(patch_set=load_patches(root))
    assert panel.path.path == root
    settle()
    assert panel.report.isVisible()
    state_of(viewer).set(patch_set=None)
    assert not panel.report.isVisible()


# -- bad input ------------------------------------------------------------------------


def test_a_set_with_one_class_says_so(panel, tmp_path, settle):
    table = tmp_path / "labels.csv"
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    table.write_text("path,tumour,stroma\na.png,1,0\n")
    panel.path.path = table
    settle()
    assert any("Only one class occurs" in text for text in panel.report.problems)
    assert "cannot be trained on yet" in panel._guide.text()
    assert panel.report.problems[0].startswith("Must be mended")


def test_unreadable_images_are_listed_and_grey_in_the_gallery(panel, viewer, tmp_path, settle):
    panel.path.path = folder_per_class(tmp_path / "set", {"a": 3, "bb": 3}, broken=True)
    settle()
    (text,) = [t for t in panel.report.problems if "cannot be read" in t]
    assert "bb_0.png" in text
    assert "cannot be trained on yet" in panel._guide.text()
    panel.gallery.button.setChecked(True)
    settle()
    assert "1 of these cannot be read" in panel.gallery.message.text()


def test_unknown_resolution_is_pointed_out(panel, tmp_path, settle):
    panel.path.path = folder_per_class(tmp_path / "set", {"a": 3, "bb": 3})
    settle()
    assert "µm/px are unknown" in panel._guide.text()


# -- gallery --------------------------------------------------------------------------


@pytest.fixture
def many(tmp_path):
    return folder_per_class(tmp_path / "many", {"a": PAGE, "bb": 10})


def test_one_layer_shows_a_page_and_goes_without_a_trace(panel, viewer, many, settle):
    slide = viewer.add_image(np.zeros((50, 50, 3), np.uint8), scale=(99, 99), units=("µm", "µm"))
    shy = viewer.add_image(np.zeros((50, 50)), visible=False, units=("µm", "µm"))
    viewer.layers.selection.active = slide
    viewer.scene.camera.zoom = 3.21
    panel.path.path = many
    settle()
    panel.gallery.button.setChecked(True)
    settle()
    assert len(viewer.layers) == 3
    assert panel.gallery.layer.units == slide.units
    assert not is_picture(panel.gallery.layer), "it would be offered as a slide"
    assert not slide.visible
    size = np.ptp(panel.gallery.layer.extent.world, axis=0) * viewer.scene.camera.zoom
    assert (size / viewer.canvas.size).max() > 0.8, "the slide is larger, but not what is shown"
    assert panel.gallery.where.text() == "1 of 2"
    first = panel.gallery.layer.data.copy()
    panel.gallery.turn(1)
    settle()
    assert len(viewer.layers) == 3, "pages follow each other in one layer"
    assert panel.gallery.layer.data.shape != first.shape
    assert not panel.gallery.forth.isEnabled()
    panel.gallery.button.setChecked(False)
    assert list(viewer.layers) == [slide, shy]
    assert slide.visible
    assert not shy.visible
    assert viewer.layers.selection.active == slide
    assert viewer.scene.camera.zoom == pytest.approx(3.21)


def test_the_filter_shows_patches_of_one_class(panel, many, settle):
    panel.path.path = many
    settle()
    panel.gallery.button.setChecked(True)
    panel.gallery.filter.setCurrentText("with bb")
    settle()
    assert panel.gallery.where.text() == "1 of 1"
    assert set(panel.gallery._mosaic.indices) == set(range(PAGE, PAGE + 10))
    panel.gallery.filter.setCurrentText("several classes")
    settle()
    assert "no such patches" in panel.gallery.message.text()


def test_the_user_deletes_the_page(panel, viewer, many, settle):
    slide = viewer.add_image(np.zeros((50, 50)))
    panel.path.path = many
    settle()
    panel.gallery.button.setChecked(True)
    settle()
    viewer.layers.remove(panel.gallery.layer)
    assert not panel.gallery.button.isChecked()
    assert slide.visible


def test_slides_deleted_meanwhile_are_not_missed(panel, viewer, many, settle):
    viewer.add_image(np.zeros((50, 50)))
    panel.path.path = many
    settle()
    panel.gallery.button.setChecked(True)
    settle()
    viewer.layers.pop(0)
    panel.gallery.close_gallery()
    assert len(viewer.layers) == 0


def test_leaving_the_panel_closes_the_gallery(panel, viewer, many, settle):
    panel.path.path = many
    settle()
    panel.gallery.button.setChecked(True)
    settle()
    panel.close_panel()
    assert len(viewer.layers) == 0


# -- editing --------------------------------------------------------------------------


def test_names_and_colours_are_saved_with_our_own_sets(panel, viewer, root, settle):
    panel.path.path = root
    settle()
    panel.editor.set_name(0, "carcinoma")
    panel.editor.set_color(1, "#123456")
    panel.apply.click()
    settle()
    assert panel.kept.text() == "Saved with the set."
    assert state_of(viewer).patch_set.classes.names == ("carcinoma", "stroma")
    again = load_patches(root).classes
    assert again.names == ("carcinoma", "stroma")
    assert again.classes[1].color == "#123456"
    assert [bar.name for bar in panel.report.classes.bars] == ["carcinoma", "stroma"]


def test_other_sets_keep_them_until_napari_closes(panel, viewer, many, settle):
    panel.path.path = many
    settle()
    panel.editor.set_name(0, "tumour")
    panel.apply.click()
    assert "never changed" in panel.kept.text()
    assert state_of(viewer).patch_set.classes.names == ("tumour", "bb")


def test_names_that_clash_cannot_be_applied(panel, root, settle):
    panel.path.path = root
    settle()
    panel.editor.set_name(0, "stroma")
    assert not panel.apply.isEnabled()
    assert "occurs twice" in panel.kept.text()


def test_splitting_holds_out_whole_images(panel, viewer, root, settle):
    panel.path.path = root
    settle()
    panel.split.val.setValue(34)
    panel.split.button.click()
    settle()
    patches = state_of(viewer).patch_set
    held = {g for g, s in zip(patches.groups, patches.split, strict=True) if s == "val"}
    assert len(held) == 2
    assert "val" in panel.split.message.text()
    assert load_patches(root).split == patches.split


def test_a_split_that_is_not_possible_is_explained(panel, viewer, tmp_path, settle):
    table = tmp_path / "labels.csv"
    for name in "ab":
        Image.new("RGB", (32, 32)).save(tmp_path / f"{name}.png")
    table.write_text("path,group,tumour,stroma\na.png,one,1,0\nb.png,one,0,1\n")
    panel.path.path = table
    settle()
    before = state_of(viewer).patch_set
    panel.split.button.click()
    settle()
    assert "1 group" in panel.split.message.text()
    assert "validation_share" not in panel.split.message.text()
    assert state_of(viewer).patch_set is before


# -- cutting --------------------------------------------------------------------------


def test_patches_are_cut_from_images_with_masks(panel, viewer, images, settle):
    cut = panel.cut
    assert cut.job.message.text() == "Choose the folder of images."
    cut.images.path = images / "images"
    cut.masks.path = images / "masks"
    assert "classes" in cut.job.message.text()
    cut.find_values.click()
    settle()
    cut.editor.set_name(0, "tumour")
    cut.editor.set_name(1, "stroma")
    cut.editor._rows[2].used.setChecked(False)  # 9, glass
    cut.size_px.setValue(32)
    cut.mpp.setValue(0.25)
    assert cut.out.path == images / "patches"
    assert cut.job.button.isEnabled()
    cut.job.button.click()
    settle()
    patches = state_of(viewer).patch_set
    assert patches.root == images / "patches"
    assert patches.classes.names == ("tumour", "stroma")
    assert patches.classes.ignore == (9,)
    assert patches.mpp == 0.25
    assert "They are the data set now" in cut.job.message.text()


def test_values_may_be_left_out_in_the_middle(panel, images, settle):
    panel.cut.masks.path = images / "masks"
    panel.cut.find_values.click()
    settle()
    table = panel.cut.editor.classes()
    assert [c.value for c in table.classes] == [0, 3, 9]


def test_a_place_that_is_taken_is_said_before(panel, images, root):
    cut = panel.cut
    cut.images.path, cut.masks.path = images / "images", images / "masks"
    cut.classes.path = root / "classes.toml"
    cut.out.path = root
    assert not cut.job.button.isEnabled()
    assert "tick 'Replace earlier'" in cut.job.message.text()
    cut.replace.setChecked(True)
    assert cut.job.button.isEnabled()


def test_masks_that_do_not_fit_are_an_error_that_stays(panel, viewer, images, root, settle):
    Image.new("L", (10, 10)).save(images / "masks" / "case0.png")
    cut = panel.cut
    cut.images.path, cut.masks.path = images / "images", images / "masks"
    cut.classes.path = root / "classes.toml"
    cut.job.button.click()
    settle()
    assert "nothing was written" in cut.job.error.text()
    assert not (images / "patches").exists()
    assert state_of(viewer).patch_set is None


# -- size and end ---------------------------------------------------------------------


def test_labels_are_looked_at_when_asked_for(panel, viewer, root, settle, qtbot, monkeypatch):
    from napari_wsss.patches import doubts

    def found(patches, *, device, cancel):
        yield from ()
        return [doubts.Doubt(patches.names[0], "tumour", True, 0.95)]

    monkeypatch.setattr(doubts, "doubts_job", found)
    assert panel.doubts.isHidden()
    panel.path.path = root
    settle()
    assert not panel.doubts.isHidden()
    before = panel.report.problems
    for _ in range(2):  # looked for again, they are not listed twice
        panel.doubts.job.button.click()
        qtbot.waitUntil(lambda: not panel.doubts.job.runner.running, timeout=WAIT_MS)
        qtbot.wait(5)
        (text,) = set(panel.report.problems) - set(before)
        assert "may be wrong" in text
        assert len(panel.report.problems) == len(before) + 1
    panel.report.copy.click()
    assert "95% lack it" in QApplication.clipboard().text()


def test_it_fits_a_narrow_dock(panel, root, settle):
    panel.path.path = root
    settle()
    inner = panel.body.parentWidget()
    assert inner.minimumSizeHint().width() <= panel.minimumWidth() - SCROLL_BAR_PX


def test_closing_while_it_loads_leaves_nothing(viewer, add_panel, many, qtbot):
    panel = add_panel(DatasetPanel)
    panel.path.path = many
    panel.close_panel()
    state_of(viewer).set(patch_set=load_patches(many))
    qtbot.waitUntil(lambda: quiet(panel), timeout=WAIT_MS)
    assert not panel.check.runner.running
