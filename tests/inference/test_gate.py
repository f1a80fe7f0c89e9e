from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_wsss.inference import Engine
from napari_wsss.inference.gate import GateGrid, allowed_by_labels, allowed_by_presence
from napari_wsss.inference.predict import BlockPrediction, image_logits
from napari_wsss.inference.region import Region
from napari_wsss.inference.tiles import Rect
from napari_wsss.settings import InferenceSettings


def region_of(presence, shape, step=4):
    """Return a region over a whole image whose presence map has `step` px pixels."""
    k, h, w = presence.shape
    return Region(Rect(0, 0, h * step, w * step), torch.zeros(k, 1, 1), presence)


def gate_of(region, grid, rect, threshold, windows="mean"):
    return allowed_by_presence(region, grid, Rect(*rect), threshold, windows).numpy()


def by_hand(presence, shape, cell, threshold, rule, step=4):
    """The rule, pixel by pixel: the mean or any of the windows of a pixel is above."""
    k = len(presence)
    full = np.repeat(np.repeat(presence.numpy(), step, 1), step, 2)[:, : shape[0], : shape[1]]
    total, windows = np.zeros((k, *shape)), np.zeros(shape)
    largest = np.full((k, *shape), -np.inf)
    for top in range(-cell, shape[0], cell):
        for left in range(-cell, shape[1], cell):
            rows = slice(max(top, 0), top + 2 * cell)
            columns = slice(max(left, 0), left + 2 * cell)
            if full[:, rows, columns].size:
                said = full[:, rows, columns].mean((1, 2))[:, None, None]
                total[:, rows, columns] += said
                windows[rows, columns] += 1
                largest[:, rows, columns] = np.maximum(largest[:, rows, columns], said)
    logit = total / windows if rule == "mean" else largest
    best = np.isclose(logit, logit.max(0), rtol=1e-9)  # sums of another order
    return (1 / (1 + np.exp(-logit)) > threshold) | best


