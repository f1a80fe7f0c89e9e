"""The documentation: links resolve, commands and settings exist, code compiles and runs."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

import napari_wsss
from napari_wsss import patches, samples, workflows
from napari_wsss.classes import ClassTable
from napari_wsss.cli.app import app
from napari_wsss.cli.stages import MODELS
from napari_wsss.models.registry import ModelEntry
from napari_wsss.settings import EvaluationSettings, InferenceSettings
from napari_wsss.workflows.project import ProjectFile

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
]
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]\[]*\]\(([^)\s]+)\)")
#: Our own repository, which absolute links must not point into at a wrong place.
_OWN = re.compile(
    r"https://(?:raw\.githubusercontent|github)\.com/[\w-]+/napari-wsss/(?:blob/)?main/"
)


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path, *languages: str) -> list[str]:
    """Return the fenced blocks of a page in these languages."""
    text = path.read_text("utf-8")
    return [body for _, language, body in _FENCE.findall(text) if language in languages]


def all_blocks(*languages: str) -> list:
    return [
        pytest.param(block, id=f"{short(page)}-{i}")
        for page in PAGES
        for i, block in enumerate(blocks(page, *languages), 1)
    ]


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, made as GitHub makes them."""
    text = _FENCE.sub("", path.read_text("utf-8"))
    headings = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


# -- links -------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=short)
def test_links_resolve(page):
    broken = []
    for link in _LINK.findall(_FENCE.sub("", page.read_text("utf-8"))):
        target, _, anchor = link.partition("#")
        if _OWN.match(target):
            file = ROOT / _OWN.sub("", target)
        elif re.match(r"[a-z]+:", target):
            continue
        else:
            file = page.parent / target if target else page
        if not file.exists():
            broken.append(link)
        elif anchor and anchor not in anchors(file):
            broken.append(f"{link} (no such heading)")
    assert not broken


def test_every_page_is_reachable_from_the_index():
    index = ROOT / "docs" / "index.md"
    seen, waiting = set(), [index]
    while waiting:
        page = waiting.pop()
        seen.add(page)
        for link in _LINK.findall(_FENCE.sub("", page.read_text("utf-8"))):
            file = (page.parent / link.partition("#")[0]).resolve()
            if file.suffix == ".md" and file.is_file() and file not in seen:
                waiting.append(file)
    assert set((ROOT / "docs").rglob("*.md")) <= seen


# -- commands ----------------------------------------------------------------------------


def shell_commands(text: str) -> list[list[str]]:
    """Return the arguments of every ``napari-wsss`` line of a shell block."""
    lines = text.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    found = []
    for line in words:
        if line and Path(line[0]).name == "napari-wsss":
            found.append(line[1:])
    return found


def parse(arguments: list[str]) -> None:
    """Parse arguments as the command line would, without running anything."""
    command, rest = typer.main.get_command(app), list(arguments)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"there is no command {rest[0]!r}"
        command = command.commands[rest.pop(0)]
    if "--help" not in rest:
        command.make_context("napari-wsss", rest)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(arguments, id=f"{short(page)}-{' '.join(arguments[:2])}-{i}")
        for page in PAGES
        for i, arguments in enumerate(
            [a for block in blocks(page, "sh", "bash", "console") for a in shell_commands(block)]
        )
    ],
)
def test_commands_parse(arguments):
    parse(arguments)
    check_changes(arguments)


def check_changes(arguments: list[str]) -> None:
    """Check the settings that a command is given by ``--set``."""
    from napari_wsss.cli.stages import merged_values, validated

    stages = {
        "pretrain": "pretrain",
        "train-classifier": "classifier",
        "pseudo-masks": "pseudo-masks",
        "train-segmenter": "segmenter",
        "segment": "inference",
        "maps": "inference",
        "evaluate": "evaluation",
    }
    changes = [b for a, b in itertools.pairwise(arguments) if a == "--set"]
    if not changes:
        return
    values = merged_values(None, changes)
    if arguments[0] == "benchmark":
        for stage, inner in values.items():
            validated(MODELS[stage.replace("_", "-")], inner)
        return
    if arguments[0] == "evaluate":
        validated(InferenceSettings, values.pop("inference", {}))
    validated(MODELS[stages[arguments[0]]], values)


