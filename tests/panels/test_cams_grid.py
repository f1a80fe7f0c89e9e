"""Cells side by side, and the user's layout put back whatever happens to them."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_wsss.panels.cams_cells import map_options
from napari_wsss.panels.cams_grid import Cell, CellGrid
from napari_wsss.panels.support.layer_slide import is_picture
from napari_wsss.panels.support.layers import image_layer, map_layer

NAMES = ("tumour", "stroma", "fat")


@pytest.fixture
def model(qapp):
    """A viewer without a window: most of this needs none."""
    return ViewerModel()


@pytest.fixture
def grid(model):
    grid = CellGrid(model)
    yield grid
    grid.disconnect_viewer()


@pytest.fixture
def user(model):
    """A user's layers and layout, none of it the default."""
    pixels = np.zeros((64, 64), np.uint8)
    slide = model.add_image(np.zeros((64, 64, 3), np.uint8), rgb=True, name="slide")
    hidden = model.add_image(pixels, name="hidden", visible=False)
    labels = model.add_labels(pixels, name="tumour")  # the name of a class
    model.layers.selection.active = hidden
    model.canvas.grid.stride = -3
    model.canvas.grid.shape = (1, -1)
    model.scene.camera.center = (0, 11.0, 22.0)
    model.scene.camera.zoom = 3.5
    return slide, hidden, labels


def make_cells(side=48, value=0.5, count=3, mpp=None):
    picture = np.full((side, side, 3), 200, np.uint8)
    found = []
    for name in NAMES[:count]:
        data, options, kind = map_layer([np.full((side, side), value, np.float32)], [name], mpp)
        over = data, map_options(options, name), kind
        found.append(Cell(image_layer([picture], f"p under {name}", mpp), over))
    return found


def test_pictures_in_cells_are_no_slides(model, grid, user):
    grid.show(make_cells())
    assert [layer.name for layer in model.layers if is_picture(layer)] == ["slide", "hidden"]


def layout(model):
    grid, camera, dims = model.canvas.grid, model.scene.camera, model.dims
    return (
        [(layer.name, layer.visible) for layer in model.layers],
        sorted(layer.name for layer in model.layers.selection),
        (grid.enabled, grid.stride, grid.shape, grid.spacing),
        (tuple(camera.center), camera.zoom, tuple(camera.angles)),
        (dims.ndisplay, dims.order, dims.point),
    )


def cells_in(model):
    """Return the names of the visible layers in each cell."""
    layers = model.layers
    return [
        [layers[i].name for i in indices if layers[i].visible]
        for _, indices in model.canvas.grid.iter_viewboxes(list(layers))
        if indices
    ]


def test_every_cell_holds_its_picture_under_its_map(model, grid, user):
    grid.show(make_cells())
    assert model.canvas.grid.enabled
    # The name of a class that a layer of the user has already is numbered by napari.
    assert cells_in(model) == [
        ["p under tumour", "tumour [1]"],
        ["p under stroma", "stroma"],
        ["p under fat", "fat"],
    ]
    assert not any(layer.visible for layer in user)
    assert all(over.name_overlay.visible and over.colorbar.visible for over in grid.layers[1::2])


def test_closing_puts_everything_back(model, grid, user):
    before = layout(model)
    grid.show(make_cells())
    assert layout(model) != before
    grid.close()
    assert layout(model) == before
    grid.close()
    assert layout(model) == before


def test_a_grid_of_the_users_own_comes_back(model, grid, user):
    model.canvas.grid.enabled = True
    before = layout(model)
    grid.show(make_cells())
    grid.close()
    assert layout(model) == before


@pytest.mark.parametrize(
    ("shape", "ndisplay", "order"),
    [
        ((5, 30, 40), 2, (0, 1, 2)),
        ((5, 30, 40), 3, (0, 1, 2)),
        ((5, 30, 40), 2, (1, 2, 0)),
        ((4, 5, 30, 40), 3, (1, 0, 2, 3)),
    ],
)
def test_beside_stacks_and_in_three_dimensions(model, grid, user, shape, ndisplay, order):
    stack = model.add_image(np.zeros(shape, np.uint8), name="stack")
    model.dims.order, model.dims.ndisplay = order, ndisplay
    model.dims.set_point(0, 2)
    model.scene.camera.center = (3.0, 11.0, 22.0)
    before = layout(model)
    grid.show(make_cells())
    assert not stack.visible
    assert cells_in(model)[:3] == [
        ["p under tumour", "tumour [1]"],
        ["p under stroma", "stroma"],
        ["p under fat", "fat"],
    ]
    assert model.dims.displayed == (model.dims.ndim - 2, model.dims.ndim - 1)
    assert tuple(model.scene.camera.center)[-2:] == (23.5, 23.5)
    grid.close()
    assert layout(model) == before


