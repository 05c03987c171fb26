"""How far a word has come, on a sphere on which that is known."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from support.sphere import Bowl, angle, learn, start
from textual_inversion.trainer.methods.settling import (
    FIRST,
    FORESEEN,
    PATIENCE,
    SURE,
    Estimate,
    Settling,
    share_left,
    steps_until,
)
from torch import Tensor

MARKS = (125, 400)


@cache
def goal(bowl: Bowl, seed: int) -> tuple[Tensor, float]:
    """Where learning leads without noise, and how far that is from the start."""
    *_, (word, _) = learn(replace(bowl, over_noise=math.inf), 500, seed)
    return word, angle(word, start(bowl))


@cache
def told(bowl: Bowl, steps: int, seed: int) -> list[tuple[Estimate, float]]:
    """At each of the marks, the estimate and what was left in truth."""
    word, whole = goal(replace(bowl, over_noise=1.0, own_noise=False), seed)
    rows = dict(enumerate(learn(bowl, steps, seed), 1))
    return [(rows[n][1], angle(rows[n][0], word) / whole) for n in MARKS]


@pytest.mark.parametrize(
    ("over_noise", "own_noise"),
    [(1.0, False), (0.3, False), (0.1, False), (0.3, True)],
)
def test_what_is_left_is_told_within_a_factor(over_noise: float, own_noise: bool) -> None:
    """Where the loss is steep in a few directions, as that of networks is."""
    bowl = Bowl(over_noise, steep=5, own_noise=own_noise)
    factors = [
        max(estimate.left / left, left / estimate.left)
        for seed in range(3)
        for estimate, left in told(bowl, max(MARKS), seed)
    ]
    assert sum(factor < SURE for factor in factors) >= 0.8 * len(factors), factors


@pytest.mark.parametrize("over_noise", [0.3, 0.1])
def test_where_all_directions_are_steep_too_little_is_told_of_the_way(over_noise: float) -> None:
    for estimate, left in told(Bowl(over_noise), max(MARKS), 0):
        assert left / SURE < estimate.left


def test_what_noise_has_done_does_not_keep_a_run_going() -> None:
    """More steps do not mend it."""
    assert Estimate(0.3, 1.0, 0.2, astray=0.6).is_enough(200, "balanced")
    assert Estimate(0.3, 1.0, 0.2, astray=0.6).left == 0.6


def test_how_sure_it_is_is_told() -> None:
    estimate = Estimate(0.31, 1.0, 0.2, astray=0.0)
    assert "likely 70% to 87% of it" in estimate.numbers
    assert "noise has carried it off" not in estimate.numbers
    assert "noise has carried it off by 30%" in Estimate(0.31, 1, 0.2, 0.3).numbers
    assert Estimate(None, 0.0, 1.0).likely == (0.0, pytest.approx(1 / 3))


def test_a_word_that_still_travels_is_not_there() -> None:
    """With clean gradients but tiny steps, noise alone would say that all is known."""
    bowl = Bowl(3.0)
    *_, (word, estimate) = learn(bowl, 100, 0, learning_rate="0.002")
    word_there, whole = goal(replace(bowl, over_noise=1.0), 0)
    assert angle(word, word_there) > 0.8 * whole
    assert estimate.left > 0.3
    assert not estimate.is_enough(100, "balanced")


def test_noisier_runs_go_on_longer() -> None:
    ends = []
    for over_noise in (1.0, 0.3, 0.1):
        estimate = Estimate(over_noise, 1.0, share_left(over_noise, FORESEEN))
        first, last = estimate.end(FORESEEN, 100_000, "balanced")
        assert first < last
        ends.append(first)
    assert ends == sorted(ends)
    assert ends[2] > 5 * ends[1]


@pytest.mark.parametrize("patience", [name for name, worth in PATIENCE.items() if worth])
def test_the_foreseen_end_is_the_end(patience: str) -> None:
    end = next(
        step
        for step in range(1, 10_000)
        if Estimate(0.2, 1.0, share_left(0.2, step)).is_enough(step, patience)
    )
    first, last = Estimate(0.2, 1.0, 0.5).end(end - 1, 10_000, patience)
    assert abs(first - end) <= 2
    assert abs(last - end) <= 2
    # And the range narrows on the way there.
    begin = Estimate(0.2, 1.0, 0.9).end(FIRST, 10_000, patience)
    assert begin[1] - begin[0] > last - first


def test_more_patience_is_more_steps() -> None:
    left = [share_left(0.2, steps) for steps in range(1, 10_000)]
    ends = {
        patience: next(
            i for i, one in enumerate(left) if Estimate(0.2, 1, one).is_enough(i + 1, patience)
        )
        for patience in ("fast", "balanced", "thorough")
    }
    assert ends["fast"] < ends["balanced"] < ends["thorough"]
    assert not Estimate(math.inf, 1, 0.0).is_enough(10_000, "none")


def test_without_a_signal_nothing_is_foreseen() -> None:
    unknown = Estimate(None, 0.2, 1.0)
    assert unknown.end(30, 2000, "balanced") == (30, 2000)
    assert not unknown.is_enough(1000, "fast")
    assert str(unknown) == "at the start"


def test_the_end_is_not_foreseen_from_a_few_steps() -> None:
    estimate = Estimate(0.2, 0.3, 0.9)
    assert estimate.end(FORESEEN - 1, 2000, "balanced") == (FORESEEN - 1, 2000)
    first, last = estimate.end(FORESEEN, 2000, "balanced")
    assert FORESEEN < first < last < 2000
    # But where no run ends by itself before its limit, that is known.
    assert estimate.end(3, FIRST, "balanced") == (FIRST, FIRST)


def test_steps_until_is_the_other_way_round() -> None:
    assert share_left(0.3, round(steps_until(0.2, 0.3))) == pytest.approx(0.2, rel=0.01)


def test_it_goes_on_from_its_state() -> None:
    chance = torch.Generator().manual_seed(0)
    begin = {"a": torch.randn(2, 5, generator=chance)}
    run = [
        [{"a": begin["a"] + 0.1 * torch.randn(2, 5, generator=chance)} for _ in range(2)]
        for _ in range(8)
    ]
    whole, first, second = (Settling(begin) for _ in range(3))
    for rows, walk in run:
        whole.update(rows, rows, walk)
    for rows, walk in run[:5]:
        first.update(rows, rows, walk)
    second.load_state_dict(first.state_dict())
    for rows, walk in run[5:]:
        second.update(rows, rows, walk)
    assert second.estimate(0.5) == whole.estimate(0.5)
    assert whole.estimate(0.5).astray > 0


def test_a_state_from_before_noise_was_followed_is_gone_on_from() -> None:
    begin = {"a": torch.eye(3)[:1]}
    settling = Settling(begin)
    settling.load_state_dict({"count": 9, "slow": {"a": torch.eye(3)[:1]}})
    settling.update({"a": torch.eye(3)[1:2]}, {"a": torch.eye(3)[1:2]}, begin)
    assert settling.estimate(0.5).ahead >= share_left(0.5, 10)
    assert settling.estimate(0.5).astray == 0
