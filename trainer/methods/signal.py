"""How much of a gradient is signal: the part of it that many steps have in common."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..embeddings.embedding import Rows

MEMORY = 0.99
"""Weight of the past in the running means: an average over about 100 steps."""

OUTLIER = 2.0
"""Times the usual size beyond which a gradient is cut; one batch in a hundred can be ten times."""

CAUTION = 0.25
"""Share of the noise that is left in a mean that is taken off once more: its size varies, and the
strongest signal so far would else be the luckiest."""

ENOUGH = 6
"""Gradients from which a signal can be told."""


class GradientSignal:
    """The mean gradient behind the noise of single batches, and the size of that noise.

    A mean over n gradients holds the signal and 1/n of the noise's square, so that mean and mean
    square together tell the two apart. The signal is strongest where learning begins and fades as
    the word arrives; what it was at its strongest is the measure of what there was to learn, which
    is the same for noisy and for clean gradients.
    """

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, Tensor]] = {}

    @torch.no_grad()
    def update(self, vectors: Rows, *, cut: bool) -> None:
        """Take in the gradients of a step.

        Args:
            vectors: encoder key -> [vectors, width]; rows without a gradient are left out.
            cut: also cut gradients that are outliers, in place.
        """
        for key, rows in vectors.items():
            if rows.grad is not None:
                self._take(key, rows, rows.grad if cut else rows.grad.clone())

    def _take(self, key: str, rows: Tensor, gradient: Tensor) -> None:
        known = self._rows.get(key) or _nothing(rows)
        # Those of a checkpoint were read on the CPU.
        known = self._rows[key] = {name: part.to(rows.device) for name, part in known.items()}
        tiny = torch.finfo(torch.float32).tiny
        length = rows.norm(dim=1, keepdim=True)
        size = turning(gradient, rows).norm(dim=1, keepdim=True)
        seen = (1 - MEMORY ** known["count"]).clamp_min(tiny)
        usual = (known["square"] / seen).sqrt() / length.clamp_min(tiny)
        largest = torch.where(known["count"] > 0, OUTLIER * usual, math.inf)
        gradient.mul_((largest / size.clamp_min(tiny)).clamp_max(1.0))

        # Per radian, so that rows of all lengths and encoders can be compared.
        turned = turning(gradient, rows) * length
        square = turned.square().sum(1, keepdim=True)
        known["count"] += (square > 0).to(square.dtype)
        known["mean"].lerp_(turned, 1 - MEMORY)
        known["square"].lerp_(square, 1 - MEMORY)
        signal, noise = _apart(known)
        known["noise"] = noise
        enough = known["count"] >= ENOUGH
        known["signal"] = torch.where(enough, torch.maximum(known["signal"], signal), 0.0)

    def strength(self, key: str, rows: Tensor) -> Tensor:
        """How strong the gradient of each row has been at its strongest, [vectors, 1].

        0 where too little is known. In units of the gradient itself.
        """
        tiny = torch.finfo(torch.float32).tiny
        length: Tensor = rows.norm(dim=1, keepdim=True).clamp_min(tiny)
        strength: Tensor = self._rows[key]["signal"] / length
        return strength

    @property
    def over_noise(self) -> float | None:
        """Signal at its strongest over noise as it is now, of one step; None while unknown."""
        signal = sum(float(known["signal"].square().sum()) for known in self._rows.values())
        noise = sum(float(known["noise"].square().sum()) for known in self._rows.values())
        if not signal:
            return None
        return math.sqrt(signal / noise) if noise else math.inf

    def state_dict(self) -> dict[str, Any]:
        """See `state.Stateful`."""
        return {key: dict(known) for key, known in self._rows.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state.Stateful`."""
        self._rows = {key: dict(known) for key, known in state_dict.items()}


def turning(gradient: Tensor, rows: Tensor) -> Tensor:
    """The part of each row's gradient that turns it, [..., vectors, width] like `gradient`.

    Args:
        gradient: [vectors, width], or of several pictures [pictures, vectors, width].
        rows: [vectors, width].
    """
    direction = rows / rows.norm(dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
    turned: Tensor = gradient - (gradient * direction).sum(-1, keepdim=True) * direction
    return turned


def _nothing(rows: Tensor) -> dict[str, Tensor]:
    zero = torch.zeros_like(rows[:, :1])
    return {"mean": torch.zeros_like(rows)} | {
        name: zero.clone() for name in ("square", "count", "signal", "noise")
    }


def _apart(known: Rows) -> tuple[Tensor, Tensor]:
    """Signal and noise of one step, each [vectors, 1]: the mean square, taken apart."""
    tiny = torch.finfo(torch.float32).tiny
    past = MEMORY ** known["count"]
    seen = (1 - past).clamp_min(tiny)
    mean = (known["mean"] / seen).square().sum(1, keepdim=True)
    whole = known["square"] / seen
    # So many equal weights would leave as much noise in a mean as these.
    independent = (1 + MEMORY) / (1 - MEMORY) * (1 - past) / (1 + past)
    left = whole / independent.clamp_min(1.0)
    signal = (mean - (1 + CAUTION) * left).clamp_min(0).sqrt()
    noise = (whole - (mean - left).clamp_min(0)).clamp_min(0).sqrt()
    return signal, noise