def test_the_camera_shows_the_cell_as_napari_would(model, grid):
    grid.show(make_cells(side=32, mpp=0.5))
    ours = tuple(model.scene.camera.center), model.scene.camera.zoom
    model.fit_to_view(layers=grid.layers[:1])
    assert ours == (tuple(model.scene.camera.center), pytest.approx(model.scene.camera.zoom))


def test_the_camera_follows_the_units_of_a_stack(model, grid):
    stack = np.zeros((3, 8, 8), np.uint8)
    model.add_image(stack, name="stack", scale=(1, 0.1, 0.1), units=("mm", "mm", "mm"))
    grid.show(make_cells(side=32, mpp=0.5))
    under = grid.layers[0]
    factor = float((1 * under.units[-1]).to(model.layers.units[-1]).magnitude)
    assert model.scene.camera.center[-2:] == pytest.approx((7.75 * factor, 7.75 * factor))
    room = min(model.canvas.viewbox_size(model.layers))
    assert model.scene.camera.zoom == pytest.approx(0.95 * room / (16 * factor))


def test_a_stack_that_goes_meanwhile_does_no_harm(model, grid, user):
    stack = model.add_image(np.zeros((5, 30, 40), np.uint8), name="stack")
    model.dims.ndisplay = 3
    grid.show(make_cells())
    model.layers.remove(stack)
    grid.show(make_cells(value=0.9))
    grid.close()
    assert model.dims.ndisplay == 3
    assert [layer.visible for layer in user] == [True, False, True]


def test_switching_the_grid_off_closes_it(model, grid, user):
    closed = []
    grid.closed.connect(lambda: closed.append(True))
    before = layout(model)
    grid.show(make_cells())
    model.canvas.grid.enabled = False
    assert layout(model) == before
    assert (closed, grid.showing, grid.layers) == ([True], False, ())


@pytest.mark.parametrize("which", [0, 1, 5])
def test_deleting_a_layer_of_the_grid_closes_it(model, grid, user, qtbot, which):
    before = layout(model)
    grid.show(make_cells())
    model.layers.remove(grid.layers[which])
    qtbot.waitUntil(lambda: not grid.showing)
    assert layout(model) == before


def test_deleting_everything_leaves_nothing(model, grid, user, qtbot):
    grid.show(make_cells())
    model.layers.select_all()
    model.layers.remove_selected()
    qtbot.waitUntil(lambda: not grid.showing)
    assert list(model.layers) == []
    assert not model.canvas.grid.enabled


def test_layers_that_come_and_go_meanwhile_do_not_move_the_cells(model, grid, user, qtbot):
    grid.show(make_cells())
    model.add_image(np.zeros((8, 8)), name="new")
    assert [sorted(c) for c in cells_in(model)[:3]] == [
        sorted(["p under tumour", "tumour [1]"]),
        sorted(["p under stroma", "stroma"]),
        sorted(["p under fat", "fat"]),
    ]
    model.layers.remove(user[1])
    qtbot.wait(5)
    assert grid.showing
    grid.close()
    assert [(a.name, a.visible) for a in model.layers] == [
        ("slide", True), ("tumour", True), ("new", True),
    ]  # fmt: skip


def test_maps_share_opacity_and_limits(model, grid):
    grid.show(make_cells())
    first, second, third = (grid.over(i) for i in range(3))
    second.opacity, third.contrast_limits = 0.3, (0.2, 0.8)
    assert first.opacity == third.opacity == 0.3
    assert tuple(first.contrast_limits) == tuple(second.contrast_limits) == (0.2, 0.8)


def test_other_pixels_take_the_place_of_the_old(model, grid):
    grid.show(make_cells())
    before = grid.layers
    grid.over(0).opacity = 0.4
    grid.show(make_cells(side=32, value=0.9))
    assert grid.layers == before
    assert grid.over(2).data.shape == (32, 32)
    assert float(grid.over(2).data[0, 0]) == pytest.approx(0.9)
    assert grid.over(1).opacity == 0.4
    grid.show(make_cells(count=2))  # another number of classes
    assert len(grid.layers) == 4
    assert len(model.layers) == 4


def test_names_and_colour_bars_are_drawn_in_every_cell(viewer, qtbot):
    grid = CellGrid(viewer)
    viewer.window.resize(1000, 700)
    grid.show(make_cells())
    for under in grid.layers[::2]:
        under.opacity = 0
    for over in grid.layers[1::2]:
        over.opacity = 0
    qtbot.wait(100)
    shot = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
    rows, columns = viewer.canvas.grid.actual_shape(list(viewer.layers))
    assert rows * columns >= 3
    height, width = shot.shape[0] // rows, shot.shape[1] // columns
    back = shot[height // 2, width // 2]
    for cell in range(3):
        y, x = divmod(cell, columns)
        part = shot[y * height : (y + 1) * height, x * width : (x + 1) * width]
        drawn = np.abs(part - back).max(2) > 60
        assert drawn[:40, : width // 2].sum() > 30  # the name, above on the left
        assert drawn[height // 2 :, width * 2 // 3 :].sum() > 300  # the bar, below on the right
    grid.disconnect_viewer()
