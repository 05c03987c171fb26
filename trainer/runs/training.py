"""A whole training, from its checks to the finished word, for every surface alike.

The node and the command line only say where words go (`Destination`) and how a run is shown
(`Display`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from ..data.checks import checks
from ..data.pictures import Picture
from ..embeddings.embedding import Embedding
from ..errors import InputError
from ..files.thumbnails import with_thumbnail
from ..files.whole_files import make_folder
from ..files.writing import write_embedding
from ..learning.chosen_objective import objective_of
from ..learning.distributed import ALONE, Processes
from ..learning.loop import DivergedError, Progress, train
from ..model import FrozenModel
from ..settings import Settings
from .live import SAMPLE, SAVE, STOP
from .previews import as_preview, draw_previews, example, preview, preview_grid
from .report import RunReport
from .run import Run, row_of
from .run_folder import BEFORE, FINISHED, PICTURE, STOPPED, LossRow
from .side_failures import SideFailures

INTERRUPTED_ENDING = "-interrupted"
"""What the name of a word gets that was saved because its run ended early."""


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
        last_resort: a folder for what can be written nowhere else, if there is no other place
            where a word outlives the training.
    """

    write: Callable[[Embedding, bool], object]
    keep: bool = True
    overwrite: bool = False
    last_resort: Path | None = None


@dataclass(frozen=True)
class Trained:
    """What a training gives.

    Attributes:
        words: one, or those of a pair.
        preview: the pictures to learn from, and below them those drawn with the words, float32
            [height, width, 3] in 0..1.
        report: what is known of the words.
        unsaved: why they are not where they belong, and where they are instead; or nothing.
    """

    words: Sequence[Embedding]
    preview: Tensor
    report: RunReport
    unsaved: str = ""


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
        InputError: as `train`.
        DivergedError: as `train`.
    """
    objective = objective_of(settings)
    found = checks(pictures, settings, model.text_encoders, start, objective.prompts)
    notices = [
        *([run.notice] if run and run.notice else []),
        *objective.notices(pictures, settings),
    ]
    report = RunReport([*notices, *model.notes, *found], model.device)
    failures = SideFailures(report.note)
    display.begin(report, run.state.step if run and run.state else 0)
    learned: Embedding | None = None
    status, unsaved = FINISHED, ""
    saved = False
    rows: list[list[Tensor]] = []
    try:
        steps = train_and_keep(
            run, model, pictures, settings, start, display.take_requests, processes, failures
        )
        for progress, row, asked in steps:
            learned = progress.kept
            if SAVE in asked:
                with failures.survived(f"The word of step {progress.step} was not saved"):
                    now, ending = objective.hand_out(learned), f"-{progress.step}"
                    _write(destination, now, ending, run, overwrite=destination.overwrite)
            display.show(progress, row, report.take(progress))
            if run:
                run.notes = report.notes
            if STOP in asked:
                status = STOPPED
        learned = progress.kept
        words = objective.hand_out(learned)
        if destination.keep:
            unsaved = _save(destination, words, run)
            if unsaved:
                report.note(unsaved)
        saved = destination.keep and not unsaved
        if settings.previews:
            display.say("drawing the preview")
        with failures.survived("The preview was not drawn"):
            rows = draw_previews(model, pictures, settings, learned)
        if rows:
            words = objective.hand_out(with_thumbnail(learned, rows[-1][0]))
            with failures.survived("The saved word has no small picture of what it draws"):
                for word in words if saved else ():
                    destination.write(word, True)
        if rows and run:
            with failures.survived("The last picture was not kept with the run"):
                run.add_preview(progress, as_preview(rows[-1][0]))
        if run:
            with failures.survived("How the run ended was not recorded in its folder"):
                run.end(status, " ".join(report.ending))
    except BaseException as reason:
        if isinstance(reason, DivergedError):
            learned = reason.last_good
        if learned is not None and not (saved or unsaved):
            _save_elsewhere(destination, objective.hand_out(learned), run)
        raise
    return Trained(words, preview_grid(pictures, settings, rows), report, unsaved)


def train_and_keep(
    run: Run | None,
    model: FrozenModel,
    pictures: Sequence[Picture],
    settings: Settings,
    start: Embedding | None = None,
    take_requests: Callable[[], frozenset[str]] = frozenset,
    processes: Processes = ALONE,
    failures: SideFailures | None = None,
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
        failures: told of what cannot be written or drawn, which does not end the run.

    Yields:
        after each step: the progress, its row of losses, and the requests that were met. With
        `live.STOP` among them it is the last.
    """
    failures = failures or SideFailures()
    if run and PICTURE not in run.folder.stills():
        with failures.survived("A picture was not kept with the run"):
            run.add_still(PICTURE, example(pictures, settings))
    state, known = (run.state, run.pictures_hash) if run else (None, None)
    for progress in train(model, pictures, settings, start, state, processes, known):
        asked = take_requests()
        if run:
            with failures.survived("The losses were not written"):
                run.record(progress)
            if SAVE in asked or run.is_due(progress):
                with failures.survived("A checkpoint was not written"):
                    run.save(progress)
            due = settings.preview_every and progress.step % settings.preview_every == 0
            if due or SAMPLE in asked:
                with failures.survived("A picture of a step was not drawn"):
                    if BEFORE not in run.folder.stills():
                        first = preview(model, pictures, settings, progress.initial)
                        run.add_still(BEFORE, first)
                    run.add_preview(progress, preview(model, pictures, settings, progress.last))
        yield progress, row_of(progress), asked
        if STOP in asked:
            break
    # A run may end before its last step, by request or because it has settled.
    if run:
        with failures.survived("A checkpoint was not written"):
            run.save(progress)


def _save(destination: Destination, words: Sequence[Embedding], run: Run | None) -> str:
    """Write words; a sentence where they are instead, if that fails."""
    try:
        for word in words:
            destination.write(word, destination.overwrite)
    except (OSError, InputError) as error:
        return f"{error} {_save_elsewhere(destination, words, run)}"
    _tell_kept(run, words)
    return ""


def _write(
    destination: Destination,
    words: Sequence[Embedding],
    ending: str,
    run: Run | None,
    *,
    overwrite: bool,
) -> None:
    """Write words as they are now, under names of their own."""
    named = [word.renamed(f"{word.name}{ending}") for word in words]
    for word in named:
        destination.write(word, overwrite)
    _tell_kept(run, named)


def _tell_kept(run: Run | None, words: Sequence[Embedding]) -> None:
    if run:
        with suppress(OSError, InputError):  # The words are written; that it is not noted is less.
            run.tell_kept([word.name for word in words])


def _save_elsewhere(destination: Destination, words: Sequence[Embedding], run: Run | None) -> str:
    """Keep words that would be lost; a sentence that says where they are."""
    with suppress(OSError, InputError):
        _write(destination, words, INTERRUPTED_ENDING, run, overwrite=True)
        return f"What was learned is saved as {_listed(words, INTERRUPTED_ENDING)}."
    sentence = "What was learned is only in memory: save it before the program ends."
    for folder in (run.folder.path if run else None, destination.last_resort):
        if folder is None:
            continue
        with suppress(OSError, InputError):
            make_folder(folder)
            for word in words:
                write_embedding(word, folder / f"{word.name}.safetensors", overwrite=True)
            sentence = f"What was learned is in “{folder}”, as {_listed(words, '.safetensors')}."
            break
    logging.error("Textual inversion: %s", sentence)
    return sentence


def _listed(words: Sequence[Embedding], ending: str) -> str:
    return " and ".join(f"“{word.name}{ending}”" for word in words)
