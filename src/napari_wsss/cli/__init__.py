"""The command line, ``napari-wsss``: every stage of the package without a screen."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run ``napari-wsss`` with the arguments of this process, and exit."""
    from napari_wsss.environment import prepare_environment

    prepare_environment()
    from napari_wsss.cli.app import app, quieten_libraries

    quieten_libraries()
    app(prog_name="napari-wsss")
