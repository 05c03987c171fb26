"""How far a word has come, on a sphere on which that is known."""

from __future__ import annotations

import math

import pytest
import torch
from textual_inversion.trainer.methods.averaging import Average
from textual_inversion.trainer.methods.learning_rate import parse_learning_rate
from textual_inversion.trainer.methods.optimizers import Sphere
from textual_inversion.trainer.methods.settling import (
    FIRST,
    FORESEEN,
    PATIENCE,
    Estimate,
    Settling,
    share_left,
    steps_until,
)
from textual_inversion.trainer.methods.signal import GradientSignal
from torch import Tensor

WIDTH = 96
AWAY = 1.0


def learn(over_noise: float, steps: int, seed: int, rate: str = "0.08") -> tuple[Estimate, float]:
    """The estimate after learning a row an angle away under noise, and what was left in truth."""
    start, goal = torch.zeros(1, WIDTH), torch.zeros(1, WIDTH)
    start[0, 0], goal[0, 0], goal[0, 1] = 1.0, math.cos(AWAY), math.sin(AWAY)
    row = start.clone().requires_grad_()
    optimizer, schedule = Sphere([row], 1.0), parse_learning_rate(rate, "anytime", steps)
    signal, settling = GradientSignal(), Settling({"a": start})
    average = Average("last half", steps, {"a": torch.ones(1, 1)})
    chance = torch.Generator().manual_seed(seed)
    for step in range(steps):
        noise = torch.randn(1, WIDTH, generator=chance)
        row.grad = -goal + math.sin(AWAY) / over_noise * noise / noise.norm()
        signal.update({"a": row}, cut=True)
        optimizer.param_groups[0]["lr"] = schedule(step)
        optimizer.step()
        word = average.update(step, {"a": row})
        settling.update({"a": row}, word)
    return settling.estimate(signal.over_noise), angle(word["a"], goal) / AWAY


def angle(one: Tensor, other: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one, other).clamp(-1, 1).acos())


@pytest.mark.parametrize("over_noise", [1.0, 0.3, 0.1])
@pytest.mark.parametrize("steps", [125, 600])
def test_what_is_left_is_told_within_a_factor(over_noise: float, steps: int) -> None:
    factors = []
    for seed in range(5):
        estimate, left = learn(over_noise, steps, seed)
        factors.append(max(estimate.left / left, left / estimate.left))
    assert sum(factor < 1.5 for factor in factors) >= 4, factors


def test_a_word_that_still_travels_is_not_there() -> None:
    """With clean gradients but tiny steps, noise alone would say that all is known."""
    estimate, left = learn(3.0, 100, 0, rate="0.002")
    assert left > 0.8
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
    start = {"a": torch.randn(2, 5, generator=chance)}
    run = [{"a": start["a"] + 0.1 * torch.randn(2, 5, generator=chance)} for _ in range(8)]
    whole, first, second = (Settling(start) for _ in range(3))
    for rows in run:
        whole.update(rows, rows)
    for rows in run[:5]:
        first.update(rows, rows)
    second.load_state_dict(first.state_dict())
    for rows in run[5:]:
        second.update(rows, rows)
    assert second.estimate(0.5) == whole.estimate(0.5)
