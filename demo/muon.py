"""The Muon optimizer: momentum whose matrices are made orthogonal before each step.

On networks this small it needs several times fewer steps than AdamW, which is what
lets a laptop train them (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/).
Biases and norms take Adam steps of a tenth of the learning rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from .workers import add_up, rank, workers

MOMENTUM = 0.95
ADAM_BETAS = (0.9, 0.99)
ADAM_SHARE = 0.1
DECAY = 0.01
# Below this a tensor is no matrix worth making orthogonal.
SMALLEST_SIDE = 16


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """The nearest (half-)orthogonal matrix, roughly: five Newton-Schulz steps."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    turned: torch.Tensor = x.T if tall else x
    return turned


class Muon(torch.optim.Optimizer):
    """Muon for matrices and convolutions, Adam for everything else.

    Args:
        parameters: what to train.
        lr: the size of a matrix step; 0.02 is usual.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], lr: float = 0.02) -> None:
        def is_matrix(p: torch.nn.Parameter) -> bool:
            return p.ndim >= 2 and min(p.flatten(1).shape) >= SMALLEST_SIDE

        everything = list(parameters)
        groups: list[dict[str, Any]] = [
            {"params": [p for p in everything if is_matrix(p)], "orthogonal": True},
            {"params": [p for p in everything if not is_matrix(p)], "orthogonal": False},
        ]
        super().__init__([g for g in groups if g["params"]], {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step by the gradients at hand."""
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            if group["orthogonal"]:
                self._turn(moved, group["lr"])
            else:
                for parameter in moved:
                    self._adam(parameter, group["lr"])

    def _turn(self, parameters: list[torch.nn.Parameter], rate: float) -> None:
        turns = []
        for number, parameter in enumerate(parameters):
            state, gradient = self.state[parameter], parameter.grad
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(parameter)
            momentum = state["momentum"].mul_(MOMENTUM).add_(gradient)
            # Each worker turns its part of the matrices; the sum below joins them.
            if number % workers() == rank():
                turns.append(orthogonal((gradient + MOMENTUM * momentum).flatten(1)))
            else:
                turns.append(torch.zeros_like(parameter).flatten(1))
        add_up(turns)
        for parameter, turned in zip(parameters, turns, strict=True):
            scale = max(1.0, turned.shape[0] / turned.shape[1]) ** 0.5
            parameter.mul_(1.0 - rate * DECAY)
            parameter.add_(turned.view_as(parameter), alpha=-rate * scale)

    def _adam(self, parameter: torch.nn.Parameter, rate: float) -> None:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if "mean" not in state:
            state.update(
                step=0, mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter)
            )
        state["step"] += 1
        first, second = ADAM_BETAS
        mean = state["mean"].lerp_(gradient, 1.0 - first) / (1.0 - first ** state["step"])
        square = state["square"].lerp_(gradient * gradient, 1.0 - second) / (
            1.0 - second ** state["step"]
        )
        parameter.add_(mean / (square.sqrt() + 1e-8), alpha=-rate * ADAM_SHARE)
