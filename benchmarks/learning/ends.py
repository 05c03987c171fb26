"""Whether runs end where it is best: beside an oracle that knows the best step afterwards.

    python benchmarks/learning/ends.py [--output ends.jsonl] [--methods NAME ...]
        [--concepts NAME ...] [--seeds 1] [--steps 40 60 90 130 200 300]

Each line of the output is one run with the default settings that does not end by itself: the
likeness error of its word after some numbers of steps, and where each `patience` would have ended
it, with the error there. The word and its steps are those of a run that does end. The oracle takes
the step with the least error. Ten pictures measure it roughly, so that the least of several is also
the luckiest: `told` is the error on ten other pictures, by which both are compared again. Runs that
are in the file are not made again. Prints a table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from methods import DEFAULTS, ENDING, LEARNED, METHODS
from run import Job, draw, lesson, settings_of, tiny_model

sys.path.append(str(Path(__file__).resolve().parents[1]))
from results import markdown, read_rows

RESULTS = Path(__file__).with_name("ends.jsonl")
PICTURES = 10
"""For each of the two errors of a word."""


def errors_of(concept: str, vectors: Mapping[str, torch.Tensor]) -> tuple[float, float]:
    """The likeness error of a word, by which the best step is chosen, and on other pictures."""
    from textual_inversion.demo.measure import contexts, measure
    from textual_inversion.trainer.prompts import PLACEHOLDER

    asked = contexts(concept, PLACEHOLDER, 2 * PICTURES)
    pictures = draw("cpu", [one.prompt for one in asked], dict(vectors))
    chosen, told = (
        measure(pictures[part], concept, asked[part]).likeness_error
        for part in (slice(PICTURES), slice(PICTURES, None))
    )
    return chosen, told


def followed(method: str, concept: str, seed: int, marks: Sequence[int]) -> dict[str, Any]:
    """Make one run and look at its word now and then: a line of the output."""
    from textual_inversion.trainer.learning.loop import train
    from textual_inversion.trainer.methods.settling import PATIENCE
    from textual_inversion.trainer.settings import Settings

    values = settings_of(METHODS[method], Job(method, concept, seed, 4 * max(marks)))
    settings = Settings(**{**values, "evaluations": 0, "patience": "none"})
    row: dict[str, Any] = {"method": method, "concept": concept, "seed": seed}
    row |= {"ends": {}, "errors": {}, "told": {}, "over_noise": {}, "left": {}}
    pictures = lesson(concept, seed, METHODS[method].captions)
    for progress in train(tiny_model("cpu"), pictures, settings):
        step, estimate = progress.step, progress.estimate
        ends = [
            patience
            for patience, worth in PATIENCE.items()
            if worth and patience not in row["ends"] and estimate.is_enough(step, patience)
        ]
        row["ends"] |= dict.fromkeys(ends, step)
        if ends or step in marks:
            row["errors"][step], row["told"][step] = errors_of(concept, progress.last.vectors)
        if step % 10 == 0:
            row["over_noise"][step], row["left"][step] = estimate.over_noise, estimate.left
    return row


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """For each patience: steps and error beside those of the best step that was looked at."""
    heads = ["captions", "patience", "runs", "steps", "best", "ratio"]
    heads += ["error", "best", "difference", "other pictures", "best", "difference"]
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        for patience in ("fast", "balanced", "thorough"):
            found = []
            for row in (row for row in rows if row["method"] == method):
                errors, told = (
                    {int(step): error for step, error in row[kind].items()}
                    for kind in ("errors", "told")
                )
                end = row["ends"].get(patience, max(errors))
                best = min(errors, key=lambda step: errors[step])
                found.append((end, best, errors[end], errors[best], told[end], told[best]))
            steps, bests, *errors_at = zip(*found, strict=True)
            ratios = [end / best for end, best in zip(steps, bests, strict=True)]
            error, least, other, others_least = map(statistics.mean, errors_at)
            lines.append([
                "no" if method.endswith("no captions") else "yes", patience, str(len(found)),
                f"{statistics.mean(steps):.0f} ({min(steps)} to {max(steps)})",
                f"{statistics.mean(bests):.0f} ({min(bests)} to {max(bests)})",
                f"{statistics.median(ratios):.2f}",
                f"{error:.3f}", f"{least:.3f}", f"{error - least:+.3f}",
                f"{other:.3f}", f"{others_least:.3f}", f"{other - others_least:+.3f}",
            ])  # fmt: skip
    return markdown(heads, lines)


def main() -> None:
    """Make the runs that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--methods", nargs="+", choices=ENDING, default=[DEFAULTS])
    parser.add_argument("--concepts", nargs="+", choices=LEARNED, default=LEARNED)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--steps", nargs="+", type=int, default=[40, 60, 90, 130, 200, 300])
    options = parser.parse_args()
    rows = read_rows(options.output)
    done = {(r["method"], r["concept"], r["seed"]) for r in rows}
    for method in options.methods:
        for seed in options.seeds:
            for concept in options.concepts:
                if (method, concept, seed) not in done:
                    rows.append(followed(method, concept, seed, options.steps))
                    with options.output.open("a") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
                    print(json.dumps(rows[-1]), flush=True)
    print(table([json.loads(json.dumps(row)) for row in rows]))


if __name__ == "__main__":
    main()
