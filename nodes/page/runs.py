"""The runs of this host: where they are kept, and how the page hears of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import folder_paths

from ...trainer.files.whole_files import remove_abandoned
from ...trainer.learning.loop import Progress
from ...trainer.runs.live import LiveRun, LiveRuns
from ...trainer.runs.report import RunReport
from ...trainer.runs.run_folder import LossRow
from ..host import library
from ..host.execution import progress_bar, raise_if_cancelled

RUNS = LiveRuns()
"""Those that go on in this process."""

EVENT = "textual_inversion.run"
"""The message to every open page that a run has changed: its id, and its owner."""

SECONDS_BETWEEN_MESSAGES = 0.25


def runs_folder() -> Path:
    """The folder of all runs, below the host's output; it need not exist yet."""
    return Path(folder_paths.get_output_directory()) / "textual_inversion"


def temporary_folder() -> Path:
    """The host's folder for what it deletes as it starts; it need not exist yet."""
    return Path(folder_paths.get_temp_directory()) / "textual_inversion"


def clear_away() -> None:
    """Delete what processes that were killed have left among the words and in the runs."""
    library.clear_away()
    remove_abandoned(runs_folder(), below=True)


class NodeDisplay:
    """A run on the page: the node's progress bar, and its panel with a line, notes and chart."""

    def __init__(self, run: LiveRun) -> None:
        self._run = run
        self._report: RunReport | None = None
        self._bar = progress_bar(run.steps)
        self._said = 0.0

    def begin(self, report: RunReport, step: int) -> None:
        """See `trainer.runs.training.Display`."""
        self._report = report
        self.say(f"continuing from step {step}" if step else "encoding the pictures")

    def say(self, text: str) -> None:
        """Show a line of text."""
        self._said = time.monotonic()
        self._run.message = text
        self._run.notes = self._report.notes if self._report else []
        self.announce()

    def show(self, progress: Progress, row: LossRow, news: Sequence[str]) -> None:
        """Show a step; messages not too often, as every open page gets them."""
        self._run.add(row, progress)
        self._bar.update_absolute(progress.step, progress.end[1])
        late = time.monotonic() - self._said > SECONDS_BETWEEN_MESSAGES
        if late or progress.step == progress.steps:
            self.say(str(progress))
        raise_if_cancelled()

    def take_requests(self) -> frozenset[str]:
        """See `trainer.runs.training.Display`."""
        return self._run.take_requests()

    def announce(self) -> None:
        """Tell every open page to ask for what is new."""
        from server import PromptServer

        run = {"id": self._run.folder.id, "owner": self._run.owner}
        PromptServer.instance.send_sync(EVENT, run)
