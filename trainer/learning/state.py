"""Everything that a run carries from one step to the next.

Whatever remembers something between steps (vectors, optimizer, averages, counters) has the two
methods that PyTorch gave them, `state_dict` and `load_state_dict`; the loop names each of them
once. Random numbers need no place here: they follow from the seed and the number of the step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from ..embeddings.embedding import Embedding
from ..errors import InputError

Tree = Any
"""Dictionaries, lists and tuples of tensors, numbers, texts, booleans and None."""


class Stateful(Protocol):
    """A part of a run that remembers something between steps."""

    def state_dict(self) -> Mapping[str, Tree]:
        """All that it remembers."""

    def load_state_dict(self, state_dict: dict[str, Tree]) -> Any:
        """Remember that again."""


LATER = frozenset({"signal", "walk", "settling"})
"""Parts that the first checkpoints lack, of runs that did not depend on them."""


@dataclass(frozen=True)
class TrainingState:
    """A run between two steps; `train(..., resume=state)` goes on as if it had never stopped.

    Attributes:
        step: steps done.
        parts: name of each part -> what it remembers, a tree with tensors on the CPU.
    """

    step: int
    parts: Mapping[str, Tree]

    @classmethod
    def of(cls, step: int, parts: Mapping[str, Stateful]) -> TrainingState:
        """A snapshot that later steps do not change."""
        return cls(step, {name: _snapshot(part.state_dict()) for name, part in parts.items()})

    def restore(self, parts: Mapping[str, Stateful]) -> None:
        """Put every part back to where it was.

        Raises:
            InputError: the parts are those of another kind of run.
        """
        try:
            for name, part in parts.items():
                if name in self.parts or name not in LATER:
                    part.load_state_dict(_snapshot(self.parts[name]))
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise InputError(
                "The checkpoint comes from a run with other settings, or from another version: "
                "start again without it."
            ) from error


@dataclass
class History:
    """What the loop remembers of its losses and words, beside what it trains.

    Attributes:
        smoothed: running average of the loss.
        lowest: the lowest evaluation so far.
        evaluations: all so far, in the order of time.
        seconds: spent on steps so far.
        last: the embedding after the last step.
        best: the embedding of the lowest evaluation.
    """

    smoothed: float = math.nan
    lowest: float = math.inf
    evaluations: list[float] = field(default_factory=list)
    seconds: float = 0.0
    last: Embedding | None = None
    best: Embedding | None = None

    def remember(self, word: Embedding, evaluation: float | None) -> None:
        """Add the word of a step; until the first evaluation the newest counts as the best."""
        self.last = word
        if self.lowest == math.inf or (evaluation is not None and evaluation < self.lowest):
            self.best = word
        if evaluation is not None:
            self.lowest = min(self.lowest, evaluation)
            self.evaluations.append(evaluation)

    def state_dict(self) -> dict[str, Tree]:
        """See `Stateful`."""
        return {k: _as_tree(v) if isinstance(v, Embedding) else v for k, v in vars(self).items()}

    def load_state_dict(self, state_dict: dict[str, Tree]) -> None:
        """See `Stateful`."""
        for key in vars(self):
            value = state_dict[key]
            setattr(self, key, Embedding(**value) if isinstance(value, dict) else value)


def _as_tree(embedding: Embedding) -> Tree:
    return {
        "name": embedding.name,
        "vectors": dict(embedding.vectors),
        "metadata": dict(embedding.metadata),
    }


def _snapshot(tree: Tree) -> Tree:
    """The same tree with tensors of its own, on the CPU."""
    if isinstance(tree, Tensor):
        return tree.detach().to("cpu", copy=True)
    if isinstance(tree, Mapping):
        return {key: _snapshot(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_snapshot(value) for value in tree)
    return tree
