"""From exceptions to a message and an exit code, in one place."""

from __future__ import annotations

import errno
import traceback
from typing import Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from napari_wsss.errors import CancelledError, WsssError

__all__ = ["CANCELLED", "FAILED", "ErrorGroup", "print_message"]

#: Exit codes; usage errors exit with 2, as everywhere.
FAILED, CANCELLED = 1, 130


def print_message(mark: str, message: object, style: str) -> None:
    """Print ``mark: message`` on stderr; nothing in it is taken for markup, lines stay whole."""
    console = Console(stderr=True, highlight=False)
    console.print(Text.assemble((f"{mark}: ", f"bold {style}"), str(message)), soft_wrap=True)


class ErrorGroup(TyperGroup):
    """A group of commands that shows errors of ours as a message, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the arguments name."""
        try:
            return super().invoke(ctx)
        except CancelledError as error:
            print_message("Stopped", error, "yellow")
            raise typer.Exit(CANCELLED) from error
        except KeyboardInterrupt as error:
            print_message("Stopped", "The command was interrupted.", "yellow")
            raise typer.Exit(CANCELLED) from error
        except (WsssError, MemoryError, OSError) as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # the reader of our output went away, which typer knows how to take
            if ctx.params.get("debug"):
                traceback.print_exception(error)
            print_message("Error", _text(error), "red")
            raise typer.Exit(FAILED) from error


def _text(error: Exception) -> str:
    """Return an error in a user's words."""
    if isinstance(error, MemoryError):
        return "There is not enough memory. Try smaller batches or blocks (--set batch_size=1)."
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    return str(error)
