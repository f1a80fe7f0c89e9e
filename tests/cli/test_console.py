"""Running jobs on a terminal: what is shown, where it goes, and Ctrl-C."""

import io
import json
import os
import signal
import threading

import pytest
from rich.console import Console

from napari_wsss.cli.console import Terminal, interruptible
from napari_wsss.cli.progress import LinesView, LiveView, View, epoch_text
from napari_wsss.errors import CancelledError, OutputError, WsssError
from napari_wsss.jobs import BlockDone, CancelToken, EpochEnd, Log, Progress, run_job

EVENTS = (
    Log("on cpu [1 0 0 1]"),
    Log("glass is ignored", "warning"),
    Progress("train", 1, 4),
    EpochEnd(2, 10, {"loss": 0.5, "map": 0.25, "ap tumour": 0.3, "seconds": 1.26}, best=True),
    BlockDone(0, 0, 8, 8),
    Progress("train", 4, 4),
)


def job(result=None, cancel=None):
    yield from EVENTS
    return result


def shown(make):
    console = Console(file=io.StringIO(), width=100, highlight=False, force_terminal=False)
    with make(console) as view:
        for event in EVENTS:
            view.show(event)
    return console.file.getvalue()


def test_lines_tell_stage_progress_and_epochs():
    assert shown(LinesView).splitlines() == [
        "on cpu [1 0 0 1]",
        "Warning: glass is ignored",
        "train: 1/4, 0 s",
        "Epoch  2/10  loss 0.5000  mAP 0.250  1.3 s  * kept",
        "train: 4/4, 0 s",
    ]


def test_lines_are_few_however_many_steps():
    console = Console(file=io.StringIO(), force_terminal=False)
    with LinesView(console) as view:
        for done in range(1, 1001):
            view.show(Progress("train", done, 1000))
    assert len(console.file.getvalue().splitlines()) == 2


def test_quiet_keeps_warnings_only():
    assert shown(lambda console: View(console, quiet=True)) == "Warning: glass is ignored\n"


def test_the_bar_shows_stage_percentage_and_times():
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with LiveView(console) as view:
        view.show(Progress("cut patches", 1, 4))
        view.show(Progress("train", 3, 4))
        view._bars.refresh()
        text = console.file.getvalue()
    for part in ("cut patches", "train", "75%", "3/4", "elapsed", "left"):
        assert part in text


def test_resumed_work_begins_where_it_is():
    console = Console(file=io.StringIO(), force_terminal=True)
    with LiveView(console) as view:
        view.show(Progress("train", 900, 1000))
        assert view._bars.tasks[0].completed == 900
        assert view._bars.tasks[0].speed is None  # nothing was done yet in this run


def test_a_stage_that_runs_again_counts_its_time_anew():
    console = Console(file=io.StringIO(), force_terminal=True)
    with LiveView(console) as view:
        view.show(Progress("train", 2, 2))
        first = view._bars.tasks[0].id
        view.show(Progress("train", 1, 2))
        view.show(Progress("train", 2, 2))
        assert [task.id for task in view._bars.tasks] == [first + 1]


def test_epoch_text_leaves_out_what_is_not_there():
    assert epoch_text(EpochEnd(1, 2)) == "Epoch 1/2"


def test_results_go_to_stdout_and_events_to_stderr(capsys):
    terminal = Terminal()
    assert terminal.run(job, "result") == "result"
    terminal.say("a [result]")
    out, err = capsys.readouterr()
    assert out == "a [result]\n"
    assert "Warning: glass is ignored" in err


def test_a_summary_on_stdout_stands_alone(capsys):
    terminal = Terminal("-")
    terminal.run(job)
    terminal.say("for a person")
    terminal.summary({"value": float("nan"), "name": "µ"})
    assert json.loads(capsys.readouterr().out) == {"value": None, "name": "µ"}


def test_an_unusable_summary_file_is_refused_before_work(tmp_path):
    slide = tmp_path / "slide.svs"
    slide.write_bytes(b"II*\0")
    for path, words in ((slide, "no JSON summary"), (tmp_path, "is a folder")):
        with pytest.raises(OutputError, match=words):
            Terminal(str(path))
    assert slide.read_bytes() == b"II*\0"


def test_an_earlier_summary_is_replaced_and_folders_are_made(tmp_path):
    path = tmp_path / "new" / "s.json"
    for n in (1, 2):
        Terminal(str(path)).summary({"n": n, "path": path})
    assert json.loads(path.read_text("utf-8")) == {"n": 2, "path": str(path)}
    assert [p.name for p in path.parent.iterdir()] == ["s.json"]


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="the system has no /dev/null")
def test_a_device_is_written_to_and_not_replaced():
    Terminal(os.devnull).summary({"n": 1})
    assert not os.path.isfile(os.devnull)


def test_ctrl_c_stops_the_job_at_its_next_safe_point():
    steps = []

    def long_job(cancel):
        for i in range(5):
            cancel.raise_if_cancelled()
            steps.append(i)
            if i == 1:
                signal.raise_signal(signal.SIGINT)
            yield Progress("work", i, 5)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(CancelledError):
        Terminal(quiet=True).run(long_job)
    assert steps == [0, 1]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_stops_at_once():
    with interruptible() as cancel:
        signal.raise_signal(signal.SIGINT)
        assert cancel.cancelled
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_in_another_thread_nothing_is_handled():
    found = []
    thread = threading.Thread(target=lambda: found.append(run_job(_ask())))
    thread.start()
    thread.join(10)
    assert isinstance(found[0], CancelToken)


def _ask():
    with interruptible() as cancel:
        yield Log("here")
        return cancel


@pytest.mark.parametrize(
    ("error", "code", "mark"),
    [
        (CancelledError("start it again to go on"), 130, "Stopped: start it again"),
        (KeyboardInterrupt(), 130, "Stopped: "),
        (WsssError("no [such] thing"), 1, "Error: no [such] thing"),
        (MemoryError(), 1, "Error: There is not enough memory."),
    ],
)
def test_exit_codes(cli, monkeypatch, error, code, mark):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("napari_wsss.slides.open_slide", fail)
    result = cli("convert", "slide.svs", "--out", "out")
    assert result.exit_code == code
    assert mark in result.stderr
