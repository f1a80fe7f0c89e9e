from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_wsss.errors import CancelledError, ModelError
from napari_wsss.inference import Engine
from napari_wsss.inference.gate import GateGrid
from napari_wsss.inference.predict import image_logits, predict_block
from napari_wsss.inference.source import array_source, mirror
from napari_wsss.inference.tiles import ExactTiles, Rect
from napari_wsss.jobs import CancelToken
from napari_wsss.models import Segmenter
from napari_wsss.settings import InferenceSettings

FP32 = {"precision": "fp32"}


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def whole_image(model, image):
    """One forward pass over the image, mirrored up to a multiple of the network's stride."""
    step = model.alignment_px
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % step), (0, -width % step), (0, 0)), mode="symmetric")
    x = torch.from_numpy(padded).permute(2, 0, 1)[None]
    if model.encoder.normalises:  # else it takes the bytes
        x = x.float() / 255
    with torch.no_grad():
        out = model.dense(x)
    return out.logits[0, :, :height, :width].numpy()


# -- reading beyond the border ----------------------------------------------------------


@given(st.integers(-40, 40), st.integers(1, 40), st.integers(1, 12))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_mirror_folds_like_symmetric_padding(start, count, size):
    row = np.arange(size)
    padded = np.pad(row, 100, mode="symmetric")
    assert (
        mirror(start, count, size).tolist() == padded[100 + start : 100 + start + count].tolist()
    )


@given(
    st.integers(-30, 30),
    st.integers(-30, 30),
    st.integers(1, 30),
    st.integers(1, 30),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_source_is_its_image_padded_by_mirroring(y, x, height, width):
    image = noise(9, 13)
    padded = np.pad(image, ((60, 60), (60, 60), (0, 0)), mode="symmetric")
    found = array_source(image).read(y, x, height, width)
    np.testing.assert_array_equal(found, padded[60 + y : 60 + y + height, 60 + x : 60 + x + width])


# -- exact networks ---------------------------------------------------------------------

EXACT = {
    "unet": ("segmenter", {}),
    "lite0": ("segmenter", {"name": "tf_efficientnet_lite0", "weights": "packaged"}),
    "upscale 1.5": ("segmenter", {"upscale": 1.5}),
    "upscale 2": ("segmenter", {"upscale": 2.0}),
    "classifier": ("classifier", {}),
    "layer norm": ("classifier", {"name": "test_convnext"}),
}


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", EXACT)
def test_a_block_equals_one_pass_over_the_whole_image(make_model, name, axis):
    """On a strip so long that the block, with its halo, is only a part of it."""
    kind, encoder = EXACT[name]
    model = make_model(kind, encoder=encoder)
    engine = Engine(model, InferenceSettings(**FP32), device="cpu")
    assert engine.exact
    size, place, block = [40, 40], [0, 0], [40, 40]
    size[axis] = 2 * engine.halo.logits + 5 * engine.step + 7
    place[axis] = engine.halo.logits + 2 * engine.step
    block[axis] = engine.step
    image = noise(*size)
    expected = whole_image(model, image)[:, place[0] :, place[1] :][:, : block[0], : block[1]]
    read = []
    source = array_source(image)
    inner = source._read
    source._read = lambda *area: read.append(area[2 + axis]) or inner(*area)
    found = predict_block(engine, source, Rect(*place, *block), None, side=engine.step)
    assert read == [2 * engine.halo.logits + engine.step]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found.logits / scale, expected / scale, atol=1e-4)
    np.testing.assert_array_equal(found.labels(), expected.argmax(0))


@pytest.mark.parametrize("upscale", [1.0, 1.5])
def test_blocks_equal_one_pass_over_the_whole_image(make_model, upscale):
    model = make_model(encoder={"upscale": upscale})
    image = noise(150, 430)
    expected = whole_image(model, image)
    engine = Engine(model, InferenceSettings(block_px=64, gate=False, **FP32), device="cpu")
    found = image_logits(engine, image, 48)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found.logits / scale, expected / scale, atol=1e-4)
    np.testing.assert_array_equal(found.labels(), expected.argmax(0))


@pytest.fixture(scope="module")
def exact_engine():
    from napari_wsss.classes import ClassTable
    from napari_wsss.models import ModelInfo
    from napari_wsss.settings import EncoderSettings

    torch.manual_seed(0)
    info = ModelInfo(
        kind="segmenter",
        encoder=EncoderSettings(name="test_resnet", weights="random", upscale=1.0),
        architecture={"decoder_channels": 16},
        classes=ClassTable.from_names(["a", "b", "c"]).to_dict(),
        patch_size_px=48,
    )
    return Engine(Segmenter(info), InferenceSettings(**FP32), device="cpu")


