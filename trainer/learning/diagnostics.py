"""What an evaluation tells of a word, and when its likeness is bought too dearly."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..embeddings.embedding import Embedding, Rows
from ..embeddings.inspection import EncoderReport, inspect
from ..model import TextEncoder
from ..settings import Settings
from .losses import Evaluation

BANDS = ("little noise", "some noise", "much noise")
"""Equal parts of the schedule, from its clean end."""

LONG = 5.0
"""Lengths of a usual word. Published words trained without limit have 7 to 10, and are known to
drown out the rest of a prompt (arXiv 2512.13672)."""

RISE = 0.25
"""Share of what was gained on the fixed batch that may be lost again."""

NOISE = 0.005
"""Share of the loss on the fixed batch by which it moves without meaning."""

SETTLED = 0.02
"""Share of the gain that is left to win once nothing more is learned."""

ENOUGH = 5
"""Evaluations from which a trend can be told."""


FIRST_EVALUATION, EVENLY = 5, 500
"""A run without a length makes its first evaluation after the one number of steps, and as many as
are asked for until the other. With 20 of them they cost less than a tenth of a run that ends soon.
"""


def is_evaluated(step: int, settings: Settings) -> bool:
    """Whether the word is tried on the fixed batch after a step, counted from 1.

    Evenly, with the last step; in a run without a length evenly at first, then at steps that are
    each farther from the one before, by the same factor.
    """
    count = settings.evaluations
    if not count:
        return False
    if step == settings.steps:
        return True
    if not settings.anytime:
        return step % max(1, settings.steps // count) == 0
    return step == FIRST_EVALUATION or _made(step, count) > _made(step - 1, count)


def _made(step: int, count: int) -> int:
    """How many evaluations a run without a length has made by a step, beside the first."""
    if step <= EVENLY:
        return count * step // EVENLY
    return count + math.floor(count * math.log(step / EVENLY))


@dataclass(frozen=True)
class Diagnostics:
    """A word in the middle of its training.

    Attributes:
        step: steps done.
        evaluation: loss on the fixed batch.
        smoothed_loss: running average of the training loss.
        bands: one of `BANDS` -> loss of the samples of the fixed batch with that much noise.
        encoders: lengths and nearest words of the vectors for each text encoder.
        likeness: encoder key -> mean cosine of the vectors with those that learning started
            from: 1 at the start, about 0 when nothing of them is left.
        ranked: the share of pairs that were held out that are ranked right, where pictures are
            compared.
    """

    step: int
    evaluation: float
    smoothed_loss: float
    bands: Mapping[str, float]
    encoders: Sequence[EncoderReport]
    likeness: Mapping[str, float]
    ranked: float | None = None

    @property
    def length(self) -> float:
        """Mean length of the vectors in those of usual words, of the encoder where it is most."""
        return max(
            sum(row.length for row in encoder.rows) / len(encoder.rows) / encoder.usual.mean
            for encoder in self.encoders
            if encoder.usual
        )

    @property
    def line(self) -> str:
        """The essence, on one line."""
        nearest = dict.fromkeys(
            row.nearest[0][0] for encoder in self.encoders for row in encoder.rows if row.nearest
        )
        ranked = "" if self.ranked is None else f", {self.ranked:.0%} of the pairs ranked right"
        return (
            f"step {self.step}: {self.evaluation:.4f} on the fixed batch{ranked}, x "
            f"{self.length:.1f} as long as a usual word, {_mean(self.likeness):.2f} like the "
            f"start, near {', '.join(nearest)}"
        )

    def __str__(self) -> str:
        parts = ", ".join(f"{loss:.4f} with {band}" for band, loss in self.bands.items())
        lines = [
            f"After step {self.step} the loss on the fixed batch is {self.evaluation:.4f} "
            f"({parts})."
        ]
        if self.ranked is not None:
            lines.append(f"Of the pairs that were held out, {self.ranked:.0%} are ranked right.")
        for encoder in self.encoders:
            lines += [
                str(encoder),
                f"  {self.likeness[encoder.key]:.2f} like the start (cosine)",
            ]
        return "\n".join(lines)


@torch.no_grad()
def diagnose(
    step: int,
    evaluation: Evaluation,
    smoothed_loss: float,
    word: Embedding,
    start: Rows,
    encoders: Sequence[TextEncoder],
) -> Diagnostics:
    """Look at a word after an evaluation.

    Args:
        step: steps done.
        evaluation: what it found.
        smoothed_loss: running average of the training loss.
        word: as it is now.
        start: encoder key -> the vectors that learning started from, [vectors, width].
        encoders: of the model.
    """
    bands: dict[str, list[float]] = {}
    each = zip(evaluation.noise_levels, evaluation.losses, strict=True)
    for level, loss in sorted(each):
        bands.setdefault(BANDS[min(int(level * len(BANDS)), len(BANDS) - 1)], []).append(loss)
    return Diagnostics(
        step=step,
        evaluation=evaluation.mean,
        ranked=evaluation.ranked,
        smoothed_loss=smoothed_loss,
        bands={band: sum(values) / len(values) for band, values in bands.items()},
        encoders=inspect(word, encoders).encoders,
        likeness={
            key: float(F.cosine_similarity(rows, start[key][: len(rows)].float().cpu()).mean())
            for key, rows in word.vectors.items()
        },
    )


def remarks(run: Sequence[Diagnostics]) -> dict[str, str]:
    """Signs that likeness is bought with over-fitting.

    Args:
        run: the evaluations so far, from first to last.

    Returns:
        kind of the sign -> a sentence that says what is seen and what to do.
    """
    found: dict[str, str] = {}
    if not run:
        return found
    first, last = run[0], run[-1]
    best = min(run, key=lambda one: one.evaluation)
    gain = first.evaluation - best.evaluation
    if last.evaluation - best.evaluation > max(RISE * gain, NOISE * best.evaluation):
        falls = last.smoothed_loss < best.smoothed_loss
        found["worse"] = (
            f"Since step {best.step} the word has become worse on the fixed batch "
            f"({best.evaluation:.4f} then, {last.evaluation:.4f} now)"
            + (", while the training loss fell: it memorises" if falls else "")
            + ". Set keep to “best”, or use fewer steps or a lower learning_rate."
        )
    # A word that was long from the start was meant to be.
    if last.length > LONG and last.length > 1.5 * first.length:
        found["long"] = (
            f"The word is {last.length:.1f} times as long as a usual one, and may drown out the "
            "rest of a prompt. Turn on renorm, or use fewer steps or a lower learning_rate."
        )
    settled = next(one for one in run if one.evaluation <= best.evaluation + max(SETTLED * gain, 0))
    went_on = last.length > 1.25 * settled.length or (
        _mean(last.likeness) < _mean(settled.likeness) - 0.1
    )
    if len(run) >= ENOUGH and "worse" not in found and settled.step <= 0.6 * last.step and went_on:
        found["late"] = (
            f"Since step {settled.step} the fixed batch has hardly improved, but the word went on "
            f"changing (x {settled.length:.1f} as long as a usual one then, x {last.length:.1f} "
            f"now; {_mean(settled.likeness):.2f} and {_mean(last.likeness):.2f} like the start): "
            f"it follows prompts less and gains no likeness. About {settled.step} steps will do."
        )
    if last.ranked is not None and last.ranked <= 0.5:
        found["chance"] = (
            f"Of the pairs that were held out, {last.ranked:.0%} are ranked right, which is no "
            "better than chance: rate more pairs, and pictures whose difference you see at once."
        )
    return found


def _mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values)


WINDOW = 5
"""Evaluations that have to be flat. With 20 of them in a run, a quarter of it."""

FLAT = 0.01
"""Their variance, as a share of the variance of the whole curve."""


def has_settled(evaluations: Sequence[float]) -> bool:
    """Whether the loss on the fixed batch has stopped changing (DVAR, arXiv 2302.04841).

    The paper looks at 310 steps and asks for 0.15; a few evaluations are few, so that we ask for
    less. A curve that still falls in a straight line is never flat: a window of 5 in n points has a
    share of (5 / n)² of its variance, which is more until n is 50.

    Args:
        evaluations: the losses in the order of time.
    """
    if len(evaluations) < 2 * WINDOW:
        return False
    whole = statistics.pvariance(evaluations)
    return statistics.pvariance(evaluations[-WINDOW:]) <= FLAT * whole
