"""A whole training, from its checks to the finished word, for every surface alike.

The node and the command line only say where words go (`Destination`) and how a run is shown
(`Display`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ..data.checks import checks
from ..data.pictures import Picture
from ..embeddings.embedding import Embedding
from ..errors import InputError
from ..files.thumbnails import with_thumbnail
from ..learning.distributed import ALONE, Processes
from ..learning.loop import DivergedError, Progress, train
from ..learning.negative_objectives import objective_of
from ..model import FrozenModel
from ..settings import Settings
from .live import SAMPLE, SAVE, STOP
from .previews import draw_previews, preview, preview_grid
from .report import RunReport
from .run import Run, row_of
from .run_folder import FINISHED, STOPPED, LossRow

LONGEST_NAME = 88
"""Names are cut to this before something is added, so that files can still carry them."""


class Display(Protocol):
    """How a run is shown while it goes on, and how it is steered."""

    def begin(self, report: RunReport, step: int) -> None:
        """Show that a run begins, after so many steps of an earlier one."""

    def say(self, text: str) -> None:
        """Show what is being done."""

    def show(self, progress: Progress, row: LossRow, news: Sequence[str]) -> None:
        """Show a step, and what the report has found in it; an error from here ends the run."""

    def take_requests(self) -> frozenset[str]:
        """What of `live.ACTIONS` has been asked since the last call."""


@dataclass(frozen=True)
class Destination:
    """Where words go.

    Attributes:
        write: writes a word under its name; the second argument says whether it may replace one.
        keep: whether the finished words are written, and not only what would be lost otherwise.
        overwrite: whether they may replace others.
    """

    write: Callable[[Embedding, bool], object]
    keep: bool = True
    overwrite: bool = False


@dataclass(frozen=True)
class Trained:
    """What a training gives.

    Attributes:
        words: one, or those of a pair.
        preview: the pictures to learn from, and below them those drawn with the words, float32
            [height, width, 3] in 0..1.
        report: what is known of the words.
    """

    words: Sequence[Embedding]
    preview: Tensor
    report: RunReport


def train_and_save(
    model: FrozenModel,
    pictures: Sequence[Picture],
    settings: Settings,
    display: Display,
    destination: Destination,
    start: Embedding | None = None,
    run: Run | None = None,
    processes: Processes = ALONE,
) -> Trained:
    """Check, train, save and draw; what was learned before an error or an interrupt is written.

    Args:
        model: see `train`.
        pictures: see `train`.
        settings: see `train`; those of previews and checkpoints count here.
        display: how it is shown.
        destination: where words go.
        start: see `train`.
        run: where the run is kept, and goes on from; open, and left open. None to keep nothing.
        processes: see `train`; of several, this is the one that leads.

    Raises:
        InputError: as `train`, or a word cannot be written.
        DivergedError: as `train`.
    """
    objective = objective_of(settings)
    found = checks(pictures, settings, model.text_encoders, start, objective.prompts)
    report = RunReport([run.notice, *found] if run and run.notice else found, model.device)
    display.begin(report, run.state.step if run and run.state else 0)
    learned: Embedding | None = None
    status = FINISHED
    saved = False
    try:
        steps = train_and_keep(
            run, model, pictures, settings, start, display.take_requests, processes
        )
        for progress, row, asked in steps:
            learned = progress.kept
            if SAVE in asked:
                _write(destination, objective.hand_out(learned), f"-{progress.step}")
            display.show(progress, row, report.take(progress))
            if STOP in asked:
                status = STOPPED
        learned = progress.kept
        words = objective.hand_out(learned)
        for word in words if destination.keep else ():
            destination.write(word, destination.overwrite)
        saved = destination.keep
        if settings.previews:
            display.say("drawing the preview")
        rows = draw_previews(model, pictures, settings, learned)
        if rows:
            words = objective.hand_out(with_thumbnail(learned, rows[-1][0]))
            for word in words if destination.keep else ():
                destination.write(word, True)
        if run:
            run.end(status)
    except BaseException as reason:
        if isinstance(reason, DivergedError):
            learned = reason.last_good
        if learned is not None and not saved:
            _rescue(destination, objective.hand_out(learned))
        raise
    return Trained(words, preview_grid(pictures, settings, rows), report)


def train_and_keep(
    run: Run | None,
    model: FrozenModel,
    pictures: Sequence[Picture],
    settings: Settings,
    start: Embedding | None = None,
    take_requests: Callable[[], frozenset[str]] = frozenset,
    processes: Processes = ALONE,
) -> Iterator[tuple[Progress, LossRow, frozenset[str]]]:
    """`loop.train`, from where the run was cut short, with all that is worth keeping written.

    Args:
        run: open, and left open; None to keep nothing.
        model: see `train`.
        pictures: see `train`.
        settings: see `train`; their `preview_every` and `save_every` count here.
        start: see `train`.
        take_requests: what of `live.ACTIONS` has been asked since the last call.
        processes: see `train`; of several, this is the one that leads.

    Yields:
        after each step: the progress, its row of losses, and the requests that were met. With
        `live.STOP` among them it is the last.
    """
    state, known = (run.state, run.pictures_hash) if run else (None, None)
    for progress in train(model, pictures, settings, start, state, processes, known):
        row = run.record(progress) if run else row_of(progress)
        asked = take_requests()
        due = settings.preview_every and progress.step % settings.preview_every == 0
        if run and (due or SAMPLE in asked):
            run.add_preview(progress, preview(model, pictures, settings, progress.last))
        if run and SAVE in asked:
            run.save(progress)
        yield progress, row, asked
        if STOP in asked:
            break
    # A run may end before its last step, by request or because it has settled.
    if run:
        run.save(progress)


def _write(destination: Destination, words: Sequence[Embedding], ending: str) -> None:
    """Write words as they are now, under names of their own."""
    for word in words:
        destination.write(word.renamed(f"{word.name[:LONGEST_NAME]}{ending}"), True)


def _rescue(destination: Destination, words: Sequence[Embedding]) -> None:
    """Keep what was learned before an interrupt or an error, without hiding the reason."""
    try:
        _write(destination, words, "-interrupted")
    except (OSError, InputError) as error:
        logging.error("Textual inversion: what was learned could not be saved: %s", error)
