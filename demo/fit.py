"""Analysis by synthesis: draws what was read, compares, and corrects the reading.

The estimator's network says roughly what a picture shows. From there the drawing itself
is the better judge: the fine attributes are moved, one after the other, to where the
redrawn picture comes nearest to the one at hand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .world import PERIODS, POINTS, SIZE, SOFTNESS, TILTS, Look, Picture, layers, rgb_shade

# Fewer pixels of a colour than this say nothing about it.
FEW_PIXELS = 8
ROUNDS = 4
# How many of the candidates are worth a search.
SEARCHED = 2
# First step of each attribute's search, halved from round to round, and its range.
STEPS: dict[str, float] = {
    "x": 1.6,
    "y": 1.6,
    "radius": 1.6,
    "proportion": 0.2,
    "tilt": 10.0,
    "period": 1.6,
    "angle": 12.0,
    "softness": 0.8,
}
RANGES: dict[str, tuple[float, float]] = {
    "x": (8.0, 56.0),
    "y": (8.0, 56.0),
    "radius": (10.0, 30.0),
    "proportion": (0.0, 1.0),
    "period": (PERIODS[0] - 1.0, PERIODS[1] + 1.0),
    "softness": SOFTNESS,
}
ON_SCENE = ("x", "y", "radius")


@dataclass(frozen=True)
class Placed:
    """A look at a place: what `fit` moves."""

    look: Look
    x: float
    y: float
    radius: float

    def moved(self, name: str, by: float) -> Placed:
        """The same with one attribute changed, kept within its range."""
        value = float(getattr(self if name in ON_SCENE else self.look, name)) + by
        if name == "angle":
            value %= 180.0
        elif name == "tilt":
            value = float(np.clip(value, -TILTS[self.look.shape], TILTS[self.look.shape]))
        else:
            value = float(np.clip(value, *RANGES[name]))
        if name == "x":
            return replace(self, x=value)
        if name == "y":
            return replace(self, y=value)
        if name == "radius":
            return replace(self, radius=value)
        return replace(self, look=_with(self.look, name, value))


def _with(look: Look, name: str, value: float) -> Look:
    changes = {name: value}
    return replace(look, **changes)  # type: ignore[arg-type]


def _misfit(placed: Placed, pixels: NDArray[np.float64]) -> float:
    """How far the nearest drawing is, whatever its colours."""
    inside, share = layers(placed.look, placed.radius, placed.x, placed.y)
    parts = [1.0 - inside, inside * (1.0 - share)]
    if placed.look.texture != "plain":
        parts.append(inside * share)
    basis = np.stack([part.ravel() for part in parts], axis=1)
    square = basis.T @ basis + 1e-6 * np.eye(len(parts))
    colours = np.linalg.solve(square, basis.T @ pixels)
    return float(np.square(pixels - basis @ colours).mean())


def _movable(look: Look) -> list[str]:
    names = ["x", "y", "radius", "proportion", "softness"]
    if look.shape in TILTS:
        names.append("tilt")
    if look.texture != "plain":
        names.append("period")
    if look.texture == "striped":
        names.append("angle")
    return names


def _search(placed: Placed, pixels: NDArray[np.float64]) -> tuple[float, Placed]:
    best = _misfit(placed, pixels)
    for turn in range(ROUNDS):
        for name in _movable(placed.look):
            step = STEPS[name] * 0.5**turn
            for by in (step, -step):
                other = placed.moved(name, by)
                misfit = _misfit(other, pixels)
                if misfit < best:
                    best, placed = misfit, other
                    break
    return best, placed


def _candidates(placed: Placed, shapes: list[str], textures: list[str]) -> list[Placed]:
    found = []
    for shape in shapes:
        points = POINTS.get(shape, (0,))
        tilt = placed.look.tilt if shape in TILTS else 0.0
        for texture in textures:
            for count in points:
                look = replace(placed.look, shape=shape, texture=texture, points=count, tilt=tilt)
                found.append(replace(placed, look=look))
    return found


def fit(placed: Placed, picture: Picture, shapes: list[str], textures: list[str]) -> Placed:
    """The look and place that redraw a picture best.

    Args:
        placed: what was read, to start from.
        picture: height x width x RGB in 0..1.
        shapes: the shapes to consider.
        textures: the textures to consider.
    """
    pixels = np.asarray(picture, dtype=np.float64).reshape(SIZE * SIZE, 3)
    candidates = _candidates(placed, shapes, textures)
    candidates.sort(key=lambda candidate: _misfit(candidate, pixels))
    tried = [_search(candidate, pixels) for candidate in candidates[:SEARCHED]]
    _, best = min(tried, key=lambda pair: pair[0])
    return _with_colours(best, picture)


def _with_colours(placed: Placed, picture: Picture) -> Placed:
    """The same with its colours looked up in the picture.

    A median over the places that show one colour only does not mind if the outline is a
    little off.
    """
    inside, share = layers(placed.look, placed.radius, placed.x, placed.y)
    look = placed.look
    first = picture[(inside > 0.97) & (share < 0.03)]
    if len(first) >= FEW_PIXELS:
        hue, shade = rgb_shade(np.median(first, axis=0))
        look = replace(look, hue=hue, shade=shade)
    second = picture[(inside > 0.97) & (share > 0.97)]
    if len(second) >= FEW_PIXELS:
        look = replace(look, second_hue=rgb_shade(np.median(second, axis=0))[0])
    return replace(placed, look=look)
