"""Weights found out from gradients, where it is known how much each part of the schedule tells."""

from __future__ import annotations

import torch
from textual_inversion.trainer.methods.measured_weights import (
    EQUAL,
    MOST,
    PARTS,
    MeasuredWeights,
)
from torch import Tensor

WIDTH = 48


def pictures(
    noise: Tensor, count: int, seed: int = 0, parts: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Noise levels and gradients: the same signal in each part, and noise of so much in it."""
    chance = torch.Generator().manual_seed(seed)
    part = torch.arange(count) % PARTS if parts is None else parts
    gradients = torch.randn(count, WIDTH, generator=chance) / WIDTH**0.5 * noise[part][:, None]
    gradients[:, 0] += 1
    return (part + 0.5) / PARTS, gradients


def weights_after(noise: Tensor, count: int, **options: Tensor) -> MeasuredWeights:
    weights = MeasuredWeights()
    weights.add(weights.found(*pictures(noise, count, **options)))
    return weights


def test_noisy_parts_count_less() -> None:
    noise = torch.linspace(1, 6, PARTS)
    found = weights_after(noise, 400).parts()
    assert (found.diff() <= 0).all()
    assert 1 / MOST / 2 < found.min() < found.max() <= MOST * 2
    torch.testing.assert_close(found.mean(), torch.tensor(1.0))


def test_the_weighted_mean_is_steadier() -> None:
    noise = torch.tensor([1.0, 1, 1, 1, 2, 4, 6, 8])
    weights = weights_after(noise, 400)
    errors = []
    for seed in range(1, 60):
        levels, gradients = pictures(noise, 64, seed)
        for each in (torch.ones(64), weights.of(levels)):
            mean = (gradients * each[:, None]).sum(0) / each.sum()
            errors.append(mean[1:].norm())
    assert torch.stack(errors[1::2]).mean() < 0.6 * torch.stack(errors[::2]).mean()


def test_few_pictures_change_nothing() -> None:
    assert torch.equal(MeasuredWeights().parts(), torch.ones(PARTS))
    assert torch.equal(weights_after(torch.ones(PARTS), EQUAL - 1).parts(), torch.ones(PARTS))


def test_parts_that_are_never_seen_do_no_harm() -> None:
    seen = torch.arange(200) % 3 + 2
    found = weights_after(torch.ones(PARTS), 200, parts=seen).parts()
    assert torch.isfinite(found).all()
    assert (found > 0).all()


def test_pictures_may_be_told_in_any_number_of_pieces() -> None:
    noise = torch.linspace(1, 4, PARTS)
    levels, gradients = pictures(noise, 120)
    whole, pieces = MeasuredWeights(), MeasuredWeights()
    whole.add(whole.found(levels, gradients))
    # As several processes do: sums are added up, and then taken in.
    pieces.add(sum(pieces.found(levels[i::3], gradients[i::3]) for i in range(3)))
    torch.testing.assert_close(whole.parts(), pieces.parts())


def test_it_goes_on_from_its_state() -> None:
    weights, again = weights_after(torch.ones(PARTS), 100), MeasuredWeights()
    again.load_state_dict(weights.state_dict())
    more = weights.found(*pictures(torch.linspace(1, 3, PARTS), 80, 5))
    weights.add(more)
    again.add(more)
    assert torch.equal(weights.parts(), again.parts())


def test_another_vector_begins_anew() -> None:
    weights = weights_after(torch.ones(PARTS), 100)
    levels, gradients = pictures(torch.ones(PARTS), 100)
    weights.add(weights.found(levels, gradients.repeat(1, 2)))
    assert torch.isfinite(weights.parts()).all()
