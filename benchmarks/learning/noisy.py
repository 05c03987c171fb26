"""How far a word comes where gradients are noisy, as those of large models seem to be.

    python benchmarks/learning/noisy.py [--output noisy.jsonl] [--ways anytime cosine]
        [--concepts NAME ...] [--seeds 0] [--noises 1.0 0.3 0.1] [--steps 125 400 1000]

Noise is added to the gradient of the tiny model's vectors, so that a step at the start of a run has
a given signal over noise (0 adds none). Each line of the output is one run, with captions: the
share of the way that it has come, after each number of steps, to the word of a long run without
that noise and with the same settings; what it thought was left; and where each `patience` would
have ended it. A run without a length is made once, a cosine once for each number of steps. Runs
that are in the file are not made again. Prints a table, in which the limit is what averaging N
noisy gradients can tell at best: 1 − 1 / (s/n · √N).
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from methods import COSINE, Method
from run import Job, lesson, settings_of, tiny_model
from torch import Tensor

sys.path.append(str(Path(__file__).resolve().parents[1]))
from results import read_rows

RESULTS = Path(__file__).with_name("noisy.jsonl")
WAYS: Mapping[str, Mapping[str, Any]] = {"anytime": {}, "cosine": COSINE}
LONG = 500
"""Steps of the run without noise."""

BATCHES = 32
"""Batches of 4 pictures from which signal and noise at the start are measured."""


class NoisyGradients:
    """A model that is the same but for noise in the gradient of the vectors.

    Args:
        model: any `FrozenModel`.
        size: norm of the noise of a step, whose prompts are encoded at once.
        seed: of the noise.
    """

    def __init__(self, model: Any, size: float, seed: int) -> None:
        self._model, self._size = model, size
        self._chance = torch.Generator().manual_seed(seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def encode_prompts(self, prompts: Any, vectors: Mapping[str, Tensor]) -> Any:
        """See `FrozenModel.encode_prompts`."""
        return self._model.encode_prompts(prompts, {k: self._noisy(v) for k, v in vectors.items()})

    def _noisy(self, rows: Tensor) -> Tensor:
        if rows.requires_grad and self._size:
            rows = rows.clone()
            rows.register_hook(self._add)
        return rows

    def _add(self, gradient: Tensor) -> Tensor:
        noise = torch.randn(gradient.shape, generator=self._chance)
        # Where every prompt has rows of its own, their noise adds up to that of the step.
        parts = len(gradient) if gradient.ndim == 3 else 1
        return gradient + self._size / math.sqrt(parts) * noise / noise.norm(dim=-1, keepdim=True)


def steps_of(way: str, concept: str, seed: int, steps: int, noise: float) -> Iterator[Any]:
    """Train; noise is the norm of what is added to each gradient."""
    from textual_inversion.trainer.learning.loop import train
    from textual_inversion.trainer.settings import Settings

    values = settings_of(Method(), Job("", concept, seed, 4 * steps))
    settings = Settings(**{**values, **WAYS[way], "evaluations": 0, "patience": "none"})
    model: Any = NoisyGradients(tiny_model("cpu"), noise, seed)
    return train(model, lesson(concept, seed, captions=True), settings)


@cache
def at_the_start(concept: str, seed: int) -> tuple[float, float]:
    """Signal and noise of the first step's gradient: the part that turns the vector."""
    from textual_inversion.trainer.learning.distributed import ALONE
    from textual_inversion.trainer.learning.losses import StepLosses
    from textual_inversion.trainer.learning.objectives import Word
    from textual_inversion.trainer.methods.signal import turning
    from textual_inversion.trainer.settings import Settings

    model, pictures = tiny_model("cpu"), lesson(concept, seed, captions=True)
    settings = Settings(**settings_of(Method(), Job("", concept, seed, 4)))
    losses = StepLosses(model, pictures, settings, Word(), ALONE)
    found = []
    for step in range(BATCHES):
        rows = {k: r.requires_grad_() for k, r in Word().initial(model, settings, None).items()}
        for loss in losses.losses(100_000 + step, rows, rows):
            loss.backward()
        (only,) = rows.values()
        found.append(turning(only.grad, only.detach()))
    gradients = torch.stack(found)
    mean, square = gradients.mean(0).square().sum(), gradients.square().sum((1, 2)).mean()
    signal = (mean * BATCHES - square) / (BATCHES - 1)
    return float(signal.clamp_min(0).sqrt()), float((square - signal).sqrt())


