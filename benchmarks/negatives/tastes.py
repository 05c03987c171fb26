"""What a judge of the tiny world likes, and what it asks for to find out whether it gets more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from measure import badness, is_right, limit
from textual_inversion.demo.estimator import Reading
from textual_inversion.demo.world import Scene, colour_name
from torch import Tensor

LIKED_COLOUR = "blue"

Judged: TypeAlias = Callable[[Tensor, Sequence[Reading]], Tensor]


@dataclass(frozen=True)
class Taste:
    """A taste.

    Attributes:
        dislikes: what, in a word or two.
        dislike: pictures and what they show -> how far each is disliked, [pictures].
        limit: from where on a picture counts as disliked.
        seen: from where on the judge tells two pictures apart.
        names_colour: whether prompts name the colour of their object.
    """

    dislikes: str
    dislike: Judged
    limit: Callable[[], float]
    seen: Callable[[], float]
    names_colour: bool = True

    def asked(self, prompts: Sequence[str], scenes: Sequence[Scene]) -> list[str]:
        """Prompts that leave open what the taste is about."""
        if self.names_colour:
            return list(prompts)
        names = [f"{colour_name(scene.look.hue)} " for scene in scenes]
        return [prompt.replace(name, "", 1) for prompt, name in zip(prompts, names, strict=True)]

    def disliked(self, pictures: Tensor, seen: Sequence[Reading]) -> list[int]:
        """The places of the pictures that count as disliked."""
        found = self.dislike(pictures, seen) > self.limit()
        return [int(place) for place in found.nonzero().flatten()]

    def right(self, seen: Sequence[Reading], scenes: Sequence[Scene]) -> list[int]:
        """The places of the pictures that show all that their prompts ask for."""
        found = is_right(seen, scenes, colour=self.names_colour)
        return [int(place) for place in found.nonzero()[0]]


def _other_colour(pictures: Tensor, seen: Sequence[Reading]) -> Tensor:
    others = [colour_name(said.look.hue) != LIKED_COLOUR for said in seen]
    return torch.tensor(others).float()


TASTES: Mapping[str, Taste] = {
    "pale": Taste("pale", lambda *both: badness("pale", *both), lambda: limit("pale"), lambda: 0.1),
    "ground": Taste(
        "uneven grounds",
        lambda *both: badness("ground", *both),
        lambda: limit("ground"),
        lambda: 0.3 * limit("ground"),
    ),
    "blue": Taste(f"any colour but {LIKED_COLOUR}", _other_colour, lambda: 0.5, lambda: 0.5, False),
}
