"""How vectors are moved: the sphere, the pull, fixed lengths, optimisers of others."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.methods.optimizers import (
    OPTIMIZERS,
    Sphere,
    learned_values,
    pull_back,
    restore_lengths,
)
from torch import Tensor


def rows(count: int = 3, width: int = 16, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def angles(a: Tensor, b: Tensor) -> Tensor:
    return torch.cosine_similarity(a.double(), b.double()).clamp(-1, 1).arccos()


def test_the_sphere_keeps_every_length() -> None:
    start = rows() * torch.tensor([[0.4], [1.0], [30.0]])
    learned = start.clone().requires_grad_()
    optimizer = Sphere([learned], lr=0.3)
    for seed in range(200):
        learned.grad = rows(seed=seed)
        optimizer.step()
    torch.testing.assert_close(learned.norm(dim=1), start.norm(dim=1), rtol=1e-4, atol=0)
    assert (angles(learned, start) > 0.1).all()


def test_the_first_step_turns_by_the_learning_rate_along_the_gradient() -> None:
    start = rows()
    gradient = rows(seed=1) * torch.tensor([[1e-6], [1.0], [1e6]])
    learned = start.clone().requires_grad_()
    learned.grad = gradient.clone()
    Sphere([learned], lr=0.04).step()
    # A step along the tangent, brought back to the sphere.
    torch.testing.assert_close(
        angles(learned.detach(), start), torch.full((3,), math.atan(0.04)).double()
    )
    moved = learned.detach() - start
    assert ((moved * gradient).sum(1) < 0).all()


def test_steps_follow_the_size_of_the_gradient_among_the_usual() -> None:
    learned = rows(1).requires_grad_()
    optimizer = Sphere([learned], lr=0.01)
    turned = []
    for size in [1.0] * 50 + [0.1]:
        before = learned.detach().clone()
        learned.grad = rows(1, seed=3) * size
        optimizer.step()
        turned.append(angles(learned.detach(), before).item())
    assert 0.05 < turned[-1] / turned[-2] < 0.2


def test_a_vector_that_comes_in_later_starts_gently() -> None:
    """As if its first step were the first of all."""
    learned = rows(2).requires_grad_()
    optimizer = Sphere([learned], lr=0.01)
    for step in range(300):
        before = learned.detach().clone()
        learned.grad = rows(2, seed=step) * torch.tensor([[1.0], [float(step == 299)]])
        optimizer.step()
    assert angles(learned.detach(), before)[1] == pytest.approx(math.atan(0.01), rel=1e-3)
    torch.testing.assert_close(before[1], rows(2)[1])


def test_the_pull_is_a_share_of_the_gradient() -> None:
    anchors = {"clip_l": rows(2) * torch.tensor([[0.4], [40.0]])}
    # As far from where it began as it is long: then the pull is `strength` gradients.
    aside = rows(2, seed=5)
    aside = aside / aside.norm(dim=1, keepdim=True) * anchors["clip_l"].norm(dim=1, keepdim=True)
    learned = {"clip_l": (anchors["clip_l"] + aside).requires_grad_()}
    gradient = rows(2, seed=6) * torch.tensor([[1e-5], [1e3]])
    learned["clip_l"].grad = gradient.clone()
    pull_back(learned, anchors, 0.25)
    added = learned["clip_l"].grad - gradient
    torch.testing.assert_close(added.norm(dim=1), 0.25 * gradient.norm(dim=1))
    torch.testing.assert_close(torch.cosine_similarity(added, aside), torch.ones(2))


def test_on_the_sphere_the_pull_is_the_papers_prior() -> None:
    """Cut to what turns the row, it is −κ times the unit vector of where it began."""
    anchor = rows(1)
    learned = {"clip_l": (rows(1, seed=2) * 0.7).requires_grad_()}
    length = anchor.norm()
    learned["clip_l"].data *= length / learned["clip_l"].norm()
    gradient = rows(1, seed=6)
    learned["clip_l"].grad = gradient.clone()
    pull_back(learned, {"clip_l": anchor}, 0.3)
    direction = (learned["clip_l"] / length).detach()

    def tangent(vector: Tensor) -> Tensor:
        return vector - (vector * direction).sum() * direction

    kappa = 0.3 * gradient.norm()
    expected = tangent(gradient - kappa * anchor / length)
    torch.testing.assert_close(tangent(learned["clip_l"].grad), expected)


def test_stronger_pull_ends_nearer_to_the_start() -> None:
    goal, start = rows(1, seed=1), rows(1)
    distances = []
    for strength in (0.0, 0.2, 0.5, 1.0):
        learned = {"a": start.clone().requires_grad_()}
        optimizer = Sphere(learned.values(), lr=0.05)
        for _ in range(300):
            optimizer.zero_grad()
            (-(learned["a"] * goal).sum()).backward()
            pull_back(learned, {"a": start}, strength)
            optimizer.step()
        distances.append(angles(learned["a"].detach(), start).item())
    assert distances == sorted(distances, reverse=True)
    assert distances[0] > 2 * distances[-1]


def test_lengths_are_restored() -> None:
    vectors = {"a": rows()}
    lengths = {"a": torch.tensor([[0.4], [1.0], [2.0]])}
    directions = vectors["a"] / vectors["a"].norm(dim=1, keepdim=True)
    restore_lengths(vectors, lengths)
    torch.testing.assert_close(vectors["a"], directions * lengths["a"])


def quadratic(name: str, rate: float, steps: int = 300) -> tuple[Tensor, torch.optim.Optimizer]:
    learned = rows(1).requires_grad_()
    optimizer = OPTIMIZERS[name].make([learned], rate)
    for _ in range(steps):
        optimizer.zero_grad()
        (learned - rows(1, seed=1)).square().sum().backward()
        optimizer.step()
    return learned, optimizer


@pytest.mark.parametrize(
    ("name", "package", "rate"),
    [("prodigy", "prodigyopt", 1.0), ("schedule-free", "schedulefree", 0.1)],
)
def test_optimisers_of_others_are_used_if_installed(name: str, package: str, rate: float) -> None:
    pytest.importorskip(package)
    learned, optimizer = quadratic(name, rate)
    with learned_values(optimizer):
        torch.testing.assert_close(learned.detach(), rows(1, seed=1), atol=0.05, rtol=0)


def test_schedule_free_learns_elsewhere_than_it_looks() -> None:
    pytest.importorskip("schedulefree")
    learned, optimizer = quadratic("schedule-free", 0.1, steps=20)
    looking = learned.detach().clone()
    with learned_values(optimizer):
        assert not torch.allclose(learned, looking, atol=1e-3)
    torch.testing.assert_close(learned.detach(), looking, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "package"), [("prodigy", "prodigyopt")])
def test_an_absent_package_gets_one_sentence(name: str, package: str, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=f"needs the package {package}, which is not installed"):
        OPTIMIZERS[name].make([rows()], 1.0)
