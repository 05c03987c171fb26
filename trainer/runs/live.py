"""A run as others see it while it goes on, and what they ask of it.

The thread that trains writes, any other thread reads and asks.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from ..learning.loop import Progress
from .lock import holder
from .run_folder import INTERRUPTED, RUNNING, LossRow, RunFolder

STOP, SAMPLE, SAVE = "stop", "sample", "save"
ACTIONS = frozenset({STOP, SAMPLE, SAVE})
"""What can be asked of a run: to stop and keep, to draw a picture now, to save the word now."""

MOST_POINTS = 2000
"""How many rows of losses are told at once; of more, some are left out."""


class LiveRun:
    """One run in this process.

    Args:
        folder: where it is written.
        steps: how many it makes at most; while it goes on, how many it is expected to make, and 0
            as long as that is not known.
        owner: whose it is, in words of the host: the node and its graph.
    """

    def __init__(self, folder: RunFolder, steps: int, owner: dict[str, str]) -> None:
        self.folder = folder
        self.steps = steps
        self.owner = owner
        self.message = ""
        self.notes: Sequence[str] = ()
        self.is_stopping = False
        self.seconds_left: float | None = None
        self.rows: list[LossRow] = folder.losses()
        self._asked: set[str] = set()
        self._lock = threading.Lock()

    def add(self, row: LossRow, progress: Progress) -> None:
        """Take in a step."""
        self.rows.append(row)
        self.steps = progress.expected or 0
        self.seconds_left = progress.seconds_left[1] if progress.is_foreseen else None

    def ask(self, action: str) -> None:
        """Ask for one of `ACTIONS`; it happens after the present step."""
        if action not in ACTIONS:
            raise ValueError(action)
        self.is_stopping |= action == STOP
        with self._lock:
            self._asked.add(action)

    def take_requests(self) -> frozenset[str]:
        """What has been asked since the last call."""
        with self._lock:
            asked = frozenset(self._asked)
            self._asked.clear()
        return asked


class LiveRuns:
    """The runs of this process, by the id of their folder."""

    def __init__(self) -> None:
        self._runs: dict[str, LiveRun] = {}

    @contextmanager
    def add(self, run: LiveRun) -> Iterator[LiveRun]:
        """Show a run for as long as this context is open."""
        self._runs[run.folder.id] = run
        try:
            yield run
        finally:
            del self._runs[run.folder.id]

    def get(self, run_id: str) -> LiveRun | None:
        """The run of this id, if it goes on at present."""
        return self._runs.get(run_id)

    def all(self) -> Sequence[LiveRun]:
        """Those that go on at present."""
        return list(self._runs.values())


def describe(folder: RunFolder, live: LiveRun | None = None, after: int = 0) -> dict[str, Any]:
    """A run as JSON: how far it is, its losses and its pictures.

    Args:
        folder: the run's.
        live: the same run, if it goes on at present.
        after: leave out the losses up to this step.

    Returns:
        `id`, `name`, `status`, `message`, `stopping` (whether it was asked to), `notes` (sentences
        worth a look), `kept` (names of embeddings that hold its newest word), `step`, `steps`,
        `seconds_left` (None unless it goes on and its end is foreseen), `rows` (lists in the order
        of `run_folder.COLUMNS`), `previews` and `words` (steps), `stills` (what previews are
        compared with).
    """
    status = folder.status()
    rows = live.rows[:] if live else folder.losses()
    answer = {
        "id": folder.id,
        "name": folder.name(),
        "status": str(status.get("status", "")),
        "message": str(status.get("message", "")),
        "stopping": False,
        "notes": _texts(status.get("notes")),
        "kept": _texts(status.get("kept")),
        "step": rows[-1].step if rows else 0,
        "steps": _whole(status.get("steps")),
        "seconds_left": None,
        "rows": [_cells(row) for row in thinned([r for r in rows if r.step > after])],
        "previews": folder.previews(),
        "words": folder.words(),
        "stills": folder.stills(),
        "owner": {},
    }
    if live:
        return answer | {
            "status": RUNNING,
            "message": live.message,
            "stopping": live.is_stopping,
            "notes": list(live.notes),
            "steps": live.steps,
            "seconds_left": live.seconds_left,
            "owner": live.owner,
        }
    if answer["status"] != RUNNING:
        return answer
    if other := holder(folder):
        return answer | {"message": f"trained by {other}"}
    # A process that was killed could not say so.
    return answer | {"status": INTERRUPTED}


def thinned(rows: Sequence[LossRow]) -> list[LossRow]:
    """At most about `MOST_POINTS` rows, evenly, with all evaluations and the last."""
    every = math.ceil(len(rows) / MOST_POINTS)
    last = len(rows) - 1
    return [
        row
        for i, row in enumerate(rows)
        if i % every == 0 or i == last or row.evaluation is not None
    ]


def _cells(row: LossRow) -> list[float | None]:
    """JSON knows no NaN."""
    return [v if v is not None and math.isfinite(v) else None for v in asdict(row).values()]


def _texts(value: Any) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0
