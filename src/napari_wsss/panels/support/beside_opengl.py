"""Lets torch load in a process that draws with OpenGL.

On Linux, Mesa's drivers and triton, which torch brings for GPUs, hold an LLVM each. Loaded
after the driver, triton binds to the driver's LLVM and the process dies with a segmentation
fault. Told to prefer its own symbols (RTLD_DEEPBIND), it loads.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ExtensionFileLoader, ModuleSpec, PathFinder
from types import ModuleType

__all__ = ["let_torch_load"]

_LIBRARY = "triton._C.libtriton"
#: Of glibc; systems without it do not have the problem.
_DEEPBIND = getattr(os, "RTLD_DEEPBIND", 0)


def let_torch_load() -> None:
    """See to it that triton, whoever imports it, is loaded with symbols of its own."""
    known = any(isinstance(finder, _Finder) for finder in sys.meta_path)
    if _DEEPBIND and not known and _LIBRARY not in sys.modules:
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _LIBRARY:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, ExtensionFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(ExtensionFileLoader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        flags = sys.getdlopenflags()
        sys.setdlopenflags(flags | _DEEPBIND)
        try:
            return super().create_module(spec)
        finally:
            sys.setdlopenflags(flags)