@given(
    height=st.integers(1, 90),
    width=st.integers(300, 560),
    block=st.integers(64, 200),
    seed=st.integers(0, 5),
)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_any_shape_and_block_gives_the_same(exact_engine, height, width, block, seed):
    image = noise(height, width, seed)
    expected = whole_image(exact_engine.model, image)
    exact_engine.settings = InferenceSettings(block_px=block, gate=False, **FP32)
    found = image_logits(exact_engine, image, 48)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found.logits / scale, expected / scale, atol=1e-4)
    # Where two classes are closer than rounding, either may win.
    differ = found.labels() != expected.argmax(0)
    top = np.sort(expected, 0)
    assert (top[-1] - top[-2])[differ].max(initial=0) < 1e-4 * scale


def test_a_shorter_halo_would_not_be_exact(exact_engine):
    """Otherwise the tests above would show nothing."""
    image = noise(64, 500)
    expected = whole_image(exact_engine.model, image)
    known = exact_engine.tiles
    exact_engine.settings = InferenceSettings(block_px=64, gate=False, **FP32)
    exact_engine.tiles = ExactTiles(exact_engine.step, exact_engine.step, 0)
    found = image_logits(exact_engine, image, 48).logits
    exact_engine.tiles = known
    assert np.abs(found - expected).max() > 1e-3 * np.abs(expected).max()


