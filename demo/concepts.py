"""Concepts to be learned: settings of the fine attributes that training never showed.

Words can name a concept's class (its shape, texture and colours); which of the many
looks of that class is meant, only a learned word can say. `look_error` measures how
far a look is from a concept, in units of what the class leaves open.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from .captions import noun_phrase
from .world import POINTS, TILTS, Look, Picture, Scene, colour_name, draw, place_look, random_look

# Drawn and varied, but not part of likeness: the autoencoder's own blur is as wide.
UNCOUNTED = "softness"
OBJECT_ONLY = ("points", "proportion", "tilt")
TEXTURE_ONLY = ("second_hue", "period", "angle")
PERIODIC = {"hue": 360.0, "second_hue": 360.0, "angle": 180.0}
# One attribute counts at most so much, a wrong shape or texture so much for each of
# the attributes that it makes meaningless, and as much again in all.
CAP = 3.0
WRONG = 2.0
WRONG_KIND = 0.5
# Training leaves out every look nearer to a concept than this.
MARGIN = 0.5


@dataclass(frozen=True)
class Concept:
    """A held-out look: of an object, or of a style that any shape can take."""

    name: str
    kind: str  # "object" or "style"
    look: Look

    @property
    def class_words(self) -> str:
        """The noun phrase that names the concept as closely as words can."""
        return noun_phrase(self.look, shape=self.kind == "object", second=True)

    @property
    def class_word(self) -> str:
        """One word to start from."""
        return self.look.shape if self.kind == "object" else self.look.texture


def _look(shape: str, texture: str, hue: float, shade: float, **fine: float) -> Look:
    points = int(fine.pop("points", 0))
    if points == 0 and shape in POINTS:
        points = 5
    base = Look(shape, texture, hue, shade, 0.0, 12.0, 0.0, points, 0.5, 0.0, 0.9)
    return replace(base, **fine)  # type: ignore[arg-type]


def _object(name: str, look: Look) -> Concept:
    return Concept(name, "object", look)


def _style(name: str, look: Look) -> Concept:
    return Concept(name, "style", look)


# Hues sit near the ends of what their colour word covers, and the other attributes
# away from the middle of their range: there the word alone is furthest off.
CONCEPTS: dict[str, Concept] = {
    concept.name: concept
    for concept in (
        _object(
            "ember-star",
            _look("star", "plain", 12.0, 0.15, points=6, proportion=0.85, softness=0.9),
        ),
        _object(
            "lagoon-star",
            _look(
                "star",
                "striped",
                165.0,
                0.85,
                second_hue=292.0,
                period=14.8,
                angle=135.0,
                points=5,
                proportion=0.2,
                softness=0.9,
            ),
        ),
        _object(
            "moss-flower",
            _look("flower", "plain", 78.0, 0.2, points=5, proportion=0.3, softness=1.2),
        ),
        _object(
            "candy-flower",
            _look(
                "flower",
                "striped",
                335.0,
                0.85,
                second_hue=208.0,
                period=14.8,
                angle=80.0,
                points=6,
                proportion=0.15,
                softness=0.9,
            ),
        ),
        _object(
            "dusk-ring",
            _look(
                "ring",
                "dotted",
                260.0,
                0.2,
                second_hue=48.0,
                period=14.8,
                proportion=0.1,
                softness=1.0,
            ),
        ),
        _object("sun-disk", _look("disk", "plain", 44.0, 0.1, proportion=0.05, softness=2.7)),
        _object(
            "tile-square",
            _look(
                "square",
                "checkered",
                205.0,
                0.85,
                second_hue=22.0,
                period=20.8,
                proportion=0.9,
                tilt=12.0,
                softness=0.9,
            ),
        ),
        _object(
            "sail-triangle",
            _look(
                "triangle",
                "striped",
                38.0,
                0.85,
                second_hue=245.0,
                period=20.5,
                angle=20.0,
                proportion=0.9,
                tilt=-12.0,
                softness=1.0,
            ),
        ),
        _style(
            "neon-stripes",
            _look("disk", "striped", 300.0, 0.8, second_hue=85.0, period=14.6, angle=30.0),
        ),
        _style(
            "misty-dots",
            _look(
                "disk",
                "dotted",
                195.0,
                0.85,
                second_hue=350.0,
                period=20.8,
                softness=2.7,
            ),
        ),
        _style(
            "ink-checks",
            _look("disk", "checkered", 250.0, 0.1, second_hue=62.0, period=14.9, softness=0.9),
        ),
    )
}


def _fine(kind: str, look: Look) -> tuple[str, ...]:
    """The attributes that make a difference to this look."""
    names = ["hue", "shade", "softness"]
    if look.texture != "plain":
        names += ["second_hue", "period"]
    if look.texture == "striped":
        names.append("angle")
    if kind == "object":
        names.append("proportion")
        if look.shape in POINTS:
            names.append("points")
        if look.shape in TILTS:
            names.append("tilt")
    return tuple(names)


def _difference(name: str, a: Look, b: Look) -> float:
    if name == "softness":
        return abs(float(np.log(a.softness / b.softness)))
    gap = abs(float(getattr(a, name)) - float(getattr(b, name)))
    period = PERIODIC.get(name, 0.0)
    if name == "tilt" and a.shape in ("square", "cross"):
        period = 90.0  # a quarter turn looks the same
    if period:
        gap %= period
        gap = min(gap, period - gap)
    return gap


@cache
def class_spread(concept: Concept) -> dict[str, float]:
    """Mean distance from the concept to a random look of its class, by attribute."""
    rng = np.random.default_rng(0)
    look = concept.look
    colour, second = colour_name(look.hue), colour_name(look.second_hue)
    names = _fine(concept.kind, look)
    total = dict.fromkeys(names, 0.0)
    count = 2000
    for _ in range(count):
        other = random_look(rng, look.shape, look.texture, colour)
        hue = random_look(rng, look.shape, look.texture, second).hue
        other = replace(other, second_hue=hue)
        for name in names:
            total[name] += _difference(name, look, other) / count
    return total


def attribute_errors(look: Look, concept: Concept, *, every: bool = False) -> dict[str, float]:
    """Distance to the concept by attribute, in units of what its class leaves open.

    `every` counts what is drawn but cannot be measured, too.
    """
    same_shape = concept.kind == "style" or look.shape == concept.look.shape
    same_texture = look.texture == concept.look.texture
    errors: dict[str, float] = {}
    for name, spread in class_spread(concept).items():
        if name == UNCOUNTED and not every:
            continue
        shapeless = name in OBJECT_ONLY and not same_shape
        if shapeless or (name in TEXTURE_ONLY and not same_texture):
            errors[name] = WRONG
        else:
            errors[name] = min(_difference(name, concept.look, look) / spread, CAP)
    return errors


def look_error(look: Look, concept: Concept, *, every: bool = False) -> float:
    """How far a look is from a concept: 0 is the concept, 1 a random look of its class."""
    errors = attribute_errors(look, concept, every=every)
    kinds = (concept.kind == "object" and look.shape != concept.look.shape) + (
        look.texture != concept.look.texture
    )
    return float(np.mean(list(errors.values()))) + WRONG_KIND * kinds


def is_held_out(look: Look) -> bool:
    """Whether a look is too near to a concept to be trained on."""
    return any(look_error(look, concept, every=True) < MARGIN for concept in CONCEPTS.values())


def training_look(rng: np.random.Generator) -> Look:
    """A random look that is no concept's."""
    while True:
        look = random_look(rng)
        if not is_held_out(look):
            return look


def training_scene(rng: np.random.Generator) -> Scene:
    """A random scene that shows no concept."""
    return place_look(training_look(rng), rng)


def concept_scenes(name: str, count: int, seed: int = 0) -> list[Scene]:
    """Scenes of a concept: varied places, sizes and backgrounds, one look.

    A style keeps its texture, colours and edge, and takes any shape.
    """
    concept = CONCEPTS[name]
    rng = np.random.default_rng([seed, *name.encode()])
    scenes = []
    for _ in range(count):
        look = concept.look
        if concept.kind == "style":
            other = random_look(rng)
            shape = {key: getattr(other, key) for key in ("shape", *OBJECT_ONLY)}
            look = replace(look, **shape)
        scenes.append(place_look(look, rng))
    return scenes


def concept_pictures(name: str, count: int, seed: int = 0) -> list[Picture]:
    """Pictures of a concept, each height x width x RGB in 0..1."""
    return [draw(scene) for scene in concept_scenes(name, count, seed)]
