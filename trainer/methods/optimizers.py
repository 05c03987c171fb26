"""How a gradient becomes a step: the optimisers, the pull to the start, the fixed length."""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..embeddings.embedding import Rows
from ..errors import InputError
from .signal import turning

MEMORY = 0.99
"""Weight of the past in the usual size of a gradient: an average over about 100 steps."""


Parameters = Iterable[Tensor] | Iterable[dict[str, Any]]
"""Tensors [vectors, width] to be learned, or groups of them as torch's optimisers take them."""


class Sphere(torch.optim.Optimizer):
    """Turns vectors and leaves their lengths alone (Directional TI, arXiv 2512.13672).

    A row's gradient is cut to the part that turns it, divided by its usual size, and followed by
    `lr` radians. Unlike in the paper the usual size is a running average, so that a step whose
    gradient is small stays small.

    Args:
        rows: to be turned, or groups of them. A group's `longest` says how many times `lr` a step
            turns at most.
        lr: radians of a usual step.
    """

    def __init__(self, rows: Parameters, lr: float) -> None:
        super().__init__(rows, {"lr": lr, "longest": math.inf})

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take in a state, also of a version that had no `longest`."""
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("longest", math.inf)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Turn every row that has a gradient; `closure` is there for torch's sake."""
        for group in self.param_groups:
            for rows in group["params"]:
                if rows.grad is not None:
                    self._turn(rows, rows.grad, group["lr"], group["longest"])

    def _turn(self, rows: Tensor, gradient: Tensor, angle: float, longest: float) -> None:
        state = self.state[rows]
        if not state:
            state["square"] = torch.zeros_like(rows[:, :1])
            state["seen"] = torch.zeros_like(rows[:, :1])
        tiny = torch.finfo(rows.dtype).tiny
        length = rows.norm(dim=1, keepdim=True)
        direction = rows / length.clamp_min(tiny)
        turn = turning(gradient, rows)
        square = turn.square().sum(1, keepdim=True)
        state["square"].lerp_(square, 1 - MEMORY)
        # The share of steps with a gradient, so that neither the first steps nor a vector that
        # comes in later seem smaller than they are.
        state["seen"].lerp_((square > 0).to(rows.dtype), 1 - MEMORY)
        usual = (state["square"] / state["seen"].clamp_min(tiny)).sqrt()
        times = (square.sqrt() / usual.clamp_min(tiny)).clamp_min(tiny)
        turned = direction - angle * (longest / times).clamp_max(1) * turn / usual.clamp_min(tiny)
        rows.copy_(turned * (length / turned.norm(dim=1, keepdim=True).clamp_min(tiny)))


def _packaged(name: str, package: str, kind: str) -> Callable[[Parameters, float], Any]:
    """An optimiser of others, used where its package is installed."""

    def make(rows: Parameters, rate: float) -> Any:
        try:
            optimizer: Any = getattr(importlib.import_module(package), kind)
        except ImportError as error:
            raise InputError(
                f"The optimizer “{name}” needs the package {package}, which is not installed: "
                "choose adamw or sphere, or install it."
            ) from error
        made = optimizer(rows, lr=rate, weight_decay=0.0)
        if hasattr(made, "train"):
            made.train()
        return made

    return make


@dataclass(frozen=True)
class Optimizer:
    """An optimiser that can be chosen.

    Attributes:
        make: parameters and the learning rate of the first step -> the optimiser, without weight
            decay, which would pull to zero; raises `InputError` where its package is missing.
        rate: the learning rate to start with, as the setting's text.
        falling_rate: the same where the rate falls from the first step on; "" for the same.
        rate_of_rows: whether its rate is meant for CLIP's rows, so that it has to grow with longer
            ones. An angle is the same for any, and Prodigy finds the rate by itself.
        keeps_lengths: whether it only turns vectors.
    """

    make: Callable[[Parameters, float], torch.optim.Optimizer]
    rate: str
    rate_of_rows: bool = True
    keeps_lengths: bool = False
    falling_rate: str = ""


OPTIMIZERS: Mapping[str, Optimizer] = {
    "sphere": Optimizer(
        Sphere, "0.04", rate_of_rows=False, keeps_lengths=True, falling_rate="0.08"
    ),
    "adamw": Optimizer(
        lambda rows, rate: torch.optim.AdamW(rows, lr=rate, weight_decay=0.0), "0.005"
    ),
    "prodigy": Optimizer(_packaged("prodigy", "prodigyopt", "Prodigy"), "1", rate_of_rows=False),
    "schedule-free": Optimizer(
        _packaged("schedule-free", "schedulefree", "AdamWScheduleFree"), "0.005"
    ),
}
"""The one table of optimisers: a row here is all that another one takes, and a test."""


@torch.no_grad()
def pull_back(
    vectors: Rows,
    anchors: Rows,
    strength: float,
    sizes: Callable[[str, Tensor], Tensor] | None = None,
) -> None:
    """Add to each row's gradient a pull to where the row began.

    The pull is a share of a gradient's size, so that one number means the same for every model
    and loss. At a distance as long as the row began, it is `strength` times that size. On the
    sphere it equals the prior of Directional TI (arXiv 2512.13672), made relative.

    Args:
        vectors: encoder key -> [vectors, width], with gradients.
        anchors: the same shapes: where they began.
        strength: 0 for none.
        sizes: (encoder key, rows) -> size to take a share of, [vectors, 1]; the gradient of the
            step itself if not given, whose size may be mostly noise.
    """
    if not strength:
        return
    for key, rows in vectors.items():
        if rows.grad is not None:
            away = (rows - anchors[key]) / anchors[key].norm(dim=1, keepdim=True).clamp_min(1e-6)
            size = sizes(key, rows) if sizes else rows.grad.norm(dim=1, keepdim=True)
            rows.grad += strength * size * away


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
