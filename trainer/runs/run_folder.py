"""What the folder of a training run holds, and how to read it.

    NAME_00001/
        settings.json       the settings, and fingerprints of model and pictures
        status.json         how far it is, and how it ended
        loss.csv            a row for each step
        lock                held by the process that trains, see `lock`
        checkpoints/        the newest states, from which training goes on
        words/              the word as it was at some steps: ordinary embedding files
        previews/           pictures drawn with the word at some steps
        picture.png         one of the pictures that it learns from, to compare these with
        before.png          what was drawn before the first step
        tensorboard/        the same losses and pictures, where TensorBoard is installed

The file of a step is called `step-000100`, and so on. Reading never fails because of what a
process that was killed has left.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..embeddings.embedding import Embedding
from ..errors import InputError
from ..files.reading import read_embedding

RUNNING, STOPPED, INTERRUPTED, FINISHED = "running", "stopped", "interrupted", "finished"
"""Values of `status` in status.json. A killed process leaves `running`."""

PICTURE, BEFORE = "picture", "before"
"""What previews are compared with: see `RunFolder.still_file`."""

_FOLDER = re.compile(r"(?P<name>[^/\\]+)_(?P<number>\d{5})")
_STEP = re.compile(r"step-(\d+)")
_LARGEST_JSON = 1024 * 1024


@dataclass(frozen=True)
class LossRow:
    """One row of loss.csv.

    Attributes:
        step: from 1.
        loss: of this step.
        smoothed_loss: its running average.
        evaluation: the loss on the fixed batch, or None where it was not measured.
        learning_rate: of this step.
        seconds: since the run began, pauses left out.
        over_noise: signal over noise of a step, or None where it is not known.
        turned: angle between the word and where it began, in radians.
        share: of the way that the word has come, 0..1.
        ranked: share of the pairs that were held out that are ranked right, 0..1; None where no
            pictures are compared, or this was not measured. The last four are None in files of
            earlier versions.
    """

    step: int
    loss: float
    smoothed_loss: float
    evaluation: float | None
    learning_rate: float
    seconds: float
    over_noise: float | None = None
    turned: float | None = None
    share: float | None = None
    ranked: float | None = None


COLUMNS = tuple(LossRow.__dataclass_fields__)
EARLIER_COLUMNS = (6, 9)
"""How many columns files of earlier versions have."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @property
    def id(self) -> str:
        """The folder's own name, such as `my-word_00001`."""
        return self.path.name

    @property
    def settings_file(self) -> Path:
        """The settings as JSON."""
        return self.path / "settings.json"

    @property
    def status_file(self) -> Path:
        """How far it is, as JSON."""
        return self.path / "status.json"

    @property
    def loss_file(self) -> Path:
        """The losses as CSV."""
        return self.path / "loss.csv"

    def checkpoint_file(self, step: int) -> Path:
        """The state after a step."""
        return self.path / "checkpoints" / f"step-{step:06d}.safetensors"

    def word_file(self, step: int) -> Path:
        """The word after a step."""
        return self.path / "words" / f"step-{step:06d}.safetensors"

    def preview_file(self, step: int) -> Path:
        """What was drawn after a step."""
        return self.path / "previews" / f"step-{step:06d}.png"

    def still_file(self, still: str) -> Path:
        """`PICTURE` or `BEFORE`."""
        return self.path / f"{still}.png"

    def checkpoints(self) -> list[int]:
        """Steps with a checkpoint, in order."""
        return _steps(self.path / "checkpoints", ".safetensors")

    def words(self) -> list[int]:
        """Steps whose word was kept, in order."""
        return _steps(self.path / "words", ".safetensors")

    def previews(self) -> list[int]:
        """Steps with a picture, in order."""
        return _steps(self.path / "previews", ".png")

    def stills(self) -> list[str]:
        """Which of `PICTURE` and `BEFORE` there are."""
        files = {still: self.still_file(still) for still in (PICTURE, BEFORE)}
        return [still for still, p in files.items() if p.is_file() and not p.is_symlink()]

    def settings(self) -> dict[str, Any]:
        """What settings.json holds; {} where it cannot be read."""
        return _read_json(self.settings_file)

    def name(self) -> str:
        """The word that is learned; "" where settings.json does not say."""
        chosen = self.settings().get("settings")
        return str(chosen.get("name", "")) if isinstance(chosen, dict) else ""

    def status(self) -> dict[str, Any]:
        """What status.json holds; {} where it cannot be read."""
        return _read_json(self.status_file)

    def losses(self, after: int = 0) -> list[LossRow]:
        """The rows of the steps after one, without any that was not written to its end."""
        return [row for row in _rows(self.loss_file) if row.step > after]

    def word(self, step: int = 0) -> Embedding:
        """The word after a step; 0 is the last that was kept.

        Raises:
            InputError: it was not kept; the sentence names the steps that were.
        """
        steps = self.words()
        if not steps:
            raise InputError(f"The run “{self.id}” has not kept a word yet: choose another run.")
        if step and step not in steps:
            kept = ", ".join(str(s) for s in steps)
            raise InputError(
                f"The run “{self.id}” has no word of step {step}: choose one of {kept}."
            )
        return read_embedding(self.word_file(step or steps[-1])).renamed(self.name() or self.id)


