"""What there is to tell of a run, as it goes on and at its end."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..data.checks import expectation
from ..learning.diagnostics import Diagnostics, remarks
from ..learning.loop import Progress

WARM = 5
"""Steps until the pace is known; the first ones take longer."""


class RunReport:
    """Collects what is found before and while a word is trained.

    Args:
        notes: sentences found before the first step.
        device: on which the run is.
    """

    def __init__(self, notes: Sequence[str], device: torch.device) -> None:
        self._notes = list(notes)
        self._device = device
        self._steps = 0
        self._expected: list[str] = []
        self._evaluated: list[Diagnostics] = []
        self._remarks: dict[str, str] = {}
        self._progress: Progress | None = None

    @property
    def notes(self) -> list[str]:
        """What is worth a look now: what was found before the run, and signs of over-fitting."""
        return [*self._notes, *self._remarks.values()]

    def note(self, sentence: str) -> None:
        """Add what has happened beside the learning."""
        self._notes.append(sentence)

    def take(self, progress: Progress) -> list[str]:
        """Take in a step.

        Returns:
            what is new: the time the run will take, an evaluation, signs of over-fitting that
            were not there before.
        """
        self._steps += 1
        lines = []
        self._progress = progress
        if self._steps >= WARM and progress.is_foreseen:
            seconds = [progress.seconds + left for left in progress.seconds_left]
            told = expectation(seconds, progress.end, self._device)
            # Said once, but kept up to date: a run without a length knows its end only later.
            lines += [] if self._expected else [told]
            self._expected = [told]
        if progress.diagnostics is not None:
            self._evaluated.append(progress.diagnostics)
            before, self._remarks = self._remarks, remarks(self._evaluated)
            lines.append(progress.diagnostics.line)
            lines += [text for kind, text in self._remarks.items() if kind not in before]
        return lines

    @property
    def learned(self) -> str:
        """What the last evaluation has found, for people; empty without any."""
        return "\n".join([*map(str, self._evaluated[-1:]), *self._way, *self._remarks.values()])

    @property
    def _way(self) -> list[str]:
        """How far the word has come."""
        if self._progress is None:
            return []
        step, estimate = self._progress.step, self._progress.estimate
        return [f"After {step} steps: {estimate}, {estimate.numbers}.", *self.ending]

    @property
    def ending(self) -> list[str]:
        """What is not as it was meant to be at the end: the limit of steps, vectors too few."""
        if self._progress is None:
            return []
        told = []
        if self._progress.cut_off:
            told.append(
                "The limit of steps was reached first: run again with more steps to continue."
            )
        count, asked = self._progress.kept.num_vectors, self._progress.initial.num_vectors
        if count < asked:
            told.append(
                f"The word has {count} of the {asked} vectors: progressive adds them one by one, "
                "and the others had not come in yet. Turn it off to learn all of them."
            )
        return told

    def __str__(self) -> str:
        """All of it."""
        return "\n".join(filter(None, [self.learned, *self._expected, *self._notes]))
