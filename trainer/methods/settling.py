"""How far a run has come, and what more steps would bring."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..embeddings.embedding import Rows
from .noise_walk import Scatter

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

SURE = 1.5
"""Factor by which what is left is told too large or too small at most, in four of five runs."""

NOTABLE = 0.1
"""Share of the way from which on it is told that noise has carried a word off."""

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
        ahead: what steps without number would still take off, as a share of the way, 0..1.
        astray: how far noise has carried the word off where nothing calls it back, as a share of
            the way; no steps take that off.
    """

    over_noise: float | None
    turned: float
    ahead: float
    astray: float = 0.0

    @property
    def left(self) -> float:
        """What is left of the way, as a share of all of it, 0..1.

        The larger part alone: averages leave noise, too, so that the two overlap.
        """
        return min(1.0, max(self.ahead, self.astray))

    @property
    def share(self) -> float:
        """The share of the way that the word has come, 0..1."""
        return 1 - self.left

    @property
    def likely(self) -> tuple[float, float]:
        """Between which shares of the way the word is in four of five runs."""
        return max(0.0, 1 - SURE * self.left), 1 - self.left / SURE

    @property
    def gain(self) -> float:
        """What as many steps again would bring, as a share of the way."""
        return AGAIN * self.ahead

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
        least, most = self.likely
        told = (
            f"likely {least:.0%} to {most:.0%} of it; turned by {math.degrees(self.turned):.0f}° "
            f"since the start, signal over noise of a step {signal}; twice as many steps would "
            f"bring it nearer by about {self.gain:.0%} of the way"
        )
        if self.astray < NOTABLE:
            return told
        return f"{told}; noise has carried it off by {self.astray:.0%}, which they do not mend"


class Settling:
    """Follows the averaged word from step to step.

    Noise alone cannot tell that a word still travels. Then the mean over the last half of the steps
    is ahead of one that reaches back farther, and how far says what is left. Nor do averages tell
    what noise has done where the loss is flat. That is how far the `NoiseWalk` has come, times the
    ratio by which the vectors scatter less than it does: the loss calls them back by so much.

    Args:
        start: encoder key -> [vectors, width]: where the vectors that learn began.
    """

    def __init__(self, start: Rows) -> None:
        self._start = {key: _directions(rows) for key, rows in start.items()}
        self._vectors, self._walk = Scatter(), Scatter()
        self._turned = self._lag = self._strayed = 0.0

    @torch.no_grad()
    def update(self, vectors: Rows, word: Rows, walk: Rows) -> None:
        """Take in a step.

        Args:
            vectors: as the step left them: encoder key -> [vectors, width].
            word: their mean over about the last half of all steps.
            walk: the rows of the `NoiseWalk`.
        """
        self._vectors.update({key: vectors[key] for key in self._start})
        self._walk.update({key: walk[key] for key in self._start})
        now = {key: _directions(word[key]) for key in self._start}
        slower, strayed = (
            {key: _directions(rows) for key, rows in one.mean.items()}
            for one in (self._vectors, self._walk)
        )
        self._turned, self._lag = _angle(now, self._start), _angle(now, slower)
        self._strayed = _angle(strayed, self._start)

    def estimate(self, over_noise: float | None) -> Estimate:
        """Where the word is.

        Args:
            over_noise: see `Estimate`.
        """
        if not self._turned:
            return Estimate(over_noise, 0.0, 1.0)
        travelling = min(1.0, LAG * self._lag / self._turned)
        ahead = max(share_left(over_noise, self._vectors.count), travelling)
        flat = min(1.0, self._vectors.square / self._walk.square) if self._walk.square else 0.0
        return Estimate(over_noise, self._turned, ahead, flat * self._strayed / self._turned)

    def state_dict(self) -> dict[str, Any]:
        """See `state.Stateful`."""
        return {"vectors": self._vectors.state_dict(), "walk": self._walk.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state.Stateful`; also of a version that knew no walk."""
        if "vectors" not in state_dict:
            state_dict = {"vectors": {"mean": state_dict["slow"], **state_dict}, "walk": {}}
        self._vectors.load_state_dict(state_dict["vectors"])
        self._walk.load_state_dict(state_dict["walk"])


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
