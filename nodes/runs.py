"""The runs of this host: where they are kept, and how the page hears of them."""

from __future__ import annotations

import time
from pathlib import Path

import comfy.utils
import folder_paths

from ..trainer.live import LiveRun, LiveRuns
from ..trainer.loop import Progress
from ..trainer.report import RunReport
from ..trainer.run_folder import LossRow

RUNS = LiveRuns()
"""Those that go on in this process."""

EVENT = "textual_inversion.run"
"""The message to every open page that a run has changed: its id, and its owner."""

SECONDS_BETWEEN_MESSAGES = 0.25


def runs_folder() -> Path:
    """The folder of all runs, below the host's output; it need not exist yet."""
    return Path(folder_paths.get_output_directory()) / "textual_inversion"


class Display:
    """A run on the page: the node's progress bar, its text, and the chart.

    Below what is said, the text has what the report has found to be unusual.
    """

    def __init__(self, run: LiveRun, node_id: str, report: RunReport) -> None:
        self._run = run
        self._report = report
        self._node_id = node_id
        self._bar = comfy.utils.ProgressBar(run.steps)
        self._said = 0.0

    def say(self, text: str) -> None:
        """Show a line of text."""
        from server import PromptServer

        self._said = time.monotonic()
        self._run.message = text
        shown = "\n".join([text, *self._report.notes])
        PromptServer.instance.send_progress_text(shown, self._node_id)
        self.announce()

    def show(self, row: LossRow, progress: Progress) -> None:
        """Show a step; messages not too often, as every open page gets them."""
        self._run.add(row, progress)
        self._bar.update_absolute(progress.step)
        late = time.monotonic() - self._said > SECONDS_BETWEEN_MESSAGES
        if late or progress.step == progress.steps:
            self.say(str(progress))

    def announce(self) -> None:
        """Tell every open page to ask for what is new."""
        from server import PromptServer

        run = {"id": self._run.folder.id, "owner": self._run.owner}
        PromptServer.instance.send_sync(EVENT, run)
