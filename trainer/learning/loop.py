"""The training loop: one generator, one objective.

The caller drives it, draws what it likes from each value, and cancels by closing it:

    for progress in train(model, pictures, settings):
        print(progress.step, progress.loss)
    word = progress.kept
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from ..data.checks import time_range
from ..data.pictures import Picture, meant
from ..embeddings.embedding import Embedding, row_count
from ..errors import InputError
from ..methods.settling import FIRST, Estimate
from ..model import FrozenModel
from ..settings import Settings
from .chosen_objective import losses_of, objective_of
from .diagnostics import Diagnostics, diagnose, has_settled, is_evaluated
from .distributed import ALONE, Processes
from .initial import from_captions, learning_encoders
from .losses import Evaluation
from .run_metadata import run_metadata, step_metadata
from .state import History, Stateful, TrainingState
from .vectors import TrainedVectors

SMOOTHING = 0.98
"""Weight of the past in the smoothed loss: an average over about 50 steps."""


class DivergedError(RuntimeError):
    """The loss or its gradient stopped being a number.

    Attributes:
        last_good: the embedding after the last step that was sound, or None where
            not a single step was.
    """

    __module__ = "textual_inversion"

    def __init__(self, message: str, last_good: Embedding | None) -> None:
        super().__init__(message)
        self.last_good = last_good


@dataclass(frozen=True)
class Progress:
    """What is known after a step.

    Attributes:
        step: steps done, from 1.
        steps: steps in all.
        loss: of this step; noisy, because timestep and noise are drawn anew.
        smoothed_loss: its running average.
        evaluation: the loss on a fixed batch, which falls as the word is learned; None at
            steps where it was not measured.
        ranked: the share of held-out pairs ranked right then, in runs that compare pictures.
        diagnostics: what else was found out then.
        learning_rate: of this step.
        norms: encoder key -> mean norm of the vectors (a vocabulary row of CLIP-L has
            about 0.4).
        seconds: since the first step began.
        last: the embedding after this step.
        best: the embedding whose evaluation was lowest so far; the last one before the
            first evaluation.
        kept: the one of the two that the settings ask for.
        initial: the word before the first step.
        state: with which `train` goes on from here.
        estimate: how far the word has come.
        end: between which steps the run will end, as far as is known.
        cut_off: whether the limit of steps has ended a run that would have gone on by itself.
    """

    step: int
    steps: int
    loss: float
    smoothed_loss: float
    evaluation: float | None
    ranked: float | None
    diagnostics: Diagnostics | None
    learning_rate: float
    norms: Mapping[str, float]
    seconds: float
    last: Embedding
    best: Embedding
    kept: Embedding
    initial: Embedding
    state: TrainingState
    estimate: Estimate
    end: tuple[int, int]
    cut_off: bool

    @property
    def seconds_left(self) -> tuple[float, float]:
        """At least and at most, from the pace so far."""
        first, last = (self.seconds / self.step * (step - self.step) for step in self.end)
        return first, last

    @property
    def is_foreseen(self) -> bool:
        """Whether it can be told at all when the run will end."""
        return self.end[0] > self.step or self.step == self.steps

    @property
    def expected(self) -> int | None:
        """How many steps the run makes at most; None as long as that is not foreseen."""
        return self.end[1] if self.is_foreseen else None

    @property
    def clock(self) -> str:
        """The time left, in words."""
        if not self.is_foreseen:
            return "the time left is not known yet"
        return f"{time_range(*self.seconds_left, ('s', 'min'))} left"

    def __str__(self) -> str:
        first, last = self.end
        place = f"step {self.step}/{last}" if first == last else f"step {self.step}"
        return f"{place} · loss {self.smoothed_loss:.4f} · {self.estimate} · {self.clock}"


def train(
    model: FrozenModel,
    pictures: Sequence[Picture],
    settings: Settings,
    start: Embedding | None = None,
    resume: TrainingState | None = None,
    processes: Processes = ALONE,
    pictures_hash: str | None = None,
) -> Iterator[Progress]:
    """Learn a word from pictures by textual inversion (arXiv 2208.01618).

    With `NegativeSettings`, learn one for negative prompts, or a pair (see `negative_objectives`).
    Nothing but the word's vectors is trained. All random choices of a step depend on the
    seed and the number of the step alone and are drawn on the CPU, so that a run gives the
    same word on any device, as far as its arithmetic does.

    Args:
        model: the frozen model.
        pictures: what to learn from; those that are `unlike` keep the word from meaning them.
        settings: how.
        start: an embedding to go on from, instead of `settings.init_words`.
        resume: a state of a run with the same model, pictures, settings and start. On a CPU
            the rest of the run is the same to the bit as if it had never stopped.
        processes: the processes that compute each step together, all called alike.
        pictures_hash: from `pictures_fingerprint`, where it is known already.

    Yields:
        a `Progress` after every step.

    Raises:
        InputError: pictures, captions, words, `start` or `resume` cannot be used; before any
            step.
        DivergedError: the loss is no number any more; it carries the last good embedding.
    """
    processes.check(settings)
    objective = objective_of(settings)
    initial = objective.initial(model, settings, start)
    learning = learning_encoders(model.text_encoders, settings.encoders)
    step_losses = losses_of(model, pictures, settings, processes)
    step_losses.tokenize(initial)  # before the first step, where a bad prompt costs no time
    if settings.initialization == "captions" and start is None:
        captions = [picture.caption or "" for picture in meant(pictures)]
        initial = from_captions(
            model, settings, captions, lambda rows: step_losses.evaluate(rows).losses
        )
    notes = {**run_metadata(model, settings, pictures, start, pictures_hash), **objective.notes}
    half = model.compute_dtype == torch.float16
    trained, history = TrainedVectors(initial, learning, settings, model.device, half), History()
    # All that one step hands to the next.
    parts: dict[str, Stateful] = {**trained.parts, **step_losses.parts, "record": history}
    if resume is not None:
        resume.restore(parts)
        if resume.step >= settings.steps:
            raise InputError(
                f"This run has made all of its {settings.steps} steps: start a new one."
            )
    first = resume.step if resume else 0
    started = time.monotonic() - history.seconds
    first_word = Embedding(settings.name, initial)
    good: Embedding | None = None  # the last one whose loss is known to be a number
    for step in range(first, settings.steps):
        rows = trained.rows(step)
        total = 0.0
        for loss in step_losses.losses(step, rows, trained.anchors):
            trained.backward(loss)
            total += loss.item()
        step_losses.measure(rows, trained.scale)
        total = trained.share(processes, total)
        if not math.isfinite(total):
            raise _diverged(step, good)
        good = history.last
        if not trained.update(step):
            raise _diverged(step, good)

        history.smoothed = (
            total if step == 0 else SMOOTHING * history.smoothed + (1 - SMOOTHING) * total
        )
        learned = trained.learned(step)
        norms = {k: v.norm(dim=1).mean().item() for k, v in learned.items()}
        metadata = {**notes, **step_metadata(step + 1, history.smoothed)}
        last = Embedding(settings.name, learned, metadata)
        evaluation: Evaluation | None = None
        diagnostics = None
        complete = row_count(rows) == row_count(initial)
        estimate = trained.estimate
        enough = settings.anytime and complete and estimate.is_enough(step + 1, settings.patience)
        if is_evaluated(step + 1, settings) or (enough and settings.evaluations):
            evaluation = step_losses.evaluate(learned)
            diagnostics = diagnose(
                step + 1, evaluation, history.smoothed, last, initial, model.text_encoders
            )
        history.remember(last, evaluation.mean if evaluation else None)
        settled = settings.stop_early and complete and has_settled(history.evaluations)
        worse = evaluation is not None and evaluation.is_worse_than(history.lowest)
        ended = enough or settled or (worse and step + 1 >= FIRST)
        history.seconds = time.monotonic() - started
        best = history.best or last
        yield Progress(
            step=step + 1,
            steps=step + 1 if ended else settings.steps,
            loss=total,
            smoothed_loss=history.smoothed,
            evaluation=evaluation.mean if evaluation else None,
            ranked=evaluation.ranked if evaluation else None,
            diagnostics=diagnostics,
            learning_rate=trained.rate(step),
            norms=norms,
            seconds=history.seconds,
            last=last,
            best=best,
            kept=best if settings.keep == "best" else last,
            initial=first_word,
            state=TrainingState.of(step + 1, parts),
            estimate=estimate,
            end=_end(step + 1, ended, estimate, settings),
            cut_off=settings.ends_by_itself and not ended and step + 1 == settings.steps,
        )
        if ended:
            return


def _end(step: int, ended: bool, estimate: Estimate, settings: Settings) -> tuple[int, int]:
    """Between which steps a run will end that has made so many."""
    if ended:
        return step, step
    if settings.anytime:
        return estimate.end(step, settings.steps, settings.patience)
    return settings.steps, settings.steps


def _diverged(step: int, good: Embedding | None) -> DivergedError:
    kept = "the last good vectors are kept" if good else "there is nothing to keep"
    return DivergedError(
        f"The loss was no longer a number at step {step + 1}; {kept}. Lower the learning rate, "
        "or use a model in bf16 or fp32 if it is fp16.",
        good,
    )
