"""Runs that survive: whatever ends the process, at most `save_every` steps are lost.

Every file is written whole or not at all, and in an order in which each that is there can be
trusted: first the losses, then the word, then the checkpoint that says how far they reach.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from torch import Tensor

from ..errors import InputError
from ..files.thumbnails import in_bytes, png
from ..files.whole_files import remove_abandoned, remove_leftovers, sync, write_whole
from ..files.writing import write_embedding
from ..learning.loop import Progress
from ..learning.state import TrainingState
from ..settings import Settings
from .checkpoints import load_state, save_state
from .event_log import EventLog, open_event_log
from .lock import HeldError, RunLock, lock_new_folder
from .run_folder import (
    COLUMNS,
    FINISHED,
    INTERRUPTED,
    RUNNING,
    LossRow,
    RunFolder,
    list_runs,
    numbered,
)
from .run_inputs import inputs_of_run, runs_of

KEPT_CHECKPOINTS = 2
"""The newest one, and the one before in case that is damaged."""

KEPT_WORDS = 100
"""How many steps can be chosen from afterwards. Beyond it, every other one is let go."""


class Run:
    """One run while it is written; `folder` is where, `state` where it goes on from.

    Use it as a context manager: an error or an interrupt inside writes a checkpoint of the
    last step on its way out. Without one, `end` says how the run ended. `notice` is what its user
    should know of how it began, or "". `notes` are sentences that are worth a look, and are kept
    with how it ended.
    """

    def __init__(
        self,
        folder: RunFolder,
        settings: Settings,
        state: TrainingState | None,
        lock: RunLock,
        notice: str = "",
    ) -> None:
        self.folder = folder
        self.state = state
        self.notice = notice
        self.notes: Sequence[str] = ()
        self._kept: Sequence[str] = ()
        self._lock = lock
        self._settings = settings
        self._step = state.step if state else 0
        self._saved = self._step
        self._steps = settings.steps
        self._last: Progress | None = None
        remove_leftovers(folder.path)
        rows = [row for row in folder.losses() if row.step <= self._step]
        self._seconds = rows[-1].seconds if rows else 0.0
        lines = [",".join(COLUMNS) + "\n", *map(_line, rows)]
        write_whole(folder.loss_file, "".join(lines).encode())
        self._losses: IO[str] = folder.loss_file.open("a", newline="", encoding="utf-8")
        self._events: EventLog | None = open_event_log(folder.path / "tensorboard", self._step)
        self.end(RUNNING)

    @property
    def pictures_hash(self) -> str:
        """The fingerprint of the pictures that it learns from."""
        return str(self.folder.settings()["fingerprint"]["pictures"])

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            try:
                if self._last is not None:
                    self.save(self._last)
                self.end(INTERRUPTED, str(error))
            except (OSError, InputError):
                logging.exception("Textual inversion: the run's last step could not be written")
        with suppress(OSError):  # A full disk has been told of, and takes no more now either.
            self._losses.close()
        if self._events:
            self._events.close()
        self._lock.release()

    def record(self, progress: Progress) -> None:
        """Note a step."""
        self._last, self._step, self._seconds = progress, progress.step, progress.seconds
        self._steps = progress.end[1]
        row = row_of(progress)
        if self._events:
            self._events.add_losses(row)
        self._losses.write(_line(row))
        self._losses.flush()

    def is_due(self, progress: Progress) -> bool:
        """Whether this step gets a checkpoint: one of every `save_every`, and the last."""
        return progress.step % self._settings.save_every == 0 or progress.step == progress.steps

    def save(self, progress: Progress) -> None:
        """Write a checkpoint now, unless this step has one."""
        if self._saved == progress.step:
            return
        sync(self._losses)
        self.keep_word(progress)
        save_state(progress.state, self.folder.checkpoint_file(progress.step))
        self._saved = progress.step
        for step in self.folder.checkpoints()[:-KEPT_CHECKPOINTS]:
            self.folder.checkpoint_file(step).unlink(missing_ok=True)
        self.end(RUNNING)

    def keep_word(self, progress: Progress) -> None:
        """Keep the word of this step, to be chosen later."""
        write_embedding(progress.last, self.folder.word_file(progress.step), overwrite=True)
        steps = self.folder.words()
        if len(steps) > KEPT_WORDS:
            for step in steps[-2::-2]:
                self.folder.word_file(step).unlink(missing_ok=True)
                self.folder.preview_file(step).unlink(missing_ok=True)

    def add_preview(self, progress: Progress, picture: Tensor) -> None:
        """Keep a picture of this step, float32 [height, width, 3] in 0..1, and its word."""
        self.keep_word(progress)
        write_whole(self.folder.preview_file(progress.step), png(picture))
        if self._events:
            self._events.add_picture(progress.step, in_bytes(picture))

    def add_still(self, still: str, picture: Tensor) -> None:
        """Keep what previews are compared with, `PICTURE` or `BEFORE`; float32 as these."""
        write_whole(self.folder.still_file(still), png(picture))

    def tell_kept(self, names: Sequence[str]) -> None:
        """Say under which names its words can be used now."""
        self._kept = names
        self.end(RUNNING)

    def end(self, status: str, message: str = "") -> None:
        """Say how the run ended, one of the values in `run_folder`, and why."""
        content = {
            "status": status,
            "message": message,
            "kept": list(self._kept),
            "notes": list(self.notes),
            "step": self._step,
            "steps": self._steps,
            "cut_off": bool(self._last and self._last.cut_off),
            "seconds": round(self._seconds, 1),
            "changed": _now(),
        }
        write_whole(self.folder.status_file, _json(content))


def row_of(progress: Progress) -> LossRow:
    """The row of losses of a step."""
    return LossRow(
        progress.step,
        progress.loss,
        progress.smoothed_loss,
        progress.evaluation,
        progress.learning_rate,
        progress.seconds,
        progress.estimate.over_noise,
        progress.estimate.turned,
        progress.estimate.share,
        progress.ranked,
    )


def open_run(parent: Path, settings: Settings, fingerprint: Mapping[str, str]) -> Run:
    """Go on with the run of the same inputs that was cut short, or begin a new one.

    The folder is locked until the run is left. Where another process trains in the one that could
    go on, a new one is begun, and its `notice` says so.

    Args:
        parent: the folder of all runs; made if need be.
        settings: of the run.
        fingerprint: from `fingerprints`.

    Returns:
        the run; its `state` is None where it begins at the first step.

    Raises:
        InputError: the disk refuses.
    """
    notice = ""
    # In the runs alone: people may keep anything else beside them.
    for kept in list_runs(parent):
        remove_abandoned(kept.path, below=True)
    for folder in runs_of(parent, settings, fingerprint):
        if _is_over(folder, settings):
            continue
        try:
            lock = RunLock(folder)
        except HeldError as other:
            notice = (
                f"The run “{folder.id}” is being trained by {other}, so this is a separate run."
            )
            continue
        # It may have come to its end since it was looked at.
        if not _is_over(folder, settings):
            return Run(folder, settings, _newest_state(folder, settings), lock, notice)
        lock.release()
    folder, lock = lock_new_folder(parent, settings.name, numbered(parent, settings.name))
    inputs = inputs_of_run(settings, fingerprint)
    content = {**inputs, "settings": asdict(settings), "began": _now()}
    write_whole(folder.settings_file, _json(content))
    return Run(folder, settings, None, lock, notice)


def _is_over(folder: RunFolder, settings: Settings) -> bool:
    """Whether a run has ended; one that only the limit has ended goes on with a higher one."""
    status = folder.status()
    if status.get("status") != FINISHED:
        return False
    return not (status.get("cut_off") and settings.steps > int(status.get("step", 0)))


def _newest_state(folder: RunFolder, settings: Settings) -> TrainingState | None:
    """The newest checkpoint that can be read."""
    for step in reversed(folder.checkpoints()):
        try:
            state = load_state(folder.checkpoint_file(step))
        except InputError:
            continue
        if state.step < settings.steps:
            return state
    return None


def _line(row: LossRow) -> str:
    cells = ("" if value is None else repr(value) for value in asdict(row).values())
    return ",".join(cells) + "\n"


def _json(content: Mapping[str, Any]) -> bytes:
    # What is no text, as the names of some files, stays readable as an escape of JSON.
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
