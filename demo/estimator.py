"""Reads a picture's attributes back, and so measures likeness and prompt-following.

A small network trained on the world's own pictures, as drawn and as the autoencoder
renders them, then a search for the drawing that comes nearest. Its own error is part
of every figure: see the README of this folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from .concepts import CONCEPTS, Concept, attribute_errors, look_error
from .fit import Placed, fit
from .world import (
    BACKGROUNDS,
    PERIODS,
    PLACES,
    POINTS,
    SHAPES,
    SIZE,
    SIZES,
    SOFTNESS,
    TEXTURES,
    TILTS,
    Look,
    Picture,
    Scene,
)

ESTIMATOR_FILE = Path(__file__).parent / "weights" / "estimator.safetensors"

Pictures = Sequence[Picture] | torch.Tensor

_POINT_COUNTS = tuple(range(3, 8))
# A kind with a chance above this is worth drawing for comparison.
MAY_BE = 0.08
# The network's outputs in order: what they are and how many numbers each takes.
KINDS: dict[str, int] = {
    "shape": len(SHAPES),
    "texture": len(TEXTURES),
    "background": len(BACKGROUNDS),
    "points": len(_POINT_COUNTS),
}
ANGLES: dict[str, float] = {"hue": 360.0, "second_hue": 360.0, "angle": 180.0}
NUMBERS: dict[str, tuple[float, float]] = {  # middle and reach
    "shade": (0.5, 0.5),
    "period": (sum(PERIODS) / 2, (PERIODS[1] - PERIODS[0]) / 2),
    "proportion": (0.5, 0.5),
    "tilt": (0.0, max(TILTS.values())),
    "softness": (float(np.log(SOFTNESS).mean()), float(np.log(SOFTNESS[1] / SOFTNESS[0])) / 2),
    "x": (32.0, 16.0),
    "y": (32.0, 16.0),
    "radius": (22.0, 6.5),
}
WIDTH = 96
OUTPUTS = sum(KINDS.values()) + 2 * len(ANGLES) + len(NUMBERS)


@dataclass(frozen=True)
class Reading:
    """What a picture shows, as far as the estimator can tell."""

    look: Look
    background: str
    x: float
    y: float
    radius: float

    @property
    def place(self) -> str:
        """The named place nearest to where the object stands."""
        here = (self.x, self.y)
        return min(PLACES, key=lambda name: float(np.hypot(*np.subtract(PLACES[name], here))))

    @property
    def size(self) -> str:
        """The named size nearest to the object's."""
        return min(SIZES, key=lambda name: abs(sum(SIZES[name]) / 2 - self.radius))


