"""When a curve counts as flat."""

from __future__ import annotations

import math

from textual_inversion.trainer.learning.diagnostics import has_settled


def stops_at(curve: list[float]) -> int | None:
    return next((n for n in range(len(curve) + 1) if has_settled(curve[:n])), None)


def test_a_curve_that_flattens_out_is_stopped_after_it_has() -> None:
    curve = [0.2 + 0.1 * math.exp(-i / 4) for i in range(50)]
    stop = stops_at(curve)
    assert stop is not None
    assert curve[stop - 1] < 0.2 + 0.1 * 0.1
    assert stop < 30


def test_a_curve_that_still_falls_is_not() -> None:
    assert stops_at([1 - i / 40 for i in range(40)]) is None


def test_neither_is_one_of_a_few_points() -> None:
    assert not has_settled([0.3, 0.1, 0.1, 0.1, 0.1, 0.1])


def test_one_that_never_moved_is() -> None:
    assert has_settled([0.1] * 10)
