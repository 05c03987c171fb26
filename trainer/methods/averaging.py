"""Averages of the vectors over steps: what a run has learned, with less of its noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..embeddings.embedding import Rows
from .optimizers import restore_lengths

AVERAGINGS: Sequence[str] = ("last half", "none", "last quarter", "ema")

TAIL = 4
"""The average of the end takes in one step of so many."""

POWER = 3
"""Of its number, by which a step counts in the mean of the last half."""

HORIZON = 10
"""The moving average reaches back over one step of so many."""


def polynomial_share(count: int, power: int) -> float:
    """What the newest of `count` values counts in a mean in which the n-th counts about n^power.

    Polynomial-decay averaging (Shamir and Zhang, arXiv 1212.1824).
    """
    return (1 + power) / (count + power)


class Average:
    """What is shown and kept instead of the vectors themselves.

    - `none`: the vectors.
    - `last half`: about the mean over the last half of all steps so far, which needs no length:
      each step counts by about the third power of its number, which is as steady as a plain mean
      of 7 in 16 steps.
    - `last quarter`: the mean over the last quarter of the run; before it, the vectors.
    - `ema`: an exponential moving average over about the last tenth of the run's length. At the
      start, the mean of all steps so far.

    Args:
        kind: one of `AVERAGINGS`.
        steps: of the whole run.
        lengths: encoder key -> [vectors, 1], to which the mean is scaled, because a mean of
            directions is shorter than they are; None to leave it.
    """

    def __init__(self, kind: str, steps: int, lengths: Rows | None = None) -> None:
        self._kind, self._steps, self._lengths = kind, steps, lengths
        self._first = steps - max(1, steps // TAIL) if kind == "last quarter" else 0
        self._count = 0
        self._means: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, step: int, vectors: Rows) -> dict[str, Tensor]:
        """Take in the vectors after a step, counted from 0.

        Returns:
            what has been learned, in tensors of its own: encoder key -> [vectors, width].
        """
        if self._kind == "none" or step < self._first:
            # What there is already is the end of a shorter run, which goes on with more steps.
            self._count, self._means = 0, {}
            return {key: rows.detach().clone() for key, rows in vectors.items()}
        self._count += 1
        share = 1 / self._count
        if self._kind == "ema":
            share = max(share, min(1.0, HORIZON / self._steps))
        elif self._kind == "last half":
            share = polynomial_share(self._count, POWER)
        for key, rows in vectors.items():
            mean = self._means.setdefault(key, rows.detach().clone()).to(rows.device)
            self._means[key] = mean.lerp(rows.detach(), share)
        shown = {key: mean.clone() for key, mean in self._means.items()}
        if self._lengths:
            restore_lengths(shown, self._lengths)
        return shown

    def state_dict(self) -> dict[str, Any]:
        """See `state.Stateful`."""
        return {"count": self._count, "means": dict(self._means)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state.Stateful`."""
        self._count, self._means = state_dict["count"], dict(state_dict["means"])
