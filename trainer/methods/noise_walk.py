"""How far noise alone would carry the vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..embeddings.embedding import Rows
from .averaging import polynomial_share


class NoiseWalk:
    """A twin of the vectors that feels the noise of their gradients and not the signal.

    A loss calls vectors back only in the few directions in which it is steep. In all others the
    noise of single steps adds up, and no average takes it off again. The twin makes the same steps,
    but with signs under which what neighbouring gradients have in common cancels out (the
    Thue–Morse sequence), while noise, which is new in each, adds up as it does in the vectors.

    Attributes:
        rows: encoder key -> [vectors, width].
        optimizer: which moves them.

    Args:
        start: encoder key -> [vectors, width]: where the vectors that learn began.
        make: parameters -> the optimizer that the vectors have.
    """

    def __init__(
        self, start: Rows, make: Callable[[Mapping[str, Tensor]], torch.optim.Optimizer]
    ) -> None:
        self._parameters = torch.nn.ParameterDict(
            {key: torch.nn.Parameter(rows.clone()) for key, rows in start.items()}
        )
        self.rows: dict[str, Tensor] = dict(self._parameters.items())
        self.optimizer = make(self.rows)

    def follow(self, step: int, vectors: Rows, pull: Callable[[Rows], None]) -> None:
        """Make a step with the gradients of the vectors.

        Args:
            step: its number, from 0.
            vectors: encoder key -> [vectors, width], before anything but the loss has pulled.
            pull: adds to gradients what pulls rows to where they began.
        """
        sign = -1 if step.bit_count() % 2 else 1
        for key, rows in self.rows.items():
            gradient = vectors[key].grad
            rows.grad = None if gradient is None else sign * gradient
        pull(self.rows)
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """See `state.Stateful`."""
        return {
            "rows": self._parameters.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state.Stateful`."""
        self._parameters.load_state_dict(state_dict["rows"])
        self.optimizer.load_state_dict(state_dict["optimizer"])


class Scatter:
    """The mean of rows over the steps so far, and how far they lie around it.

    A step counts by its number, so that the mean reaches back farther than that of the last half.

    Attributes:
        count: steps so far.
        mean: encoder key -> [vectors, width].
        square: mean squared distance of the rows from their mean at that time.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: dict[str, Tensor] = {}
        self.square = 0.0

    @torch.no_grad()
    def update(self, vectors: Rows) -> None:
        """Take in the rows after a step."""
        self.count += 1
        share = polynomial_share(self.count, power=1)
        away = 0.0
        for key, rows in vectors.items():
            mean = self.mean.setdefault(key, rows.detach().clone()).to(rows.device)
            self.mean[key] = mean.lerp(rows.detach(), share)
            away += float((rows - self.mean[key]).square().sum())
        self.square += share * (away - self.square)

    def state_dict(self) -> dict[str, Any]:
        """See `state.Stateful`."""
        return {"count": self.count, "mean": dict(self.mean), "square": self.square}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state.Stateful`; what is not there is as at the start."""
        self.count, self.square = state_dict.get("count", 0), state_dict.get("square", 0.0)
        self.mean = dict(state_dict.get("mean", {}))
