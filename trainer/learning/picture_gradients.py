"""The gradient of each picture of a step by itself, without computing any of them twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..embeddings.embedding import Rows
from ..methods.measured_weights import MeasuredWeights
from ..methods.signal import turning
from .distributed import Processes
from .state import Stateful


@dataclass(frozen=True)
class _Watched:
    """Pictures whose gradient is about to be computed."""

    noise_levels: Tensor
    weights: Tensor
    offsets: Rows


class PictureGradients:
    """Finds out how much each picture's gradient tells, and weights pictures by it.

    Each picture of a piece gets the word as a copy of its own, so that one pass backwards through
    the network tells their gradients apart.

    Attributes:
        parts: all that one step hands to the next.
    """

    def __init__(self) -> None:
        self._weights = MeasuredWeights()
        self._watched: list[_Watched] = []
        self.parts: Mapping[str, Stateful] = {"weights": self._weights}

    def watch(self, rows: Rows, noise_levels: Tensor) -> tuple[Rows, Tensor]:
        """The word for each of some pictures, and the weights of their losses.

        Args:
            rows: encoder key -> [vectors, width].
            noise_levels: how noisy each picture is, as a share of the schedule, 0..1, [pictures].

        Returns:
            encoder key -> [pictures, vectors, width], and float32 [pictures].
        """
        weights = self.weights(noise_levels)
        offsets = {
            key: one.new_zeros(len(noise_levels), *one.shape).requires_grad_(one.requires_grad)
            for key, one in rows.items()
        }
        self._watched.append(_Watched(noise_levels, weights, offsets))
        return {key: one + offsets[key] for key, one in rows.items()}, weights

    def weights(self, noise_levels: Tensor) -> Tensor:
        """The weights of pictures that tell nothing themselves; arguments and result as `watch`."""
        return self._weights.of(noise_levels)

    def take(self, rows: Rows, scale: float, processes: Processes) -> None:
        """Learn from the gradients of a step, once all of them are there.

        Args:
            rows: those of the step.
            scale: what the gradient of a picture's own loss has been multiplied by, beside its
                weight.
            processes: that share the step's pictures.
        """
        found = None
        for one in self._watched:
            each = torch.cat(
                [
                    _in_radians(rows[key], offsets.grad)
                    for key, offsets in one.offsets.items()
                    if offsets.grad is not None
                ],
                dim=1,
            )
            own = each / (one.weights.to(each.device)[:, None] * scale)
            more = self._weights.found(one.noise_levels.to(each.device), own)
            found = more if found is None else found + more
        self._watched.clear()
        if found is not None:
            found = processes.sum(found)
            # A half-precision step that overflowed says nothing.
            if torch.isfinite(found).all():
                self._weights.add(found)


def _in_radians(rows: Tensor, gradients: Tensor) -> Tensor:
    """What turns the rows, [pictures, numbers], the same for rows of all lengths."""
    rows = rows.detach()
    turned: Tensor = turning(gradients, rows) * rows.norm(dim=1, keepdim=True)
    return turned.flatten(1)
