"""How a gradient becomes a step: the optimisers, the pull to the start, the fixed length."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from ..embeddings.embedding import Rows
from ..errors import InputError

USUAL_RATES: Mapping[str, str] = {
    "sphere": "0.04",
    "adamw": "0.005",
    "prodigy": "1",
    "schedule-free": "0.005",
}
"""Optimiser -> the learning rate to start with."""

OPTIMIZERS: Sequence[str] = tuple(USUAL_RATES)

_PACKAGES = {
    "prodigy": ("prodigyopt", "Prodigy"),
    "schedule-free": ("schedulefree", "AdamWScheduleFree"),
}
"""Optimisers of others -> package and class; used if installed."""

MEMORY = 0.99
"""Weight of the past in the usual size of a gradient: an average over about 100 steps."""


Parameters = Iterable[Tensor] | Iterable[dict[str, Any]]
"""Tensors [vectors, width] to be learned, or groups of them as torch's optimisers take them."""


def make_optimizer(name: str, rows: Parameters, rate: float) -> torch.optim.Optimizer:
    """The optimiser of this name, without weight decay, which would pull to zero.

    Args:
        name: one of `OPTIMIZERS`.
        rows: to be learned.
        rate: learning rate of the first step.

    Raises:
        InputError: it comes from a package that is not installed.
    """
    if name == "adamw":
        return torch.optim.AdamW(rows, lr=rate, weight_decay=0.0)
    if name == "sphere":
        return Sphere(rows, rate)
    package, kind = _PACKAGES[name]
    try:
        optimizer: Any = getattr(importlib.import_module(package), kind)
    except ImportError as error:
        raise InputError(
            f"The optimizer “{name}” needs the package {package}, which is not installed: choose "
            "adamw or sphere, or install it."
        ) from error
    made: Any = optimizer(rows, lr=rate, weight_decay=0.0)
    if hasattr(made, "train"):
        made.train()
    return cast(torch.optim.Optimizer, made)


class Sphere(torch.optim.Optimizer):
    """Turns vectors and leaves their lengths alone (Directional TI, arXiv 2512.13672).

    A row's gradient is cut to the part that turns it, divided by its usual size, and followed by
    `lr` radians. Unlike in the paper the usual size is a running average, so that a step whose
    gradient is small stays small.
    """

    def __init__(self, rows: Parameters, lr: float) -> None:
        super().__init__(rows, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Turn every row that has a gradient; `closure` is there for torch's sake."""
        for group in self.param_groups:
            for rows in group["params"]:
                if rows.grad is not None:
                    self._turn(rows, rows.grad, group["lr"])

    def _turn(self, rows: Tensor, gradient: Tensor, angle: float) -> None:
        state = self.state[rows]
        if not state:
            state["square"] = torch.zeros_like(rows[:, :1])
            state["seen"] = torch.zeros_like(rows[:, :1])
        tiny = torch.finfo(rows.dtype).tiny
        length = rows.norm(dim=1, keepdim=True)
        direction = rows / length.clamp_min(tiny)
        turning = gradient - (gradient * direction).sum(1, keepdim=True) * direction
        square = turning.square().sum(1, keepdim=True)
        state["square"].lerp_(square, 1 - MEMORY)
        # The share of steps with a gradient, so that neither the first steps nor a vector that
        # comes in later seem smaller than they are.
        state["seen"].lerp_((square > 0).to(rows.dtype), 1 - MEMORY)
        usual = (state["square"] / state["seen"].clamp_min(tiny)).sqrt()
        turned = direction - angle * turning / usual.clamp_min(tiny)
        rows.copy_(turned * (length / turned.norm(dim=1, keepdim=True).clamp_min(tiny)))


@torch.no_grad()
def pull_back(vectors: Rows, anchors: Rows, strength: float) -> None:
    """Add to each row's gradient a pull to where the row began.

    The pull is a share of the gradient itself, so that one number means the same for every model
    and loss. At a distance as long as the row began, it is `strength` times the gradient. On the
    sphere it equals the prior of Directional TI (arXiv 2512.13672), made relative.

    Args:
        vectors: encoder key -> [vectors, width], with gradients.
        anchors: the same shapes: where they began.
        strength: 0 for none.
    """
    if not strength:
        return
    for key, rows in vectors.items():
        if rows.grad is not None:
            away = (rows - anchors[key]) / anchors[key].norm(dim=1, keepdim=True).clamp_min(1e-6)
            rows.grad += strength * rows.grad.norm(dim=1, keepdim=True) * away


@torch.no_grad()
def restore_lengths(vectors: Rows, lengths: Rows) -> None:
    """Scale every row to its length again, in place.

    Args:
        vectors: encoder key -> [vectors, width].
        lengths: encoder key -> [vectors, 1].
    """
    for key, rows in vectors.items():
        rows.mul_(lengths[key] / rows.norm(dim=1, keepdim=True).clamp_min(1e-12))


@contextlib.contextmanager
def learned_values(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """While open, what is learned is what has been learned.

    A schedule-free optimiser (arXiv 2405.15682) takes its gradients elsewhere.
    """
    switches: Any = optimizer
    if not hasattr(optimizer, "eval"):
        yield
        return
    switches.eval()
    yield
    switches.train()
