"""When a run has learned what it can."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

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
