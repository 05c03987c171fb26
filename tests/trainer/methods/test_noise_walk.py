"""A twin of the vectors that only feels noise."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from textual_inversion.trainer.embeddings.embedding import Rows
from textual_inversion.trainer.methods.noise_walk import NoiseWalk, Scatter
from textual_inversion.trainer.methods.optimizers import OPTIMIZERS
from torch import Tensor

WIDTH = 64


def make(rows: Mapping[str, Tensor]) -> torch.optim.Optimizer:
    return OPTIMIZERS["sphere"].make([{"params": list(rows.values()), "scale": 1.0}], 0.01)


def nothing(rows: Rows) -> None:
    """No pull."""


def followed(signal: float, noise: float, steps: int = 200) -> tuple[float, float]:
    """How far the rows and the twin have turned: by a gradient that is the same, and by noise."""
    start = {"a": torch.eye(WIDTH)[:1]}
    rows = {"a": start["a"].clone().requires_grad_()}
    own, walk = make(rows), NoiseWalk(start, make)
    chance = torch.Generator().manual_seed(0)
    for step in range(steps):
        rows["a"].grad = signal * torch.eye(WIDTH)[1:2] + noise * torch.randn(
            1, WIDTH, generator=chance
        )
        walk.follow(step, rows, nothing)
        own.step()
    first, second = (
        float(torch.cosine_similarity(start["a"], one["a"].detach()).acos())
        for one in (rows, walk.rows)
    )
    return first, second


def test_signal_cancels_out() -> None:
    rows, twin = followed(signal=1.0, noise=0.0)
    assert rows > 1.0
    assert twin < 0.03


def test_noise_carries_it_as_far_as_the_vectors() -> None:
    rows, twin = followed(signal=0.0, noise=1.0)
    assert rows == pytest.approx(twin, rel=0.25)
    assert rows > 0.1


def test_what_pulls_the_vectors_pulls_the_twin() -> None:
    start = {"a": torch.eye(WIDTH)[:1]}
    rows = {"a": start["a"].clone().requires_grad_()}
    rows["a"].grad = torch.zeros(1, WIDTH)
    walk = NoiseWalk(start, make)

    def aside(rows: Rows) -> None:
        rows["a"].grad -= torch.eye(WIDTH)[2:3]

    for step in range(20):
        walk.follow(step, rows, aside)
    assert walk.rows["a"][0, 2] > 0.1


def test_vectors_without_a_gradient_stay() -> None:
    start = {"a": torch.eye(WIDTH)[:1]}
    walk = NoiseWalk(start, make)
    walk.follow(0, {"a": start["a"].clone().requires_grad_()}, nothing)
    assert torch.equal(walk.rows["a"], start["a"])


def test_scatter_is_of_the_rows_around_their_mean() -> None:
    scatter = Scatter()
    for _ in range(50):
        scatter.update({"a": torch.ones(1, 2)})
    assert scatter.square == 0
    for step in range(4000):
        scatter.update({"a": torch.tensor([[1.0, (-1.0) ** step]])})
    assert scatter.square == pytest.approx(1.0, rel=0.05)
    assert scatter.mean["a"].tolist()[0] == pytest.approx([1.0, 0.0], abs=0.01)