def list_runs(parent: Path) -> list[RunFolder]:
    """The runs in a folder, the newest first."""
    if not parent.is_dir():
        return []
    folders = [p for p in parent.iterdir() if _FOLDER.fullmatch(p.name) and _is_own(p)]
    return [RunFolder(p) for p in sorted(folders, key=_started, reverse=True)]


def find_run(parent: Path, run_id: str) -> RunFolder:
    """One of the runs in a folder, by the name of its own.

    Raises:
        InputError: there is none of this name; nothing outside `parent` is ever looked at.
    """
    # Looked up and never opened: not every text can be the name of a file.
    for path in parent.iterdir() if parent.is_dir() else ():
        if path.name == run_id and _FOLDER.fullmatch(run_id) and _is_own(path):
            return RunFolder(path)
    raise InputError(f"There is no training run “{run_id[:100]}”: press R to refresh the list.")


def numbered(parent: Path, name: str) -> dict[int, Path]:
    """The folders of the runs that learned a word of this name, by their number."""
    found = {}
    for path in parent.iterdir() if parent.is_dir() else ():
        match = _FOLDER.fullmatch(path.name)
        if match and match["name"] == name:
            found[int(match["number"])] = path
    return found


def _is_own(path: Path) -> bool:
    """A real folder: a link could lead anywhere."""
    return path.is_dir() and not path.is_symlink()


def _started(path: Path) -> float:
    try:
        return (path / "settings.json").stat().st_mtime
    except OSError:
        return 0.0


def _steps(folder: Path, suffix: str) -> list[int]:
    if not _is_own(folder):
        return []
    files = [p for p in folder.iterdir() if p.suffix == suffix and not p.is_symlink()]
    return sorted(int(m[1]) for p in files if (m := _STEP.fullmatch(p.stem)))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.is_symlink() or path.stat().st_size > _LARGEST_JSON:
            return {}
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _rows(path: Path) -> Iterator[LossRow]:
    if path.is_symlink() or not path.is_file():
        return
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.endswith("\n") and (row := _row(line)) is not None:
                yield row


def _row(line: str) -> LossRow | None:
    try:
        cells = next(csv.reader([line]), [])
        if len(cells) not in (*EARLIER_COLUMNS, len(COLUMNS)):
            return None
        step, loss, smoothed, evaluation, rate, seconds, *estimate = cells
        return LossRow(
            int(step), float(loss), float(smoothed), _number(evaluation), float(rate),
            float(seconds), *map(_number, estimate),
        )  # fmt: skip
    except (ValueError, csv.Error):
        return None


def _number(cell: str) -> float | None:
    return float(cell) if cell else None