class Block(nn.Module):
    """A convolution that halves the picture, then one that looks around in it.

    Nothing is normalised: how bright and how colourful a picture is must not get lost.
    """

    def __init__(self, wide_in: int, wide: int, kernel: int = 3) -> None:
        super().__init__()
        self.down = nn.Conv2d(wide_in, wide, kernel, stride=2, padding=kernel // 2)
        self.look = nn.Conv2d(wide, wide, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Half the resolution."""
        x = functional.silu(self.down(x))
        return x + functional.silu(self.look(x))


class Estimator(nn.Module):
    """The network: pictures (N, 3, 64, 64) in 0..1 to a row of raw outputs each."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(3, 24, 5), Block(24, 48), Block(48, 64), Block(64, 64))
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(64 * 16, WIDTH), nn.SiLU(), nn.Linear(WIDTH, OUTPUTS)
        )

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Raw outputs; `unpack` names them."""
        out: torch.Tensor = self.head(self.blocks(pictures * 2.0 - 1.0))
        return out


def unpack(raw: torch.Tensor) -> dict[str, torch.Tensor]:
    """A batch of raw outputs by attribute."""
    sizes = [*KINDS.values(), *(2 for _ in ANGLES), *(1 for _ in NUMBERS)]
    return dict(zip([*KINDS, *ANGLES, *NUMBERS], torch.split(raw, sizes, dim=1), strict=True))


def targets(scenes: Sequence[Scene]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """What the network should say about scenes, and which of it the pictures show at all."""
    looks = [scene.look for scene in scenes]
    wanted: dict[str, torch.Tensor] = {
        "shape": torch.tensor([SHAPES.index(look.shape) for look in looks]),
        "texture": torch.tensor([TEXTURES.index(look.texture) for look in looks]),
        "background": torch.tensor([list(BACKGROUNDS).index(s.background) for s in scenes]),
        "points": torch.tensor([max(look.points, 3) - 3 for look in looks]),
    }
    for name, period in ANGLES.items():
        turn = torch.tensor([getattr(look, name) for look in looks]) * (2 * np.pi / period)
        wanted[name] = torch.stack([turn.sin(), turn.cos()], dim=1).float()
    for name, (middle, reach) in NUMBERS.items():
        holders: Sequence[Look | Scene] = scenes if name in ("x", "y", "radius") else looks
        values = torch.tensor([float(getattr(holder, name)) for holder in holders])
        if name == "softness":
            values = values.log()
        wanted[name] = ((values - middle) / reach)[:, None]
    textured = torch.tensor([look.texture != "plain" for look in looks])
    shown = {name: torch.ones(len(looks), dtype=torch.bool) for name in wanted}
    shown["points"] = torch.tensor([look.shape in POINTS for look in looks])
    shown["tilt"] = torch.tensor([look.shape in TILTS for look in looks])
    shown["second_hue"] = shown["period"] = textured
    shown["angle"] = torch.tensor([look.texture == "striped" for look in looks])
    return wanted, shown


def estimator_loss(raw: torch.Tensor, scenes: Sequence[Scene]) -> torch.Tensor:
    """Cross-entropy of the kinds plus squared errors of the numbers that are shown."""
    said = unpack(raw)
    wanted, shown = targets(scenes)
    loss = torch.zeros(())
    for name, mask in shown.items():
        if not bool(mask.any()):
            continue
        if name in KINDS:
            loss = loss + 0.25 * functional.cross_entropy(said[name][mask], wanted[name][mask])
        else:
            loss = loss + functional.mse_loss(said[name][mask], wanted[name][mask])
    return loss


def as_batch(pictures: Pictures) -> torch.Tensor:
    """Pictures (height x width x RGB in 0..1, one or many) as a batch for the network.

    They are brought to the world's own measure of 64 x 64, which is where it counts pixels.
    """
    if isinstance(pictures, torch.Tensor):
        batch = pictures.detach().float()
    else:
        batch = torch.from_numpy(np.stack([np.asarray(p, dtype=np.float32) for p in pictures]))
    if batch.ndim == 3:
        batch = batch[None]
    return functional.interpolate(batch.movedim(-1, 1), (SIZE, SIZE), mode="area")


def save_estimator(network: Estimator, file: Path = ESTIMATOR_FILE) -> None:
    """Write the weights in half precision."""
    weights = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    save_file(weights, str(file))


@lru_cache(maxsize=1)
def load_estimator(file: Path = ESTIMATOR_FILE) -> Estimator:
    """The shipped estimator."""
    network = Estimator()
    network.load_state_dict({name: w.float() for name, w in load_file(str(file)).items()})
    return network.eval().requires_grad_(False)


@torch.no_grad()
def read(pictures: Pictures, network: Estimator | None = None) -> list[Reading]:
    """The attributes of pictures (height x width x RGB in 0..1)."""
    batch = as_batch(pictures)
    raw, shown = (network or load_estimator())(batch), batch.movedim(1, -1).numpy()
    return [_fitted(raw[n : n + 1], shown[n]) for n in range(len(raw))]


def _likely(scores: torch.Tensor, names: Sequence[str]) -> list[str]:
    """The most likely kind, and any other that may well be meant."""
    chances = functional.softmax(scores[0], dim=0)
    order = chances.argsort(descending=True)[:3].tolist()
    return [names[k] for k in order if k == order[0] or float(chances[k]) > MAY_BE]


def _fitted(raw: torch.Tensor, picture: Picture) -> Reading:
    """The network's reading of one picture, corrected by drawing it."""
    said, rough = unpack(raw), _reading(raw)
    found = fit(
        Placed(rough.look, rough.x, rough.y, rough.radius),
        picture,
        _likely(said["shape"], SHAPES),
        _likely(said["texture"], TEXTURES),
    )
    return Reading(found.look, rough.background, found.x, found.y, found.radius)


def _reading(raw: torch.Tensor) -> Reading:
    said = unpack(raw)
    kind = {name: int(said[name].argmax()) for name in KINDS}
    number: dict[str, float] = {}
    for name, period in ANGLES.items():
        sine, cosine = said[name][0].tolist()
        number[name] = float(np.degrees(np.arctan2(sine, cosine)) % 360.0) * period / 360.0
    for name, (middle, reach) in NUMBERS.items():
        number[name] = said[name].item() * reach + middle
    shape, texture = SHAPES[kind["shape"]], TEXTURES[kind["texture"]]
    look = Look(
        shape=shape,
        texture=texture,
        hue=number["hue"],
        shade=float(np.clip(number["shade"], 0.0, 1.0)),
        second_hue=number["second_hue"],
        period=number["period"],
        angle=number["angle"],
        points=_POINT_COUNTS[kind["points"]] if shape in POINTS else 0,
        proportion=float(np.clip(number["proportion"], 0.0, 1.0)),
        tilt=number["tilt"] if shape in TILTS else 0.0,
        softness=float(np.exp(np.clip(number["softness"], *np.log(SOFTNESS)))),
    )
    background = list(BACKGROUNDS)[kind["background"]]
    return Reading(look, background, number["x"], number["y"], number["radius"])


def likeness_errors(pictures: Pictures, concept: Concept | str) -> list[float]:
    """Each picture's distance from a concept: 0 is the concept, 1 a random one of its class."""
    wanted = CONCEPTS[concept] if isinstance(concept, str) else concept
    return [look_error(reading.look, wanted) for reading in read(pictures)]


def likeness_error(pictures: Pictures, concept: Concept | str) -> float:
    """The mean of `likeness_errors`."""
    return float(np.mean(likeness_errors(pictures, concept)))


def likeness_details(pictures: Pictures, concept: Concept | str) -> dict[str, float]:
    """The mean distance from a concept by attribute."""
    wanted = CONCEPTS[concept] if isinstance(concept, str) else concept
    rows = [attribute_errors(reading.look, wanted) for reading in read(pictures)]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def prompt_following(
    pictures: Pictures,
    *,
    background: str | None = None,
    place: str | None = None,
    size: str | None = None,
    shape: str | None = None,
) -> dict[str, float]:
    """The share of pictures that show what the prompt asked for, for each thing asked."""
    readings = read(pictures)
    asked = {"background": background, "place": place, "size": size}
    rates = {
        name: float(np.mean([getattr(reading, name) == value for reading in readings]))
        for name, value in asked.items()
        if value is not None
    }
    if shape is not None:
        rates["shape"] = float(np.mean([reading.look.shape == shape for reading in readings]))
    return rates
