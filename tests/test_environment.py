"""Processes that compute start with variables that make them quick, unless the user set them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from napari_wsss.environment import (
    PROCESS_ENVIRONMENT,
    computing_environment,
    prepare_environment,
)


@pytest.fixture
def unset(monkeypatch):
    for name in PROCESS_ENVIRONMENT:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("unset")
def test_children_get_the_variables_and_this_process_does_not():
    before = dict(os.environ)
    assert computing_environment() == {**before, **PROCESS_ENVIRONMENT}
    assert os.environ == before


@pytest.mark.usefixtures("unset")
def test_what_the_user_set_is_kept(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert computing_environment()["OMP_WAIT_POLICY"] == "ACTIVE"
    prepare_environment()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    assert os.environ["MALLOC_ARENA_MAX"] == "1"


@pytest.mark.usefixtures("unset")
def test_tunables_that_the_user_set_are_kept(monkeypatch):
    ours = PROCESS_ENVIRONMENT["GLIBC_TUNABLES"]
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.top_pad=65536")
    assert computing_environment()["GLIBC_TUNABLES"] == f"glibc.malloc.top_pad=65536:{ours}"
    prepare_environment()
    prepare_environment()  # adds nothing twice
    assert os.environ["GLIBC_TUNABLES"] == f"glibc.malloc.top_pad=65536:{ours}"
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.tcache_count=7:glibc.malloc.check=0")
    assert computing_environment()["GLIBC_TUNABLES"] == os.environ["GLIBC_TUNABLES"]


@pytest.mark.usefixtures("unset")
def test_the_command_line_sets_them_before_torch_is_loaded():
    code = (
        "import os, sys; import napari_wsss.environment as e; prepare = e.prepare_environment\n"
        "def look(): prepare(); print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'])\n"
        "e.prepare_environment = look; sys.argv[1:] = ['--version']\n"
        "from napari_wsss.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("False PASSIVE\n")
