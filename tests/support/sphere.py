"""A vector to be learned on a sphere where everything is known: no model, a bowl and noise."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

AWAY = 1.0
"""Radians from the start to the bottom of the bowl."""


@dataclass(frozen=True)
class Bowl:
    """A loss, and the noise of its gradient.

    Attributes:
        over_noise: signal over noise of the gradient at the start; inf for none.
        steep: in how many directions it is steep; None for all.
        flat: how steep it is in the others, as a share.
        own_noise: whether the noise is strong where the loss is steep, as that of single pictures
            is; else it is equally strong in all directions.
        width: of the vector.
    """

    over_noise: float
    steep: int | None = None
    flat: float = 0.01
    own_noise: bool = False
    width: int = 96

    def steepness(self) -> Tensor:
        """In each direction, [width]; the first is that of the start."""
        if self.steep is None:
            return torch.ones(self.width)
        return torch.tensor(
            [1.0] + [1.0] * self.steep + [self.flat] * (self.width - self.steep - 1)
        )


def start(bowl: Bowl) -> Tensor:
    """Where the vector begins, [1, width]."""
    return torch.eye(bowl.width)[:1]


def learn(bowl: Bowl, steps: int, seed: int, **settings: Any) -> Iterator[tuple[Tensor, Any]]:
    """Learn the vector as a run does: after each step the word, [1, width], and the estimate.

    Four fifths of the way, squared, lie in the steep directions.
    """
    from textual_inversion.trainer.learning.vectors import TrainedVectors
    from textual_inversion.trainer.settings import Settings

    chance = torch.Generator().manual_seed(seed)
    steepness, first = bowl.steepness(), start(bowl)
    way = torch.randn(bowl.width, generator=chance)
    way[0] = 0.0
    if bowl.steep is not None:
        inside, outside = way.clone(), way.clone()
        inside[bowl.steep + 1 :], outside[: bowl.steep + 1] = 0.0, 0.0
        way = math.sqrt(0.8) * inside / inside.norm() + math.sqrt(0.2) * outside / outside.norm()
    goal = math.cos(AWAY) * first + math.sin(AWAY) * way / way.norm()
    strength = _turning((first - goal) * steepness, first).norm()
    vectors = TrainedVectors(
        {"a": first}, {"a": SimpleNamespace(rate_scale=1.0)},
        Settings(steps=steps, **settings), torch.device("cpu"), half=False,
    )  # fmt: skip
    for step in range(steps):
        (row,) = vectors.rows(step).values()
        noise = torch.randn(row.shape, generator=chance)
        if bowl.own_noise:
            noise = noise * steepness.sqrt()
        noise = _turning(noise, row.detach())
        noise *= strength / bowl.over_noise / noise.norm()
        vectors.backward(((row - goal).square() * steepness).sum() / 2 + (noise * row).sum())
        vectors.update(step)
        (word,) = vectors.learned(step).values()
        yield word, vectors.estimate


def angle(one: Tensor, other: Tensor) -> float:
    """Between two rows, in radians."""
    return float(torch.nn.functional.cosine_similarity(one, other).clamp(-1, 1).acos())


def _turning(gradient: Tensor, row: Tensor) -> Tensor:
    direction = row / row.norm()
    return gradient - (gradient * direction).sum() * direction
