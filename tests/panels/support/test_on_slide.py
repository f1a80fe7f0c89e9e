"""When a run over a slide that was cancelled may be left to stop by itself."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")

from napari_wsss.classes import ClassTable
from napari_wsss.inference import RunOptions, segment_job
from napari_wsss.jobs import BlockDone, CancelToken, Event, Log, Progress
from napari_wsss.models import ModelInfo, Segmenter
from napari_wsss.panels.support.on_slide import _Blocks
from napari_wsss.settings import EncoderSettings, InferenceSettings
from napari_wsss.slides import open_slide


def small_segmenter() -> Segmenter:
    info = ModelInfo(
        kind="segmenter",
        encoder=EncoderSettings(name="test_resnet", weights="random", upscale=1.0),
        architecture={"decoder_channels": 16},
        classes=ClassTable.from_names(["a", "b"]).to_dict(),
        mpp=1.0,
        patch_size_px=64,
    )
    return Segmenter(info).eval()


def run_events(folder, model, cancel_after=None) -> list[Event]:
    slide = open_slide(np.full((1100, 600, 3), 150, np.uint8), mpp=model.mpp, name="grey")
    settings = InferenceSettings(block_px=512, tissue_only=False, precision="fp32")
    cancel, events = CancelToken(), []
    job = segment_job(slide, model, folder, settings, RunOptions(device="cpu"), cancel=cancel)
    for event in job:
        events.append(event)
        if cancel_after and sum(isinstance(e, BlockDone) for e in events) == cancel_after:
            job.close()
            break
    return events


@pytest.mark.parametrize("resumed", [False, True])
def test_it_may_be_left_from_the_first_block_on_and_not_with_the_last(tmp_path, resumed):
    model = small_segmenter()
    if resumed:
        run_events(tmp_path, model, cancel_after=2)
    blocks = _Blocks()
    told = [(event, blocks(event)) for event in run_events(tmp_path, model)]
    begun = next(i for i, (e, _) in enumerate(told) if isinstance(e, BlockDone))
    assert told[begun - 1][1], "the first block can take longest"
    over = max(i for i, (e, _) in enumerate(told) if isinstance(e, BlockDone)) + 1
    assert all(left for event, left in told[begun:over])
    last = told[over][0]
    assert isinstance(last, Progress)
    assert last.done == last.total
    sealing = [left for event, left in told[over:] if not isinstance(event, Log)]
    assert sealing
    assert not any(sealing)
