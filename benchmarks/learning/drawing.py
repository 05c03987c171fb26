"""With which guidance the tiny model shows best what a word has learned.

    python benchmarks/learning/drawing.py [--output drawing.jsonl] [--concepts NAME ...]
        [--seeds 0] [--guidance 1.5 2 3 4 7] [--rescale 0 0.7 1]

Each concept is learned once with captions and the default settings; then the same prompts are drawn
with each guidance and each rescaling of it (`trainer/methods/guidance.py`). Each line of the output
is a word, a guidance and a rescaling, with the likeness error and the prompt-following. What is in
the file is not drawn again. Prints a table.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import torch
from methods import LEARNED
from run import Job, learn, tiny_model

sys.path.append(str(Path(__file__).resolve().parents[1]))
from results import markdown, read_rows

RESULTS = Path(__file__).with_name("drawing.jsonl")
PICTURES = 8
LIMIT = 2800
"""Samples after which a run ends at the latest."""


@cache
def word(concept: str, seed: int) -> Mapping[str, torch.Tensor]:
    """The vectors of a run with the default settings."""
    from methods import DEFAULTS

    return learn(Job(DEFAULTS, concept, seed, LIMIT), "cpu")[0]


def drawn(concept: str, seed: int, guidance: float, rescale: float) -> dict[str, Any]:
    """Draw with a word and measure: a line of the output."""
    from textual_inversion.demo.measure import contexts, measure
    from textual_inversion.demo.model import LATENT_CHANNELS, LATENT_SIZE
    from textual_inversion.demo.sampling import STEPS
    from textual_inversion.trainer.methods.sampler import sample_batch
    from textual_inversion.trainer.prompts import PLACEHOLDER

    asked = contexts(concept, PLACEHOLDER, PICTURES)
    pictures = sample_batch(
        tiny_model("cpu"), [one.prompt for one in asked], word(concept, seed),
        latent_shape=(LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE), seeds=range(PICTURES),
        steps=STEPS, guidance=guidance, rescale=rescale,
    )  # fmt: skip
    row = {"concept": concept, "seed": seed, "guidance": guidance, "rescale": rescale}
    return row | asdict(measure(pictures, concept, asked))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each guidance and rescaling: every concept's error, their mean, the prompts."""
    groups: dict[tuple[float, float], dict[str, list[Mapping[str, Any]]]] = defaultdict(dict)
    for row in rows:
        groups[row["guidance"], row["rescale"]].setdefault(row["concept"], []).append(row)
    concepts = list(dict.fromkeys(row["concept"] for row in rows))
    lines = []
    for (guidance, rescale), found in sorted(groups.items()):
        errors = {
            name: statistics.mean(row["likeness_error"] for row in rows)
            for name, rows in found.items()
        }
        every = list(itertools.chain.from_iterable(found.values()))
        shape = statistics.mean(row["shape"] for row in every)
        following = statistics.mean((row["background"] + row["place"]) / 2 for row in every)
        cells = [f"{guidance:g}", f"{rescale:g}"]
        cells += [f"{errors[name]:.3f}" if name in errors else "" for name in concepts]
        cells += [f"{statistics.mean(errors.values()):.3f}", f"{shape:.1%}", f"{following:.1%}"]
        lines.append(cells)
    heads = ["guidance", "rescaled", *concepts, "mean", "shape", "prompts followed"]
    return markdown(heads, lines)


def main() -> None:
    """Draw what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--concepts", nargs="+", choices=LEARNED, default=LEARNED)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--guidance", nargs="+", type=float, default=[1.5, 2.0, 3.0, 4.0, 7.0])
    parser.add_argument("--rescale", nargs="+", type=float, default=[0.0, 0.7, 1.0])
    options = parser.parse_args()
    rows = read_rows(options.output)
    done = {(r["concept"], r["seed"], r["guidance"], r["rescale"]) for r in rows}
    for one in itertools.product(
        options.concepts, options.seeds, options.guidance, options.rescale
    ):
        if one not in done:
            rows.append(drawn(*one))
            with options.output.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            print(json.dumps(rows[-1]), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
