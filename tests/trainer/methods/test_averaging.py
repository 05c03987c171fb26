"""Averages of vectors over the steps of a run."""

from __future__ import annotations

import pytest
import torch
from textual_inversion.trainer.methods.averaging import Average
from torch import Tensor


def steps(count: int) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [{"a": torch.randn(2, 5, generator=generator)} for _ in range(count)]


@pytest.mark.parametrize(("count", "tail"), [(40, 10), (10, 2), (3, 1), (1, 1)])
def test_the_last_quarter_is_its_mean(count: int, tail: int) -> None:
    run, average = steps(count), Average("last quarter", count)
    shown = [average.update(step, vectors)["a"] for step, vectors in enumerate(run)]
    for step in range(count - tail):
        assert torch.equal(shown[step], run[step]["a"])
    expected = torch.stack([vectors["a"] for vectors in run[-tail:]]).mean(0)
    torch.testing.assert_close(shown[-1], expected)


def test_a_run_that_goes_on_with_more_steps_forgets_its_former_last_quarter() -> None:
    run = steps(40)
    shorter, longer, whole = (Average("last quarter", count) for count in (20, 40, 40))
    for step in range(20):
        shorter.update(step, run[step])
    longer.load_state_dict(shorter.state_dict())
    resumed = [longer.update(step, run[step])["a"] for step in range(20, 40)]
    expected = [whole.update(step, vectors)["a"] for step, vectors in enumerate(run)]
    torch.testing.assert_close(resumed, expected[20:], atol=0, rtol=0)


def test_the_moving_average_forgets_beyond_a_tenth_of_the_run() -> None:
    run, average = steps(200), Average("ema", 200)
    shown = [average.update(step, vectors)["a"] for step, vectors in enumerate(run)]
    torch.testing.assert_close(shown[3], torch.stack([v["a"] for v in run[:4]]).mean(0))
    expected = shown[19]
    for vectors in run[20:]:
        expected = 0.95 * expected + 0.05 * vectors["a"]
    torch.testing.assert_close(shown[-1], expected)


@pytest.mark.parametrize("kind", ["last quarter", "ema"])
def test_lengths_are_kept_if_they_are_fixed(kind: str) -> None:
    lengths = {"a": torch.tensor([[0.4], [2.0]])}
    average = Average(kind, 20, lengths)
    for step, vectors in enumerate(steps(20)):
        shown = average.update(step, vectors)
    torch.testing.assert_close(shown["a"].norm(dim=1, keepdim=True), lengths["a"])


def test_what_is_shown_does_not_change_later() -> None:
    for kind in ("none", "ema"):
        average, vectors = Average(kind, 4), {"a": torch.ones(1, 3)}
        shown = average.update(0, vectors)
        vectors["a"] += 1
        average.update(1, vectors)
        assert torch.equal(shown["a"], torch.ones(1, 3))


@pytest.mark.parametrize("kind", ["none", "last quarter", "ema"])
def test_it_goes_on_from_its_state(kind: str) -> None:
    run, whole = steps(20), Average(kind, 20)
    expected = [whole.update(step, vectors)["a"] for step, vectors in enumerate(run)]
    for stop in (1, 17, 19):
        first, second = Average(kind, 20), Average(kind, 20)
        for step in range(stop):
            first.update(step, run[step])
        second.load_state_dict(first.state_dict())
        rest = [second.update(step, run[step])["a"] for step in range(stop, 20)]
        assert all(torch.equal(a, b) for a, b in zip(rest, expected[stop:], strict=True))
