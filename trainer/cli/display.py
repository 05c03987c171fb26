"""How a training is shown: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from ..learning.loop import Progress
from ..runs.report import RunReport
from ..runs.run_folder import LossRow
from ..settings import Settings

_LINES, _USUAL = 10, 125
"""How many lines tell of a run where there is no bar; one without a length makes as many in so many
steps."""


class TerminalDisplay:
    """Shows steps, with what is found out above or between them; see `runs.training.Display`.

    Args:
        settings: of the run.
        place: line of the bar in the terminal.
        quiet: show nothing.
    """

    def __init__(self, settings: Settings, place: int = 0, *, quiet: bool = False) -> None:
        self._settings, self._place, self._quiet = settings, place, quiet
        self._has_bar = not quiet and sys.stderr.isatty()
        self._bar: tqdm[Any] | None = None

    def __enter__(self) -> TerminalDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def begin(self, report: RunReport, step: int) -> None:
        """See `Display`."""
        if not self._quiet:
            for note in report.notes:
                print(note, file=sys.stderr)
        if self._has_bar:
            self._bar = tqdm(
                total=None if self._settings.ends_by_itself else self._settings.steps,
                initial=step,
                desc=self._settings.name,
                unit="step",
                leave=False,
                position=self._place,
            )

    def say(self, text: str) -> None:
        """The bar says enough; what comes after the last step needs none."""
        self._close()

    def show(self, progress: Progress, row: LossRow, news: Sequence[str]) -> None:
        """See `Display`."""
        if self._quiet:
            return
        for line in news:
            self._write(line)
        if self._bar is not None:
            self._bar.leave = True  # no bar remains of a run that never began
            self._bar.total = progress.expected
            told = f"loss {progress.smoothed_loss:.4f}, {progress.estimate}"
            self._bar.set_postfix_str(told, refresh=False)
            self._bar.update()
        elif self._is_due(progress):
            self._write(f"{self._settings.name}: {progress}")

    def take_requests(self) -> frozenset[str]:
        """Nobody asks anything of a command, which Ctrl-C ends."""
        return frozenset()

    def _is_due(self, progress: Progress) -> bool:
        """Whether a step gets a line: the first, the last, and some between them."""
        length = _USUAL if self._settings.ends_by_itself else progress.steps
        every = max(1, length // _LINES)
        return progress.step in (1, progress.steps) or progress.step % every == 0

    def _write(self, line: str) -> None:
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