def angle(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Between two words of one vector, in radians."""
    (first,), (second,) = one.values(), other.values()
    return float(torch.nn.functional.cosine_similarity(first, second).clamp(-1, 1).acos())


@cache
def long_run(way: str, concept: str, seed: int, steps: int) -> tuple[Any, float]:
    """The word of a run without noise, and how far it is from the start."""
    from textual_inversion.trainer.learning.objectives import Word
    from textual_inversion.trainer.settings import Settings

    *_, progress = steps_of(way, concept, seed, steps, 0.0)
    settings = Settings(**settings_of(Method(), Job("", concept, seed, 4)))
    start = Word().initial(tiny_model("cpu"), settings, None)
    return progress.last.vectors, angle(start, progress.last.vectors)


def measured(
    way: str, concept: str, seed: int, over_noise: float, marks: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """The lines of a way at one noise: one, or one for each number of steps."""
    from textual_inversion.trainer.methods.settling import PATIENCE

    signal, own = at_the_start(concept, seed)
    wanted = signal / over_noise if over_noise else 0.0
    noise = math.sqrt(max(0.0, wanted**2 - own**2))
    goal, whole = long_run(way, concept, seed, LONG)
    for lengths in [[m] for m in marks] if way == "cosine" else [list(marks)]:
        row: dict[str, Any] = {
            "way": way, "concept": concept, "seed": seed, "noise": over_noise,
            "signal": signal, "own_noise": own, "share": {}, "left": {}, "ends": {},
        }  # fmt: skip
        for progress in steps_of(way, concept, seed, max(lengths), noise):
            for patience, worth in PATIENCE.items():
                if worth and progress.estimate.is_enough(progress.step, patience):
                    row["ends"].setdefault(patience, progress.step)
            if progress.step in lengths:
                row["share"][progress.step] = 1 - angle(progress.last.vectors, goal) / whole
                row["left"][progress.step] = progress.estimate.left
        yield row


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Shares of the way by noise and steps, beside the limit."""
    groups: dict[tuple[str, float, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        for steps in row["share"]:
            groups[row["way"], row["noise"], steps].append(row)
    lines = ["| s/n | steps | way | runs | share of the way | estimated | limit |",
             "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for way, noise, steps in sorted(groups, key=lambda key: (-key[1], int(key[2]), key[0])):
        found = groups[way, noise, steps]
        share = statistics.mean(row["share"][steps] for row in found)
        guess = 1 - statistics.mean(row["left"][steps] for row in found)
        limit = f"{max(0, 1 - 1 / (noise * int(steps) ** 0.5)):.2f}" if noise else ""
        told = f"{guess:.2f}" if way == "anytime" else ""
        cells = [str(noise or "own"), steps, way, str(len(found)), f"{share:.2f}", told, limit]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Make the runs that are not there yet."""
    from textual_inversion.demo.concepts import CONCEPTS

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--concepts", nargs="+", choices=CONCEPTS, default=list(CONCEPTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--noises", nargs="+", type=float, default=[1.0, 0.3, 0.1])
    parser.add_argument("--steps", nargs="+", type=int, default=[125, 400, 1000])
    options = parser.parse_args()
    rows = read_rows(options.output)
    done = {(r["way"], r["concept"], r["seed"], r["noise"]) for r in rows}
    for seed in options.seeds:
        for concept in options.concepts:
            for noise in options.noises:
                for way in options.ways:
                    if (way, concept, seed, noise) in done:
                        continue
                    with options.output.open("a") as file:
                        for row in measured(way, concept, seed, noise, options.steps):
                            rows.append(json.loads(json.dumps(row)))
                            file.write(json.dumps(row) + "\n")
                            file.flush()
                            print(json.dumps(row))
    print(table(rows))


if __name__ == "__main__":
    main()