@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(2, 40),
    st.integers(0, 9),
    st.sampled_from(["mean", "any"]),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_the_gate_is_its_rule(height, width, window, seed, rule):
    shape = (height, width)
    generator = torch.Generator().manual_seed(seed)
    presence = torch.randn(3, -(-height // 4), -(-width // 4), generator=generator) * 3
    grid = GateGrid.of(window, shape)
    found = gate_of(region_of(presence, shape), grid, (0, 0, *shape), 0.4, rule)
    np.testing.assert_array_equal(found, by_hand(presence, shape, grid.cell_px, 0.4, rule))


def test_any_window_allows_more_than_their_mean():
    presence = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(2)) * 3
    grid = GateGrid.of(14, (64, 64))
    mean, some = (
        gate_of(region_of(presence, (64, 64)), grid, (0, 0, 64, 64), 0.4, rule)
        for rule in ("mean", "any")
    )
    assert (some | ~mean).all()
    assert some.sum() > mean.sum()


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 24), st.integers(1, 24))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_the_grid_does_not_depend_on_blocks(y, x, height, width):
    shape = (64, 64)
    presence = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(1)) * 3
    grid = GateGrid.of(14, shape)
    whole = gate_of(region_of(presence, shape), grid, (0, 0, *shape), 0.4)
    margin = grid.margin_px(1)
    y0 = max(0, y - margin) // 4
    x0 = max(0, x - margin) // 4
    y1 = -(-min(64, y + height + margin) // 4)
    x1 = -(-min(64, x + width + margin) // 4)
    rect = Rect(4 * y0, 4 * x0, 4 * (y1 - y0), 4 * (x1 - x0))
    part = Region(rect, torch.zeros(3, 1, 1), presence[:, y0:y1, x0:x1])
    found = gate_of(part, grid, (y, x, height, width), 0.4)
    np.testing.assert_array_equal(found, whole[:, y : y + height, x : x + width])


def test_the_threshold_itself_is_absent():
    value = math.log(0.1 / 0.9)  # probability 0.1
    presence = torch.tensor([4.0, value - 1e-6, value + 1e-3]).view(3, 1, 1).expand(3, 4, 4)
    grid = GateGrid.of(8, (16, 16))
    found = gate_of(region_of(presence, (16, 16)), grid, (0, 0, 16, 16), 0.1)
    assert found.all((1, 2)).tolist() == [True, False, True]
    assert found.any((1, 2)).tolist() == [True, False, True]


@pytest.mark.parametrize("level", [-40.0, -1000.0, 0.0])
def test_the_most_probable_class_always_stays(level):
    presence = torch.full((3, 4, 4), level)
    presence[1] += 0.5
    grid = GateGrid.of(8, (16, 16))
    found = gate_of(region_of(presence, (16, 16)), grid, (0, 0, 16, 16), 1.0)
    assert found[1].all()
    assert found.any(0).all()


def test_pixels_beyond_the_image_do_not_count():
    presence = torch.full((2, 4, 4), -9.0)
    presence[0] = 9.0
    presence[1, 3] = 99.0  # rows 12 to 15, of which the image has the first only
    grid = GateGrid.of(8, (13, 16))
    found = gate_of(region_of(presence, (13, 16)), grid, (0, 0, 13, 16), 0.5)
    # Windows from row 8: 4 rows of -9 and one of 99.
    assert found[1, 8:].all()
    smaller = GateGrid.of(8, (12, 16))
    found = gate_of(region_of(presence, (12, 16)), smaller, (0, 0, 12, 16), 0.5)
    assert not found[1].any()


def test_a_class_that_is_gated_away_never_wins(known_model):
    """Not even where its logit is the largest and all others are below zero."""
    model = known_model(
        lambda x: torch.stack([x[:, 0] * 0 - 5, x[:, 0] * 0 + 9, x[:, 0] * 0 - 7], 1),
        lambda x: torch.stack([x[:, 0] * 0 + 4, x[:, 0] * 0 - 9, x[:, 0] * 0 + 2], 1),
    )
    image = np.random.default_rng(0).integers(0, 256, (40, 70, 3), np.uint8)
    gated = image_logits(Engine(model, InferenceSettings(block_px=64), device="cpu"), image, 32)
    assert (gated.labels() == 0).all()
    assert not gated.allowed[1].any()
    free = image_logits(
        Engine(model, InferenceSettings(block_px=64, gate=False), device="cpu"), image, 32
    )
    assert (free.labels() == 1).all()
    assert free.allowed is None


@pytest.mark.parametrize(("patch_px", "cell_px"), [(224, 128), (112, 64), (256, 128), (1, 1)])
def test_cells_divide_stored_chunks(patch_px, cell_px):
    grid = GateGrid.of(patch_px, (1000, 1000))
    assert grid.cell_px == cell_px
    assert 512 % cell_px == 0
    assert grid.margin_px(1024) == cell_px


# -- one block's numbers ----------------------------------------------------------------


def test_the_gate_changes_probabilities_but_not_uncertainty():
    logits = np.array([[[0.0, 0.0]], [[0.0, 0.0]], [[9.0, -50.0]]], np.float32)
    allowed = np.array([[[1, 1]], [[1, 1]], [[0, 1]]], bool)
    block = BlockPrediction(logits, allowed)
    np.testing.assert_allclose(block.probabilities()[:, 0, 0], [0.5, 0.5, 0])
    assert block.gated()[2, 0, 0] == -np.inf
    # The second pixel is torn between two classes; the first was sure of the one removed.
    sure, torn = block.uncertainty()[0]
    assert torn == pytest.approx(math.log(2) / math.log(3), rel=1e-5)
    assert sure < 0.01
    np.testing.assert_array_equal(block.uncertainty(), BlockPrediction(logits, None).uncertainty())
    flat = BlockPrediction(np.zeros((3, 1, 1), np.float32), None)
    np.testing.assert_allclose(flat.uncertainty(), 1.0)


def test_other_gates_can_be_applied_to_the_same_logits():
    logits = np.array([[[3.0]], [[2.0]], [[1.0]]], np.float32)
    block = BlockPrediction(logits, np.array([[[1]], [[1]], [[1]]], bool))
    assert block.labels()[0, 0] == 0
    assert block.labels(np.array([[[0]], [[0]], [[1]]], bool))[0, 0] == 2


# -- oracle labels ----------------------------------------------------------------------


def test_oracle_labels_are_those_of_the_windows():
    truth = np.zeros((10, 10), np.uint8)
    truth[0, 0] = 1  # 1 of 16 pixels of the first window
    truth[:, 9] = 2  # within the last column of windows only
    truth[8:, :4] = 255
    found = allowed_by_labels(truth, 3, 4, 0.0)
    assert found.shape == (3, 10, 10)
    assert found[1, :4, :4].all()
    assert found[1].sum() == 16
    # The last windows are shifted back inside, as patches are: columns 6 to 9.
    assert found[2, :, 8:].all()
    assert found[2].sum() == 20
    assert found[0].all()
    stricter = allowed_by_labels(truth, 3, 4, 0.1)
    assert not stricter[1].any()
    assert stricter[2, :, 8:].all()


def test_windows_without_any_class_allow_all_and_rare_ones_the_commonest():
    truth = np.full((4, 8), 255, np.uint8)
    truth[0, 4:6] = 1
    truth[0, 6] = 2
    found = allowed_by_labels(truth, 3, 4, 0.5)
    assert found[:, :, :4].all()  # nothing to go by
    assert found[1, :, 4:].all()
    assert not found[2].any(where=np.arange(8) >= 4)


def test_oracle_windows_of_an_image_smaller_than_one():
    truth = np.array([[0, 0, 1]], np.uint8)
    found = allowed_by_labels(truth, 3, 64, 0.0)
    assert found.all((1, 2)).tolist() == [True, True, False]
