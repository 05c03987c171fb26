"""Weights by timestep that a run measures for itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

MEASURED = "measured"
"""The weighting that needs a run, beside those in `weighting`."""

PARTS = 8
"""Equal parts of the schedule that are told apart."""

EQUAL = 40
"""Pictures seen before the weights begin to differ."""

MOST = 4.0
"""No part counts more than so many times the mean, nor less than its inverse."""

PRIOR, FLOOR = 0.25, 0.05
"""Shares of the mean that are added to the signal and to the variance of each part."""

TINY = torch.finfo(torch.float32).tiny


class MeasuredWeights:
    """How much each part of the timesteps tells, found out from the gradients of single pictures.

    All parts of the schedule pull the word into much the same direction, but some with far more
    noise than others. A mean of several estimates is steadiest when each counts by what it says
    over the variance with which it says it: here |mean| / variance, where of the mean only counts
    what lies in the common direction. Few pictures know little, so the weights are smoothed from
    part to part, never far from equal, and equal for the first `EQUAL` pictures.
    """

    def __init__(self) -> None:
        self._count = torch.zeros(PARTS)
        self._square = torch.zeros(PARTS)
        self._sum = torch.zeros(PARTS, 0)

    def of(self, levels: Tensor) -> Tensor:
        """The weight of each sample, float32 [batch].

        Args:
            levels: how noisy each is, as a share of the schedule, 0..1, [batch].
        """
        return self.parts().to(levels.device)[_part(levels)]

    def parts(self) -> Tensor:
        """The weight of each part of the schedule, from its clean end, [`PARTS`]; 1 on average."""
        known = self._count > 1
        if self._count.sum() < EQUAL or not known.any():
            return torch.ones(PARTS)
        number = self._count.clamp_min(1)
        mean = self._sum / number[:, None]
        variance = (self._square / number - mean.square().sum(1)).clamp_min(0)
        common = mean[known].mean(0)
        along = (mean @ common / common.norm().clamp_min(TINY)).clamp_min(0)
        along += PRIOR * along[known].mean()
        worth = along / (variance + FLOOR * variance[known].mean()).clamp_min(TINY)
        worth = torch.where(known, worth, worth[known].mean())
        ends = torch.cat([worth[:1], worth, worth[-1:]])
        smooth = (ends[:-2] + 2 * worth + ends[2:]) / 4
        bounded = (smooth / smooth.mean().clamp_min(TINY)).clamp(1 / MOST, MOST)
        return bounded / bounded.mean()

    def found(self, levels: Tensor, gradients: Tensor) -> Tensor:
        """What some pictures add to what is known, to be summed over processes and then `add`ed.

        Args:
            levels: see `of`.
            gradients: of each picture's own loss, unweighted, [batch, numbers].

        Returns:
            [`PARTS`, numbers + 2].
        """
        rows = [
            gradients,
            gradients.square().sum(1, keepdim=True),
            torch.ones_like(levels[:, None]),
        ]
        added = gradients.new_zeros(PARTS, gradients.shape[1] + 2)
        return added.index_add_(0, _part(levels), torch.cat(rows, 1))

    def add(self, found: Tensor) -> None:
        """Take in what `found` gave."""
        found = found.cpu()
        whole, square, count = found[:, :-2], found[:, -2], found[:, -1]
        if self._sum.shape != whole.shape:  # the first, or another vector has come in
            self._sum = torch.zeros_like(whole)
            self._square, self._count = torch.zeros(PARTS), torch.zeros(PARTS)
        self._sum = self._sum + whole
        self._square = self._square + square
        self._count = self._count + count

    def state_dict(self) -> dict[str, Any]:
        """See `state.Stateful`."""
        return {"count": self._count, "square": self._square, "sum": self._sum}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state.Stateful`."""
        self._count, self._square = state_dict["count"], state_dict["square"]
        self._sum = state_dict["sum"]


def _part(levels: Tensor) -> Tensor:
    return (levels * PARTS).long().clamp(0, PARTS - 1)
