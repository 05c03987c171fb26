"""How well the rest of the way is told where it is known: a vector on a sphere, and no model.

    python benchmarks/learning/sphere.py [--seeds 0 1 2] [--steps 125 400] [--rate 0.08]

A vector is learned with the default settings, an angle of 1 from the bottom of a bowl, under noise.
The bowl is as steep in all directions, as the limit of averages takes it to be, or only in 5 of 96,
as the loss of a network is; the noise is as strong in all of them, or lies where the bowl is steep,
as that of single pictures does. Prints what is left of the way to where the same leads without
noise, what the run takes that for, what it would take it for if averages took off all noise, and in
how many runs that is right within a factor of 1.5; beside the limit of averages.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from dataclasses import replace
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
from support.sphere import Bowl, angle, learn, start

LONG = 500
"""Steps without noise that lead to where learning goes."""

BOWLS = {
    "steep in all directions": Bowl(1.0),
    "steep in 5": Bowl(1.0, steep=5),
    "steep in 5, where the noise is": Bowl(1.0, steep=5, own_noise=True),
}


def main() -> None:
    """Print the table."""
    from textual_inversion.trainer.methods.settling import SURE

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--noises", nargs="+", type=float, default=[1.0, 0.3, 0.1])
    parser.add_argument("--steps", nargs="+", type=int, default=[125, 400])
    parser.add_argument("--rate", default="0.08")
    options = parser.parse_args()
    print("| bowl | s/n | steps | left | told | if averages took all off | right | limit |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for title, bowl in BOWLS.items():
        quiet = replace(bowl, over_noise=math.inf, own_noise=False)
        goals = {}
        for seed in options.seeds:
            *_, (goals[seed], _) = learn(quiet, LONG, seed)
        for noise in options.noises:
            found: dict[int, list[tuple[float, float, float]]] = {n: [] for n in options.steps}
            for seed, goal in goals.items():
                noisy = replace(bowl, over_noise=noise)
                run = learn(noisy, max(options.steps), seed, learning_rate=options.rate)
                for step, (word, estimate) in enumerate(run, 1):
                    if step in found:
                        left = angle(word, goal) / angle(start(bowl), goal)
                        found[step].append((left, estimate.left, estimate.ahead))
            for step, runs in found.items():
                means = (f"{statistics.mean(column):.2f}" for column in zip(*runs, strict=True))
                right = sum(max(a / b, b / a) < SURE for a, b, _ in runs)
                limit = min(1.0, 1 / (noise * math.sqrt(step)))
                cells = [title, str(noise), str(step), *means, f"{right} of {len(runs)}"]
                print(f"| {' | '.join(cells)} | {limit:.2f} |", flush=True)


if __name__ == "__main__":
    main()
