"""How far a word comes where gradients are noisy, as those of large models seem to be.

    python benchmarks/learning/noisy.py [--output noisy.jsonl] [--ways anytime cosine]
        [--concepts NAME ...] [--seeds 0] [--noises 1.0 0.3 0.1] [--steps 125 400 1000 2000]
        [--batch 4]

Noise is added to the gradient of the tiny model's vectors, so that a step at the start of a run has
a given signal over noise (0 adds none). Each line of the output is one run, with captions: the
share of the way that it has come, after each number of steps, to the word of a long run without
that noise and with the same settings; the same along that way alone, without what strays from it at
a right angle; what it thought was left; and where each `patience` would have ended it. A run
without a length is made once, a cosine once for each number of steps. Where most of the noise is
added, steps of one picture show the same in less than half of the time (`--batch 1`). Runs that are
in the file are not made again, and a step that has more noise by itself is left out. Prints a
table, in which the limit is what averaging N noisy gradients can tell at best:
1 − 1 / (s/n · √N).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from methods import COSINE, LEARNED, Method
from run import Job, lesson, settings_of, tiny_model
from torch import Tensor

sys.path.append(str(Path(__file__).resolve().parents[1]))
from over_noise import at_the_start as in_radians
from results import markdown, read_rows

RESULTS = Path(__file__).with_name("noisy.jsonl")
WAYS: Mapping[str, Mapping[str, Any]] = {"anytime": {}, "cosine": COSINE}
LONG = 500
"""Steps of the run without noise."""

USUAL = 4
"""Pictures in a step."""

BATCHES = 32
"""Batches from which signal and noise at the start are measured."""


@dataclass(frozen=True)
class Lesson:
    """What is learned: the concept, the seed of all that is random, and pictures in a step."""

    concept: str
    seed: int
    batch: int


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


def settings_for(given: Lesson, steps: int, changes: Mapping[str, Any]) -> Any:
    """The settings of a run that does not end by itself."""
    from textual_inversion.trainer.settings import Settings

    values = settings_of(Method(), Job("", given.concept, given.seed, 0))
    own = {"steps": steps, "batch_size": given.batch, "evaluations": 0, "patience": "none"}
    return Settings(**{**values, **changes, **own})


def steps_of(way: str, given: Lesson, steps: int, noise: float) -> Iterator[Any]:
    """Train; noise is the norm of what is added to each gradient."""
    from textual_inversion.trainer.learning.loop import train

    model: Any = NoisyGradients(tiny_model("cpu"), noise, given.seed)
    pictures = lesson(given.concept, given.seed, captions=True)
    return train(model, pictures, settings_for(given, steps, WAYS[way]))


@cache
def at_the_start(given: Lesson) -> tuple[float, float]:
    """Signal and noise of the first step's gradient: the part that turns the vector."""
    from textual_inversion.trainer.learning.objectives import Word

    model, settings = tiny_model("cpu"), settings_for(given, 1, {})
    pictures = lesson(given.concept, given.seed, captions=True)
    signal, noise = in_radians(model, pictures, settings, BATCHES)
    (only,) = Word().initial(model, settings, None).values()
    return signal / float(only.norm()), noise / float(only.norm())


