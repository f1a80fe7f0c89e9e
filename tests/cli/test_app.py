"""The command line as a whole: its commands, start-up, exit codes and messages."""

import json
import subprocess
import sys
import time

import pytest

import napari_wsss

COMMANDS = [
    *("demo", "info", "settings", "train-classifier", "pseudo-masks", "train-segmenter"),
    *("segment", "maps", "evaluate", "export", "convert", "run"),
    *("patches from-masks", "patches report"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(cli, command):
    result = cli(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"{command} [OPTIONS]" in result.stdout


def test_version(cli):
    result = cli("--version")
    assert (result.exit_code, result.stdout) == (0, f"napari-wsss {napari_wsss.__version__}\n")


def test_help_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['napari-wsss', '--help']\n"
        "from napari_wsss.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: code = stop.code\n"
        "heavy = {'torch', 'timm', 'pandas', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "assert code == 0 and not heavy, (code, heavy)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_help_is_quick(process):
    seconds = []
    for _ in range(3):  # the best of three: the machine may be busy
        began = time.perf_counter()
        assert process("--help").returncode == 0
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 1.5  # 0.4 s on an idle machine; torch alone takes longer than this


def test_errors_go_to_stderr_without_a_traceback(process, tmp_path):
    done = process("patches", "report", tmp_path / "none")
    assert done.returncode == 1
    assert done.stderr.strip() == f"Error: There is no patch set {tmp_path / 'none'}."
    assert done.stdout == ""


def test_debug_adds_the_traceback(process, tmp_path):
    for args, env in ((["--debug"], {}), ([], {"NAPARI_WSSS_DEBUG": "1"})):
        done = process(*args, "patches", "report", tmp_path / "none", **env)
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        assert "Error: There is no patch set" in done.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["no-such-command"],
        ["segment"],
        ["train-classifier", "set", "--out", "m", "--seed", "-1"],
        ["train-segmenter", "set", "--out", "m"],
        ["train-segmenter", "set", "--out", "m", "--masks", "a", "--pseudo-masks", "b"],
        ["export", "result"],
        ["settings", "no-such-stage"],
        ["patches", "report", "set", "--split", "holiday"],
    ],
)
def test_wrong_use_exits_with_2(cli, args):
    assert cli(*args).exit_code == 2


def test_no_command_shows_the_help(cli):
    assert "train-classifier" in cli().output


def test_messages_keep_brackets_and_long_paths(cli, tmp_path):
    path = tmp_path / ("x" * 120) / "a [bold] [1 0 0 1].png"
    result = cli("convert", path, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert f"Error: There is no file {path}." in result.stderr


def test_a_foreign_error_of_the_system_is_put_in_words(cli, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", "/somewhere/slide.svs")

    monkeypatch.setattr("napari_wsss.slides.open_slide", refuse)
    result = cli("convert", "slide.svs", "--out", "out")
    assert result.exit_code == 1
    assert "Error: /somewhere/slide.svs: Permission denied" in result.stderr
    assert isinstance(result.exception, SystemExit)


def test_info_names_what_matters(cli):
    shown = cli("info")
    assert shown.exit_code == 0
    found = json.loads(cli("info", "--json").stdout)
    assert found["napari-wsss"] == napari_wsss.__version__
    assert found["precision"] in ("bf16", "fp32")
    assert found["packaged_encoders"]["tf_efficientnet_lite0"] is True
    assert set(found["optional"]) == {"openslide", "napari"}
    for text in (found["torch"], found["device_name"], "openslide", "tf_efficientnet_lite0"):
        assert text in shown.stdout
