"""What a run spends on finding out how far it is, beside what it spends on learning.

    python benchmarks/learning/cost.py [--concept sun-disk] [--seed 0]

One run with the default settings on the tiny model, to its own end; the processor time inside what
only measures, as a share of all: signal and noise of the gradient, where noise alone would carry
the vectors, how far the word has come, and the evaluations on the fixed batch with what is told of
them.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from methods import DEFAULTS, METHODS
from run import Job, lesson, settings_of, tiny_model

LIMIT = 8000
"""Pictures."""


def timed(spent: Counter[str], name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """The same, with its time counted under a name."""

    def counted(*args: Any, **options: Any) -> Any:
        start = time.thread_time_ns()
        try:
            return work(*args, **options)
        finally:
            spent[name] += time.thread_time_ns() - start

    return counted


def main() -> None:
    """Print the shares."""
    from textual_inversion.trainer.learning import loop
    from textual_inversion.trainer.learning.losses import StepLosses
    from textual_inversion.trainer.methods.noise_walk import NoiseWalk
    from textual_inversion.trainer.methods.settling import Settling
    from textual_inversion.trainer.methods.signal import GradientSignal
    from textual_inversion.trainer.settings import Settings

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--concept", default="sun-disk")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    spent: Counter[str] = Counter()
    for kind, method in (
        (GradientSignal, "update"), (NoiseWalk, "follow"), (Settling, "update"),
        (Settling, "estimate"), (StepLosses, "evaluate"),
    ):  # fmt: skip
        name = f"{kind.__name__}.{method}"
        setattr(kind, method, timed(spent, name, getattr(kind, method)))
    loop.diagnose = timed(spent, "diagnose", loop.diagnose)

    job = Job(DEFAULTS, options.concept, options.seed, LIMIT)
    settings = Settings(**settings_of(METHODS[DEFAULTS], job))
    model, pictures = tiny_model("cpu"), lesson(options.concept, options.seed, captions=True)
    start = time.thread_time_ns()
    *_, last = loop.train(model, pictures, settings)
    whole = time.thread_time_ns() - start
    for name, nanoseconds in spent.most_common():
        print(
            f"{name:24} {nanoseconds / 1e6 / last.step:7.3f} ms a step  {nanoseconds / whole:6.2%}"
        )
    print(f"{last.step} steps, {sum(spent.values()) / whole:.1%} of {whole / 1e9:.1f} s in all")


if __name__ == "__main__":
    main()
