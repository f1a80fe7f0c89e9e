"""Fixtures that every test may use."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of real slides and patches; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("WSSS_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}: set WSSS_DATA to their folder")
    return folder


@pytest.fixture(autouse=True)
def _few_threads() -> None:
    """Two threads at most: more would slow the small networks of the tests down."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() > 2:
        torch.set_num_threads(2)
