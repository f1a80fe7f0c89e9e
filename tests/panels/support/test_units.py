"""The registry of units is loaded once, whoever uses it first."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("pint")

RACE = """
import threading
import pint
from napari_wsss.panels.support.units import make_units_ready

loading, after_init = threading.Event(), pint.UnitRegistry._after_init

def slow(self):
    loading.set()
    threading.Event().wait(0.5)
    after_init(self)

pint.UnitRegistry._after_init = slow
registry = pint.get_application_registry()
thread = threading.Thread(target=lambda: registry.meter)
thread.start()
loading.wait()
%s
print(registry.pixel)
thread.join()
"""


@pytest.mark.parametrize("ready", [False, True])
def test_it_waits_for_a_thread_that_is_loading_the_registry(ready):
    code = RACE % ("make_units_ready()" if ready else "")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if ready:
        assert done.stdout.strip() == "pixel", done.stderr
    else:
        assert "UndefinedUnitError" in done.stderr, "pint loads it under a lock now: drop this"
