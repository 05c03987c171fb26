"""Train the estimator, and measure its own error."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from .concepts import CONCEPTS, concept_scenes, look_error
from .estimator import Estimator, as_batch, estimator_loss, read
from .muon import Muon
from .train_autoencoder import Average, learning_rate
from .world import Scene, colour_name, draw


def train_estimator(
    pictures: torch.Tensor,
    scenes: Sequence[Scene],
    steps: int,
    *,
    rendered: torch.Tensor | None = None,
    start: Estimator | None = None,
    batch: int = 48,
    peak: float = 2e-2,
    seed: int = 0,
    report: Callable[[int, float], None] | None = None,
) -> Estimator:
    """Train on pictures of 8-bit values (N, H, W, 3) of known scenes.

    `rendered` holds the first so many of them once more as the autoencoder gives them
    back; half of every batch is then taken from there, so that its blur is no surprise.
    """
    torch.manual_seed(seed)
    network = start or Estimator()
    network.train().requires_grad_(True)
    average = Average(network)
    optimizer = Muon(network.parameters(), lr=peak)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        chosen = torch.randint(len(pictures), (batch,))
        shown = pictures[chosen]
        if rendered is not None:
            half = batch // 2
            chosen[:half] %= len(rendered)
            shown[:half] = rendered[chosen[:half]]
        seen = as_batch(shown.float() / 255.0)
        # A breath of noise, so that nothing hangs on the last bits of clean drawings.
        seen = seen + 0.02 * torch.rand(len(seen), 1, 1, 1) * torch.randn_like(seen)
        loss = estimator_loss(network(seen), [scenes[i] for i in chosen.tolist()])
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        average.update(network)
        if report is not None:
            report(step, loss.item())
    return average.module


def _gap(a: float, b: float, period: float) -> float:
    gap = abs(a - b) % period
    return min(gap, period - gap)


def measure_estimator(
    network: Estimator, scenes: Sequence[Scene], pictures: torch.Tensor | None = None
) -> dict[str, float]:
    """Share of kinds read rightly and median errors of the numbers, on known scenes.

    `pictures` (N, H, W, 3 in 0..1) are read in place of the drawings, where given.
    """
    shown = [draw(scene) for scene in scenes] if pictures is None else pictures
    pairs = list(zip(read(shown, network), scenes, strict=True))
    errors: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        errors.setdefault(name, []).append(value)

    for said, scene in pairs:
        look, true = said.look, scene.look
        note("shape", look.shape == true.shape)
        note("colour", colour_name(look.hue) == colour_name(true.hue))
        note("texture", look.texture == true.texture)
        note("background", said.background == scene.background)
        note("place", said.place == scene.place)
        note("size", said.size == scene.size)
        note("hue (degrees)", _gap(look.hue, true.hue, 360.0))
        note("shade", abs(look.shade - true.shade))
        note("softness (log)", abs(float(np.log(look.softness / true.softness))))
        if look.texture == true.texture != "plain":
            note("second hue (degrees)", _gap(look.second_hue, true.second_hue, 360.0))
            note("period (pixels)", abs(look.period - true.period))
            if true.texture == "striped":
                note("angle (degrees)", _gap(look.angle, true.angle, 180.0))
        if look.shape == true.shape:
            note("proportion", abs(look.proportion - true.proportion))
            if true.points:
                note("points", look.points == true.points)
            if true.tilt:
                note("tilt (degrees)", abs(look.tilt - true.tilt))
    shares = ("shape", "colour", "texture", "background", "place", "size", "points")
    return {
        name: float(np.mean(values) if name in shares else np.median(values))
        for name, values in errors.items()
    }


def likeness_floor(
    network: Estimator, render: Callable[[torch.Tensor], torch.Tensor] | None = None
) -> dict[str, float]:
    """The likeness error that true pictures of each concept are read with.

    `render` may pass the pictures (N, H, W, 3 in 0..1) through the autoencoder first.
    """
    floor = {}
    for name, concept in CONCEPTS.items():
        drawn = torch.from_numpy(np.stack([draw(s) for s in concept_scenes(name, 40, seed=9)]))
        shown = drawn if render is None else render(drawn)
        readings = read(shown, network)
        floor[name] = float(np.mean([look_error(r.look, concept) for r in readings]))
    return floor
