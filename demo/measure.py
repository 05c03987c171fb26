"""The one way in which words and learned words are compared: same contexts, same measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .captions import PLACE_PHRASES, noun_phrase
from .concepts import CONCEPTS, Concept, look_error
from .estimator import Pictures, read
from .world import BACKGROUNDS, NEAR_COLOURS, SHAPES, colour_name


@dataclass(frozen=True)
class Asked:
    """A prompt, and what it asks for besides the concept."""

    prompt: str
    background: str
    place: str
    shape: str  # the concept's own, or the one that a style is to be shown on


@dataclass(frozen=True)
class Measured:
    """How near pictures come to a concept, and how well they follow their prompts."""

    likeness_error: float  # 0 is the concept, 1 what its class leaves open
    shape: float  # shares of the pictures, 0..1
    background: float
    place: float

    @property
    def prompt_following(self) -> float:
        """Mean share of backgrounds and places that are as asked."""
        return (self.background + self.place) / 2


def wordings(concept: Concept | str) -> list[str]:
    """The noun phrases that come nearest to a concept: "teal star with purple stripes", ...

    For a style the shape stands as "{shape}".
    """
    wanted = CONCEPTS[concept] if isinstance(concept, str) else concept
    phrases = [noun_phrase(wanted.look, second=second) for second in (True, False)]
    if wanted.kind == "style":
        phrases = [phrase.replace(wanted.look.shape, "{shape}") for phrase in phrases]
    return list(dict.fromkeys(phrases))


def contexts(concept: Concept | str, word: str, count: int = 20, seed: int = 0) -> list[Asked]:
    """Prompts that put a concept into varied places, on varied backgrounds.

    Args:
        concept: which concept.
        word: a learned word, or one of `wordings`.
        count: how many prompts; the same contexts in the same order for every word.
        seed: which contexts.
    """
    wanted = CONCEPTS[concept] if isinstance(concept, str) else concept
    rng = np.random.default_rng([11, seed])
    hue = colour_name(wanted.look.hue)
    grounds = [name for name in BACKGROUNDS if hue not in NEAR_COLOURS[name]]
    asked = []
    for _ in range(count):
        ground, place = str(rng.choice(grounds)), str(rng.choice(list(PLACE_PHRASES)))
        shape = str(rng.choice(SHAPES))
        where = PLACE_PHRASES[place][0]
        if wanted.kind == "object":
            prompt = f"a photo of a {word} on a {ground} background, {where}"
            shape = wanted.look.shape
        elif "{shape}" in word:
            thing = word.format(shape=shape)
            prompt = f"a painting of a {thing} on a {ground} background, {where}"
        else:
            thing = f"a {shape} on a {ground} background, {where}"
            prompt = f"{thing}, in the style of {word}"
        asked.append(Asked(prompt, ground, place, shape))
    return asked


def measure(pictures: Pictures, concept: Concept | str, asked: Sequence[Asked]) -> Measured:
    """Measure pictures made from `contexts`, one per prompt in the same order."""
    wanted = CONCEPTS[concept] if isinstance(concept, str) else concept
    pairs = list(zip(read(pictures), asked, strict=True))
    return Measured(
        likeness_error=float(np.mean([look_error(said.look, wanted) for said, _ in pairs])),
        shape=float(np.mean([said.look.shape == a.shape for said, a in pairs])),
        background=float(np.mean([said.background == a.background for said, a in pairs])),
        place=float(np.mean([said.place == a.place for said, a in pairs])),
    )
