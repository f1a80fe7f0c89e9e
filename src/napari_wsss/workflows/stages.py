"""Which stages of a longer piece of work are done, so that they are not done again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from napari_wsss.errors import OutputError
from napari_wsss.files import write_atomic
from napari_wsss.jobs import Job, Log

__all__ = ["Stages"]

T = TypeVar("T")


@dataclass
class Stages:
    """The stages of one output folder, kept in its ``stages.json``.

    Attributes
    ----------
    out
        The folder.
    overwrite
        Whether a stage that was done with other inputs may be replaced.
    outcome
        What became of each stage in this run: ``"done"`` or ``"skipped"``.
    """

    out: Path
    overwrite: bool
    outcome: dict[str, str] = field(default_factory=dict)

    @property
    def _file(self) -> Path:
        return self.out / "stages.json"

    def marks(self) -> dict[str, str]:
        """Return the mark of every finished stage."""
        try:
            return dict(json.loads(self._file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise OutputError(f"{self._file} cannot be read: {error}") from error

    def is_done(self, stage: str, mark: str, output: Path) -> bool:
        """Whether `stage` was finished with these inputs.

        Raises
        ------
        OutputError
            If it was finished with others, and may not be replaced.
        """
        if not output.exists():
            return False
        known = self.marks().get(stage)
        if known == mark:
            return True
        if known is not None and not self.overwrite:
            raise OutputError(
                f"The stage {stage!r} was done with other data or settings ({output}). Choose "
                "another folder for the output, or make it again with --overwrite."
            )
        return False

    def finish(self, stage: str, mark: str) -> None:
        """Remember that `stage` is done."""
        write_atomic(self._file, json.dumps({**self.marks(), stage: mark}, indent=1).encode())

    def run(
        self,
        stage: str,
        mark: str,
        output: Path,
        make: Callable[[bool], Job[T]],
        load: Callable[[], T],
    ) -> Job[T]:
        """Run `make`, or `load` what an earlier run made, as a job.

        Parameters
        ----------
        stage
            Its name.
        mark
            Fingerprint of everything that it depends on.
        output
            What it writes.
        make
            Called with whether its output may be replaced.
        load
            Returns what `make` returned in the earlier run.
        """
        if self.is_done(stage, mark, output):
            yield Log(f"{stage}: already done")
            self.outcome[stage] = "skipped"
            return load()
        # An output without a mark is unfinished; `make` replaces only what is its own.
        made = yield from make(self.overwrite)
        self.finish(stage, mark)
        self.outcome[stage] = "done"
        return made
