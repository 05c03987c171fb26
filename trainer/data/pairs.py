"""Pairs of a liked and a disliked picture of one prompt.

What both of a pair share (prompt, and with it all that the prompt asks for) says nothing of taste,
so that only pictures of one prompt are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ..errors import InputError
from ..prompts import PLACEHOLDER
from .captions import clean_caption
from .pictures import Picture
from .randomness import Stream, generator

FEWEST = 12
"""Pairs below which nothing is learned from (`benchmarks/negatives`, three seeds).

12 do nearly as much as 24. 6 mend as much and break more of what was right; the two that are held
out of them ended one run after 49 of 150 steps.
"""

WANTED = 24
"""Pairs that are enough to make a faint defect a quarter as frequent (`benchmarks/negatives`)."""

HELD_OUT = 0.2
"""Share of the pairs that is not learned from, and decides when a run ends."""


class Pair(NamedTuple):
    """A comparison: the prompt of both pictures, and their places among all pictures."""

    prompt: str
    liked: int
    disliked: int


@dataclass(frozen=True)
class Group:
    """The pictures of one prompt, by their places among all pictures."""

    prompt: str
    liked: Sequence[int]
    disliked: Sequence[int]

    @property
    def pairs(self) -> int:
        """How many pairs they make in which each picture stands once."""
        return min(len(self.liked), len(self.disliked))


@dataclass(frozen=True)
class Comparisons:
    """What is compared.

    Attributes:
        groups: to learn from; in each at least one liked and one disliked picture.
        held_out: pairs whose pictures are in none of the groups.
    """

    groups: Sequence[Group]
    held_out: Sequence[Pair]

    @property
    def pairs(self) -> int:
        """How many pairs there are in all."""
        return count_pairs(self.groups) + len(self.held_out)


def grouped(prompts: Sequence[str], liked: Sequence[bool]) -> list[Group]:
    """Pictures by their prompts, in the order in which these come first.

    Args:
        prompts: of the pictures.
        liked: whether each is liked; the others are disliked.
    """
    places: dict[str, tuple[list[int], list[int]]] = {}
    for place, (prompt, good) in enumerate(zip(prompts, liked, strict=True)):
        places.setdefault(prompt, ([], []))[0 if good else 1].append(place)
    return [Group(prompt, *sides) for prompt, sides in places.items()]


def count_pairs(groups: Sequence[Group]) -> int:
    """How many pairs there are in which each picture stands once."""
    return sum(group.pairs for group in groups)


def compared(pictures: Sequence[Picture], name: str, seed: int) -> Comparisons:
    """Find the pairs of rated pictures, and hold some out.

    Args:
        pictures: liked ones and, as `unlike`, disliked ones; their captions are the prompts that
            they were drawn with.
        name: of the word, which must not be in the prompts.
        seed: of what is held out.

    Raises:
        InputError: too few pairs, or a caption that is missing or has the word in it.
    """
    prompts = [_prompt(picture, name) for picture in pictures]
    groups = grouped(prompts, [not picture.unlike for picture in pictures])
    _refuse_too_few(pictures, count_pairs(groups))
    rng = generator(seed, Stream.HELD_OUT)
    pairs = [pair for group in groups for pair in _matched(group, rng)]
    order = torch.randperm(len(pairs), generator=rng).tolist()
    held_out = [pairs[i] for i in order[: max(2, round(HELD_OUT * len(pairs)))]]
    away = {place for pair in held_out for place in (pair.liked, pair.disliked)}
    left = [
        Group(
            group.prompt,
            [place for place in group.liked if place not in away],
            [place for place in group.disliked if place not in away],
        )
        for group in groups
    ]
    return Comparisons([group for group in left if group.pairs], held_out)


def _prompt(picture: Picture, name: str) -> str:
    prompt = clean_caption(picture.caption, name)
    if not prompt:
        raise InputError(
            f"There is no caption for {picture.source}: liked and disliked pictures are compared "
            "where they were drawn with the same prompt, so each needs it as its caption."
        )
    if PLACEHOLDER in prompt:
        raise InputError(
            f"The caption “{prompt}” contains the word that is to be learned: give the prompt "
            "that the picture was drawn with."
        )
    return prompt


def _refuse_too_few(pictures: Sequence[Picture], pairs: int) -> None:
    disliked = sum(picture.unlike for picture in pictures)
    liked = len(pictures) - disliked
    refuse_one_sided(liked, disliked)
    missing = FEWEST - pairs
    if missing > 0:
        raise InputError(
            f"{liked} liked and {disliked} disliked pictures make {pairs} "
            f"pair{'' if pairs == 1 else 's'} of one prompt: {missing} more "
            f"{'is' if missing == 1 else 'are'} needed, and {WANTED} in all are better. Draw more "
            "pictures of the prompts that have only liked or only disliked ones."
        )


def refuse_one_sided(liked: int, disliked: int) -> None:
    """Say what likes alone, or dislikes alone, are good for.

    Args:
        liked: how many pictures are.
        disliked: how many are, if any is liked or disliked.

    Raises:
        InputError: there are none of one kind.
    """
    if not disliked:
        raise InputError(
            f"There are no disliked pictures (liked: {liked}), so nothing can be compared: "
            "rate some of the same prompts as disliked. Liked pictures alone teach Train Negative "
            "Embedding with the objective “good pictures”, or a style in Train Textual Inversion."
        )
    if not liked:
        raise InputError(
            f"There are no liked pictures (disliked: {disliked}), so nothing can be compared: "
            "rate some of the same prompts as liked. Disliked pictures alone teach Train Negative "
            "Embedding with the objective “bad pictures”, which helps where a fault is glaring, "
            "not where it is faint."
        )


def _matched(group: Group, rng: torch.Generator) -> list[Pair]:
    """Pairs in which each picture stands once, at random."""
    liked, disliked = (
        [side[i] for i in torch.randperm(len(side), generator=rng).tolist()]
        for side in (group.liked, group.disliked)
    )
    return [Pair(group.prompt, *places) for places in zip(liked, disliked, strict=False)]


def draw_pairs(groups: Sequence[Group], count: int, rng: torch.Generator) -> list[Pair]:
    """Pairs for a step.

    A prompt is drawn as often as it has pairs, and each of its pictures equally often: one that
    could be paired with several still counts once.

    Args:
        groups: with pairs.
        count: how many.
        rng: of the random numbers.
    """
    order = torch.randperm(len(groups), generator=rng)
    ends = torch.tensor([group.pairs for group in groups], dtype=torch.float64)[order].cumsum(0)
    # Evenly spread over all pairs, so that a step depends less on luck.
    places = (torch.arange(count) + torch.rand(1, generator=rng, dtype=torch.float64)) / count
    found = torch.searchsorted(ends, places * ends[-1], right=True).clamp_max(len(groups) - 1)
    drawn = [groups[int(order[i])] for i in found]
    return [Pair(g.prompt, _pick(g.liked, rng), _pick(g.disliked, rng)) for g in drawn]


def _pick(places: Sequence[int], rng: torch.Generator) -> int:
    return places[int(torch.randint(len(places), (1,), generator=rng))]
