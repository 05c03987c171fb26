"""Tastes of the judge in the tiny world."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from measure import badness, is_right, limit
from textual_inversion.demo.estimator import Reading
from textual_inversion.demo.world import SIZES, Scene
from torch import Tensor

Judged: TypeAlias = Callable[[Tensor, Sequence[Reading]], Tensor]

OPEN_SIZE = "medium"
"""The size that prompts do not name."""


@dataclass(frozen=True)
class Taste:
    """A taste.

    Attributes:
        dislike: pictures and what they show -> how much each is disliked, [pictures].
        limit: from where on a picture counts as disliked.
        seen: from where on the judge tells two pictures apart.
        sizes: whether prompts are followed only where an object has the size that they name.
    """

    dislike: Judged
    limit: Callable[[], float]
    seen: Callable[[], float]
    sizes: bool = False

    def disliked(self, pictures: Tensor, seen: Sequence[Reading]) -> list[int]:
        """The places of the pictures that count as disliked."""
        found = self.dislike(pictures, seen) > self.limit()
        return [int(place) for place in found.nonzero().flatten()]

    def right(self, seen: Sequence[Reading], scenes: Sequence[Scene]) -> list[int]:
        """The places of the pictures that show all that their prompts ask for."""
        found = is_right(seen, scenes)
        if self.sizes:
            pairs = zip(seen, scenes, strict=True)
            found &= np.array([scene.size in (OPEN_SIZE, said.size) for said, scene in pairs])
        return [int(place) for place in found.nonzero()[0]]


def _smallness(pictures: Tensor, seen: Sequence[Reading]) -> Tensor:
    return torch.tensor([-said.radius for said in seen])


def _large() -> float:
    """The radius between things of the size that is not named and large ones."""
    return (sum(SIZES[OPEN_SIZE]) + sum(SIZES["large"])) / 4


TASTES: Mapping[str, Taste] = {
    "pale": Taste(lambda *both: badness("pale", *both), lambda: limit("pale"), lambda: 0.1),
    "ground": Taste(
        lambda *both: badness("ground", *both),
        lambda: limit("ground"),
        lambda: 0.3 * limit("ground"),
    ),
    "large": Taste(_smallness, lambda: -_large(), lambda: 1.0, sizes=True),
}
