"""How far a run has come, and what more steps would bring."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..embeddings.embedding import Rows
from .averaging import polynomial_share

PATIENCE: Mapping[str, float] = {"fast": 0.12, "balanced": 0.07, "thorough": 0.03, "none": 0.0}
"""What as many steps again have to gain, as a share of the way, for a run to go on."""

FIRST = 40
"""Steps before which no run ends."""

FORESEEN = 20
"""Steps before which nothing is said of the end: so few gradients tell their noise badly."""

AGAIN = 1 - math.sqrt(0.5)
"""What as many steps again take off what is left: an error of averages falls like 1 / √steps."""

LAG = 7 / 3
"""What is left of the way, in lags of the slower mean behind the faster: for noise that is
independent from step to step, the root of 16/7 over 16/7 + 4/3 − 2 · 8/5."""

UNSURE = 2.0
"""Factor by which the number of steps that is foreseen at the start may be wrong."""


def share_left(over_noise: float | None, steps: int) -> float:
    """What is left of the way after averaging noisy gradients, 0..1.

    N steps tell the place where the gradient is zero up to x = 1 / (s/n · √N) of the distance, when
    s/n is what the gradient was at that distance over its noise. Where that is more than all of the
    way, the pull of the signal still wins in part: x / √(1 + x²).

    Args:
        over_noise: s/n of one step; None where no signal was found yet.
        steps: N.
    """
    if over_noise is None:
        return 1.0
    return 1 / math.sqrt(1 + over_noise * over_noise * steps)


def steps_until(left: float, over_noise: float) -> float:
    """After how many steps `share_left` is `left`."""
    return (1 / left**2 - 1) / over_noise**2


@dataclass(frozen=True)
class Estimate:
    """Where a word is on its way.

    Attributes:
        over_noise: the signal in the gradient of a step when it was strongest, over its noise now;
            None where no signal was found yet.
        turned: angle between the word and where it began, in radians, mean of its vectors.
        left: what is left of the way, as a share of all of it, 0..1.
    """

    over_noise: float | None
    turned: float
    left: float

    @property
    def share(self) -> float:
        """The share of the way that the word has come, 0..1."""
        return 1 - self.left

    @property
    def gain(self) -> float:
        """What as many steps again would bring, as a share of the way."""
        return AGAIN * self.left

    def is_enough(self, step: int, patience: str) -> bool:
        """Whether more is not worth it after so many steps, see `PATIENCE`."""
        worth = PATIENCE[patience]
        return step >= FIRST and worth > 0 and self.gain <= worth

    def end(self, step: int, limit: int, patience: str) -> tuple[int, int]:
        """Between which steps the run will end, as far as can be told after `step` of them.

        From `step` itself to the limit where nothing can be told yet.
        """
        if not PATIENCE[patience] or limit <= FIRST:
            return limit, limit
        if self.over_noise is None or step < FORESEEN:
            return step, limit
        wanted = max(FIRST, steps_until(PATIENCE[patience] / AGAIN, self.over_noise))
        unsure = UNSURE ** max(0.0, 1 - step / wanted)
        first, last = (min(limit, max(step, round(n))) for n in (wanted / unsure, wanted * unsure))
        return first, last

    def __str__(self) -> str:
        return next(words for most, words in _SHARES.items() if self.share <= most)

    @property
    def numbers(self) -> str:
        """What the estimate rests on, for the report."""
        signal = "not known yet" if self.over_noise is None else f"{self.over_noise:.2g}"
        return (
            f"turned by {math.degrees(self.turned):.0f}° since the start, signal over noise of a "
            f"step {signal}; twice as many steps would bring it nearer by about {self.gain:.0%} of "
            "the way"
        )


class Settling:
    """Follows the averaged word from step to step.

    Noise alone cannot tell that a word still travels. Then the mean over the last half of the steps
    is ahead of one that reaches back farther, and how far says what is left.

    Args:
        start: encoder key -> [vectors, width]: where the vectors that learn began.
    """

    def __init__(self, start: Rows) -> None:
        self._start = {key: _directions(rows) for key, rows in start.items()}
        self._slow: dict[str, Tensor] = {}
        self._count = 0
        self._turned = self._lag = 0.0

    @torch.no_grad()
    def update(self, vectors: Rows, word: Rows) -> None:
        """Take in a step.

        Args:
            vectors: as the step left them: encoder key -> [vectors, width].
            word: their mean over about the last half of all steps.
        """
        self._count += 1
        for key in self._start:
            rows = vectors[key].detach()
            slow = self._slow.setdefault(key, rows.clone()).to(rows.device)
            self._slow[key] = slow.lerp(rows, polynomial_share(self._count, power=1))
        now = {key: _directions(word[key]) for key in self._start}
        slower = {key: _directions(rows) for key, rows in self._slow.items()}
        self._turned, self._lag = _angle(now, self._start), _angle(now, slower)

    def estimate(self, over_noise: float | None) -> Estimate:
        """Where the word is.

        Args:
            over_noise: see `Estimate`.
        """
        travelling = min(1.0, LAG * self._lag / self._turned) if self._turned else 1.0
        left = max(share_left(over_noise, self._count), travelling) if self._count else 1.0
        return Estimate(over_noise, self._turned, left)

    def state_dict(self) -> dict[str, Any]:
        """See `state.Stateful`."""
        return {"count": self._count, "slow": dict(self._slow)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state.Stateful`."""
        self._count, self._slow = state_dict["count"], dict(state_dict["slow"])


_SHARES = {
    0.1: "at the start",
    0.29: "a quarter of the way",
    0.42: "a third of the way",
    0.58: "halfway there",
    0.71: "two thirds of the way",
    0.85: "three quarters of the way",
    0.95: "nine tenths of the way",
    1.0: "there",
}
"""Share of the way -> in words, up to that share."""


def _directions(rows: Tensor) -> Tensor:
    length = rows.detach().norm(dim=1, keepdim=True)
    directions: Tensor = rows.detach() / length.clamp_min(torch.finfo(rows.dtype).tiny)
    return directions


def _angle(one: Rows, other: Rows) -> float:
    """Root mean square of the angles between directions; exact for small ones, too."""
    chords = torch.cat([(one[key] - other[key][: len(one[key])]).norm(dim=1) for key in one])
    angles = 2 * (chords / 2).clamp_max(1).asin()
    return float(angles.square().mean().sqrt())