@pytest.mark.parametrize("page", PAGES, ids=short)
def test_commands_in_running_text_exist(page):
    """Placeholders make these no whole commands; names of commands and options must be right."""
    text = _FENCE.sub("", page.read_text("utf-8"))
    unknown = []
    for code in re.findall(r"`napari-wsss ([^`]+)`", text):
        command = typer.main.get_command(app)
        for word in shlex.split(code):
            if word.startswith("-"):
                options = {name for p in command.params for name in p.opts}
                known = options | {"--help", "-h"}
                unknown += [] if word.split("=")[0] in known else [code]
            elif hasattr(command, "commands"):
                if word not in command.commands:
                    unknown.append(code)
                    break
                command = command.commands[word]
    assert not unknown


# -- settings and data -------------------------------------------------------------------


@pytest.mark.parametrize("block", all_blocks("toml"))
def test_toml_is_what_its_first_line_says(block):
    data = tomllib.loads(block)
    kind = block.splitlines()[0].removeprefix("# ").removesuffix(".toml")
    if kind == "classes":
        ClassTable.from_dict(data)
    elif kind == "models":
        assert [ModelEntry.model_validate(row) for row in data["model"]]
    elif kind in set(MODELS):
        if kind == "evaluation":
            InferenceSettings.from_dict(data.pop("inference", {}))
        MODELS[kind].from_dict(data)
    else:
        file = ProjectFile.model_validate(data)
        assert (file.project.dataset is None) != (file.cut is None)


@pytest.mark.parametrize("block", all_blocks("json"))
def test_json_parses(block):
    assert json.loads(block)


def test_evaluation_page_shows_every_key():
    from napari_wsss.evaluation import Evaluation

    (block,) = blocks(ROOT / "docs" / "evaluation.md", "json")
    shown = json.loads(block)
    counts = [[[100, 50, 0], [50, 100, 0]]] * 2
    classes = ClassTable.from_dict(shown["classes"])
    found = Evaluation.from_counts(
        {"predicted_gate": counts, "oracle_labels": counts}, classes
    ).to_dict()
    for name, protocol in found["protocols"].items():
        assert shown["protocols"][name].keys() == protocol.keys()
        assert shown["protocols"][name]["miou"] == pytest.approx(protocol["miou"], abs=1e-3)
        assert shown["protocols"][name]["mean_dice"] == pytest.approx(
            protocol["mean_dice"], abs=1e-3
        )
    assert set(found) <= set(shown)
    assert shown["conditions"]["min_share"] == EvaluationSettings().min_share


# -- Python ------------------------------------------------------------------------------


@pytest.mark.parametrize("block", all_blocks("python"))
def test_python_compiles(block):
    compile(block, "documentation", "exec")


def test_api_page_names_everything_public():
    headings = anchors(ROOT / "docs" / "api.md")
    assert {n.lower() for n in napari_wsss.__all__ if not n.startswith("_")} <= headings


def signatures() -> list:
    """Return the functions without a body of the API page, parsed."""
    texts = [b for b in blocks(ROOT / "docs" / "api.md", "python") if b.endswith(": ...\n")]
    nodes = [ast.parse(text).body[0] for text in texts]
    return [pytest.param(node, id=node.name) for node in nodes]


@pytest.mark.parametrize("written", signatures())
def test_api_signatures_are_those_of_the_code(written):
    homes = (napari_wsss, workflows, patches, samples)
    found = (getattr(home, written.name, None) for home in homes)
    real = inspect.signature(next(f for f in found if inspect.isfunction(f)))
    shown = {}
    arguments = written.args
    defaults = [None] * (len(arguments.args) - len(arguments.defaults)) + arguments.defaults
    for argument, default in zip(arguments.args, defaults, strict=True):
        shown[argument.arg] = ("positional", default)
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        shown[argument.arg] = ("keyword", default)
    for name, parameter in real.parameters.items():
        kind, default = shown.pop(name)
        assert (kind == "keyword") == (parameter.kind is parameter.KEYWORD_ONLY)
        value = parameter.empty if default is None else ast.literal_eval(default)
        assert value == parameter.default
    assert not shown


def test_api_examples_run(tmp_path):
    examples = [
        block
        for block in blocks(ROOT / "docs" / "api.md", "python")
        if not block.endswith(": ...\n")
    ]
    script = tmp_path / "examples.py"
    script.write_text("\n".join(examples), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "evaluation.json").is_file()