def angle(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Between two words of one vector, in radians."""
    (first,), (second,) = one.values(), other.values()
    return float(torch.nn.functional.cosine_similarity(first, second).clamp(-1, 1).acos())


def along(start: Mapping[str, Tensor], word: Mapping[str, Tensor], goal: Any) -> float:
    """The share of the way on the circle through start and goal: 1 abreast of the goal."""
    (one,), (here,), (end,) = start.values(), word.values(), goal.values()
    first = torch.nn.functional.normalize(one)
    across = torch.nn.functional.normalize(end - (end * first).sum() * first)
    return math.atan2(float((here * across).sum()), float((here * first).sum())) / angle(
        start, goal
    )


@cache
def long_run(way: str, given: Lesson, steps: int) -> tuple[Any, Any]:
    """Where a run begins, and the word to which it comes without noise."""
    from textual_inversion.trainer.learning.objectives import Word

    # By the usual batches: what is asked is where it goes, not how.
    usual = replace(given, batch=USUAL)
    *_, progress = steps_of(way, usual, steps, 0.0)
    start = Word().initial(tiny_model("cpu"), settings_for(given, 1, {}), None)
    return start, progress.last.vectors


def measured(
    way: str, given: Lesson, over_noise: float, marks: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """The lines of a way at one noise: one, or one for each number of steps."""
    from textual_inversion.trainer.methods.settling import PATIENCE

    signal, own = at_the_start(given)
    wanted = signal / over_noise if over_noise else 0.0
    if over_noise and wanted < own:
        print(f"{given}: {signal / own:.2f} is the signal over noise of its own", file=sys.stderr)
        return
    noise = math.sqrt(max(0.0, wanted**2 - own**2))
    start, goal = long_run(way, given, LONG)
    whole = angle(start, goal)
    for lengths in [[m] for m in marks] if way == "cosine" else [list(marks)]:
        row: dict[str, Any] = {
            "way": way, **asdict(given), "noise": over_noise, "signal": signal, "own_noise": own,
            "share": {}, "along": {}, "left": {}, "ahead": {}, "astray": {}, "over_noise": {},
            "ends": {},
        }  # fmt: skip
        for progress in steps_of(way, given, max(lengths), noise):
            for patience, worth in PATIENCE.items():
                if worth and progress.estimate.is_enough(progress.step, patience):
                    row["ends"].setdefault(patience, progress.step)
            step, word, estimate = progress.step, progress.last.vectors, progress.estimate
            if step in lengths:
                row["share"][step] = 1 - angle(word, goal) / whole
                row["along"][step] = along(start, word, goal)
                row["left"][step] = estimate.left
                row["ahead"][step], row["astray"][step] = estimate.ahead, estimate.astray
                row["over_noise"][step] = estimate.over_noise
        yield row


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Shares of the way by noise, pictures in a step and steps, beside the limit.

    Right is an estimate that is off by less than a factor of `SURE` in what is left.
    """
    from textual_inversion.trainer.methods.settling import SURE

    groups: dict[tuple[float, int, int, str], list[tuple[Mapping[str, Any], str]]] = defaultdict(
        list
    )
    for row in rows:
        for steps in row["share"]:
            key = row["noise"], row.get("batch", USUAL), int(steps), row["way"]
            groups[key].append((row, steps))
    heads = ["s/n", "pictures", "steps", "way", "runs", "share", "along", "told", "right", "limit"]
    lines = []
    for (noise, batch, steps, way), found in sorted(
        groups.items(), key=lambda it: (-it[0][0], it[0])
    ):
        shares = [row["share"][n] for row, n in found]
        along = [row["along"][n] for row, n in found if "along" in row]
        # A cosine's rate falls to zero, which the estimate does not know.
        told = [
            (row["left"][n], 1 - row["share"][n])
            for row, n in found
            if way == "anytime" and n in row["left"]
        ]
        right = sum(max(a / b, b / a) < SURE for a, b in told)
        limit = f"{max(0, 1 - 1 / (noise * steps**0.5)):.2f}" if noise else ""
        cells = [str(noise or "own"), str(batch), str(steps), way, str(len(found))]
        cells += [_mean(shares), _mean(along), _mean([1 - left for left, _ in told])]
        cells += [f"{right} of {len(told)}" if told else "", limit]
        lines.append(cells)
    return markdown(heads, lines)


def _mean(numbers: Sequence[float]) -> str:
    return f"{statistics.mean(numbers):.2f}" if numbers else ""


def main() -> None:
    """Make the runs that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--concepts", nargs="+", choices=LEARNED, default=LEARNED)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--noises", nargs="+", type=float, default=[1.0, 0.3, 0.1])
    parser.add_argument("--steps", nargs="+", type=int, default=[125, 400, 1000, 2000])
    parser.add_argument("--batch", type=int, default=USUAL, help="pictures in a step")
    options = parser.parse_args()
    rows = read_rows(options.output)
    done = {
        (r["way"], Lesson(r["concept"], r["seed"], r.get("batch", USUAL)), r["noise"]) for r in rows
    }
    chosen = itertools.product(options.seeds, options.concepts, options.noises, options.ways)
    for seed, concept, noise, way in chosen:
        given = Lesson(concept, seed, options.batch)
        if (way, given, noise) in done:
            continue
        with options.output.open("a") as file:
            for row in measured(way, given, noise, options.steps):
                rows.append(json.loads(json.dumps(row)))
                file.write(json.dumps(row) + "\n")
                file.flush()
                print(json.dumps(row), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
