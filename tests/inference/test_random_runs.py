"""Property: whatever the shape, the blocks, their order and the interruptions, the result is
that of the network on the whole image."""

from __future__ import annotations

import itertools
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_wsss.classes import ClassTable
from napari_wsss.errors import CancelledError
from napari_wsss.inference import (
    Engine,
    RunOptions,
    SlideSegmentation,
    blocks,
    outputs,
    segment_job,
)
from napari_wsss.inference.predict import image_logits
from napari_wsss.jobs import BlockDone, CancelToken, run_job
from napari_wsss.models import ModelInfo, Segmenter
from napari_wsss.settings import EncoderSettings, InferenceSettings
from napari_wsss.slides import open_slide

CHUNK = 64
PATCH = 48


@cache
def model_of(upscale, stages):
    """A network whose halo and stride depend on how many stages of the encoder it uses."""
    torch.manual_seed(0)
    info = ModelInfo(
        kind="segmenter",
        encoder=EncoderSettings(name="test_resnet", weights="random", upscale=upscale),
        architecture={"decoder_channels": 16, "encoder_stages": stages},
        classes=ClassTable.from_names(["a", "b", "c"]).to_dict(),
        mpp=0.5,
        patch_size_px=PATCH,
    )
    return Segmenter(info).eval()


@pytest.fixture(params=[1.0, 1.5], ids=["upscale 1", "upscale 1.5"])
def upscale(request):
    return request.param


@pytest.fixture(scope="module", autouse=True)
def _small_chunks():
    """Blocks are whole chunks; with those of results, images would have to be large."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "CHUNK_PX", CHUNK)
        patch.setattr(outputs, "CHUNK_PX", CHUNK)
        yield


def oracle(model, image, gate):
    """One forward pass over the whole image, mirrored up to the network's stride."""
    whole = InferenceSettings(block_px=4096, gate=gate, precision="fp32")
    return image_logits(Engine(model, whole, device="cpu"), image, PATCH)


def run(slide, model, out, chosen, interruptions, view):
    """Segment, cancelled after these numbers of blocks, then to the end."""
    for after in [*interruptions, None]:
        token = CancelToken()
        options = RunOptions(device="cpu", view=view)
        job = segment_job(slide, model, out, chosen, options, cancel=token)
        done = itertools.count(1)

        def stop(event, token=token, done=done, after=after):
            if isinstance(event, BlockDone) and next(done) == after:
                token.cancel()

        try:
            return run_job(job, stop)
        except CancelledError:
            continue
    raise AssertionError("the last run was cancelled, too")


@given(
    stages=st.integers(3, 5),
    shape=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    block_px=st.sampled_from([64, 128, 192, 320]),
    gate=st.booleans(),
    batch_size=st.sampled_from(["auto", 2, 3]),
    readers=st.integers(1, 3),
    view=st.none() | st.tuples(st.floats(0, 300), st.floats(0, 300)),
    interruptions=st.lists(st.integers(1, 6), max_size=3),
    seed=st.integers(0, 99),
)
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_run_gives_the_labels_of_the_whole_image(
    upscale, stages, shape, block_px, gate, batch_size, readers, view, interruptions, seed
):
    model = model_of(upscale, stages)
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (-(-shape[0] // 8), -(-shape[1] // 8), 3), np.uint8)
    image = coarse.repeat(8, 0).repeat(8, 1)[: shape[0], : shape[1]]
    chosen = InferenceSettings(
        block_px=block_px,
        gate=gate,
        batch_size=batch_size,
        readers=readers,
        tissue_only=False,
        precision="fp32",
    )
    expected = oracle(model, image, gate)
    with tempfile.TemporaryDirectory() as folder:
        slide = open_slide(image, mpp=0.5, name="a")
        result = run(slide, model, Path(folder), chosen, interruptions, lambda: view)
        found = SlideSegmentation.open(result.path)
        labels, doubt = found.labels[:], np.asarray(found.uncertainty()[:], int)
    assert abs(doubt - np.round(expected.uncertainty() * 254)).max() <= 1
    differ = labels != expected.labels() + 1
    if differ.any():  # only where rounding decides between two classes
        two = np.sort(expected.logits, 0)[-2:, differ]
        assert (two[1] - two[0]).max() < 1e-4