@given(
    st.tuples(st.integers(1, 400), st.integers(1, 400)),
    st.sampled_from([48, 64, 90]),
    st.sampled_from([16, 32]),
    st.integers(0, 40),
    st.booleans(),
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_tiles_of_a_grid_hold_what_is_needed(shape, side, step, margin, alike):
    """In one shape if they are to be alike, and no more than needed if not."""
    tiles = ExactTiles(step, 4 * step, 2 * step, alike)
    end = [-(-n // step) * step for n in shape]
    shapes = set()
    for y in range(0, shape[0], side):
        for x in range(0, shape[1], side):
            rect = Rect(y, x, min(side, shape[0] - y), min(side, shape[1] - x))
            read = tiles.reads(shape, rect, margin, side)
            shapes.add(read[2:])
            for start, count, first, length, whole in zip(
                rect[:2], rect[2:], read[:2], read[2:], end, strict=True
            ):
                assert first % step == 0
                assert length % step == 0
                for around in (4 * step, margin + 2 * step):
                    assert first <= max(0, start - around)
                    assert first + length >= min(whole, start + count + around)
                assert 0 <= first <= first + length <= whole
                if not alike:
                    reach = tiles.reach(margin)
                    assert first == 0 or first + step > start - reach
                    assert first + length - step < start + count + reach
    assert len(shapes) == 1 or not alike


def test_a_batch_gives_what_its_tiles_give_alone(exact_engine):
    rects = [Rect(0, 0, 64, 96), Rect(32, 64, 64, 96)]
    images = [noise(64, 96, seed) for seed in (1, 2)]
    for region, image, rect in zip(exact_engine.run(images, rects), images, rects, strict=True):
        (alone,) = exact_engine.run([image], [rect])
        assert region.rect == rect
        torch.testing.assert_close(region.logits, alone.logits, atol=1e-5, rtol=1e-5)
        assert region.presence.shape == (3, 4, 6)


def test_a_pass_ends_between_two_layers_when_cancelled(make_model):
    token = CancelToken()
    engine = Engine(make_model(), InferenceSettings(**FP32), device="cpu", cancel=token)
    engine.model.decoder.register_forward_pre_hook(lambda *_: token.cancel())
    with pytest.raises(CancelledError):
        engine.run([noise(64, 64)], [Rect(0, 0, 64, 64)])


def test_flips_average_four_passes(make_model):
    model = make_model()
    image = noise(64, 96)
    expected = sum(
        np.flip(whole_image(model, np.flip(image, axes)), [a + 1 for a in axes])
        for axes in ((), (1,), (0,), (0, 1))
    )
    engine = Engine(model, InferenceSettings(gate=False, **FP32), device="cpu", flips=True)
    found = image_logits(engine, image, 48)
    np.testing.assert_allclose(found.logits, expected / 4, atol=1e-4)


# -- networks that see everything -------------------------------------------------------


def test_a_constant_network_gives_a_constant_image(known_model):
    values = torch.tensor([1.0, -2.0, 0.5]).view(1, 3, 1, 1)
    model = known_model(
        lambda x: values.expand(len(x), 3, *x.shape[2:]).clone(),
        lambda x: 2 * values.expand(len(x), 3, *x.shape[2:]).clone(),
    )
    for overlap in (0.0, 0.25, 0.6):
        chosen = InferenceSettings(tile_px=64, tile_overlap=overlap, batch_size=3, **FP32)
        engine = Engine(model, chosen, device="cpu")
        engine.tiles = engine._blended_tiles()
        read = engine.tiles.reads((70, 150), Rect(16, 0, 54, 150), 0, 150)
        (region,) = engine.run([array_source(noise(70, 150)).read(*read)], [read])
        torch.testing.assert_close(region.crop(Rect(16, 0, 54, 150)), values[0].expand(3, 54, 150))
        small = region.presence
        torch.testing.assert_close(small, 2 * values[0].expand(small.shape))


@pytest.mark.parametrize("flips", [False, True])
def test_blended_results_do_not_depend_on_blocks(make_model, flips):
    model = make_model(encoder={"name": "test_efficientnet"})
    image = noise(70, 150)
    results = []
    for block, batch in ((300, 1), (64, 4), (90, 3)):
        chosen = InferenceSettings(
            tile_px=64, block_px=block, batch_size=batch, tile_overlap=0.5, gate=True, **FP32
        )
        engine = Engine(model, chosen, device="cpu", flips=flips)
        assert not engine.exact
        results.append(image_logits(engine, image, 48))
    for other in results[1:]:
        np.testing.assert_allclose(other.logits, results[0].logits, atol=1e-5)
        np.testing.assert_array_equal(other.allowed, results[0].allowed)


def test_images_smaller_than_a_tile(make_model):
    model = make_model(encoder={"name": "test_efficientnet"})
    engine = Engine(model, InferenceSettings(tile_px=128, **FP32), device="cpu")
    for size in ((1, 1), (5, 40), (17, 16)):
        assert image_logits(engine, noise(*size), 48).labels().shape == size


# -- broken models ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["exact", "blended"])
@pytest.mark.parametrize("part", ["logits", "presence"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_numbers_that_are_none_name_the_block(known_model, kind, part, value):
    def bad(x):
        return torch.where(x > 0.9, value, x)

    def good(x):
        return x * 1.0

    model = known_model(*((bad, good) if part == "logits" else (good, bad)))
    engine = Engine(model, InferenceSettings(tile_px=64, block_px=64, **FP32), device="cpu")
    engine.tiles = ExactTiles(16, 0, 0) if kind == "exact" else engine._blended_tiles()
    image = np.zeros((64, 200, 3), np.uint8)
    image[:, 144:160] = 255
    predict_block(engine, array_source(image), Rect(0, 0, 48, 48), GateGrid.of(8, (64, 200)))
    with pytest.raises(ModelError, match=r"no numbers(.|\n)*block at y=0, x=128, 64 x 64 px"):
        predict_block(engine, array_source(image), Rect(0, 128, 64, 64), GateGrid.of(8, (64, 200)))


def test_damaged_weights_are_told(make_model):
    model = make_model()
    torch.nn.init.constant_(model.encoder.net.conv1[0].weight, torch.nan)
    engine = Engine(model, InferenceSettings(**FP32), device="cpu")
    with pytest.raises(ModelError, match="block at y=0, x=0"):
        image_logits(engine, noise(64, 64), 48)


def test_an_unknown_device_is_named(make_model):
    with pytest.raises(ModelError, match="'abacus'"):
        Engine(make_model(), device="abacus")


def test_the_gate_of_a_block_is_that_of_the_whole_image(known_model):
    """Its windows reach beyond the block."""
    model = known_model(lambda x: x * 1.0, lambda x: 60 * (x - 0.5))
    engine = Engine(model, InferenceSettings(gate_threshold=0.5, **FP32), device="cpu")
    engine.tiles = ExactTiles(16, 0, 0)
    coarse = np.random.default_rng(0).integers(0, 256, (8, 14, 3), np.uint8)
    image = coarse.repeat(16, 0).repeat(16, 1)[:120, :217]
    source = array_source(image)
    grid = GateGrid.of(48, source.shape)
    whole = predict_block(engine, source, Rect(0, 0, 120, 217), grid)
    assert 0.2 < whole.allowed.mean() < 0.9
    blocks = [
        (0, 0, 30, 70),
        (41, 133, 49, 67),
        (119, 216, 1, 1),
        (10, 24, 24, 48),
        (60, 60, 9, 9),
    ]
    for y, x, h, w in blocks:
        part = predict_block(engine, source, Rect(y, x, h, w), grid)
        np.testing.assert_array_equal(part.allowed, whole.allowed[:, y : y + h, x : x + w])
        np.testing.assert_array_equal(part.logits, whole.logits[:, y : y + h, x : x + w])
