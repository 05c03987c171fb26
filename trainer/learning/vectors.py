"""The vectors that are being learned, and how a gradient moves them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from ..embeddings.embedding import Rows, row_count
from ..methods.averaging import Average
from ..methods.learning_rate import parse_learning_rate
from ..methods.noise_walk import NoiseWalk
from ..methods.optimizers import OPTIMIZERS, learned_values, pull_back, restore_lengths
from ..methods.settling import Estimate, Settling
from ..methods.signal import GradientSignal
from ..model import TextEncoder
from ..settings import Settings
from .distributed import Processes
from .state import Stateful

LONGEST = 2.0
"""Times the rate that a step of an anytime run turns at most, also where a batch is an outlier."""

PROGRESSIVE = 20
"""Steps after which the next vector comes in, where a run has no half-time."""


class TrainedVectors:
    """Rows of vectors under way, as the settings say.

    Attributes:
        anchors: encoder key -> [vectors, width]: where they began.
        rate: step, counted from 0 -> its learning rate.
        parts: all that one step hands to the next.

    Args:
        initial: encoder key -> float32 [vectors, width].
        learning: the encoders whose rows learn; the others' stay as they are.
        settings: of the run.
        device: where the rows are wanted.
        half: whether the network computes in float16, which needs loss scaling.

    Raises:
        InputError: the optimiser's package is not installed.
    """

    def __init__(
        self,
        initial: Rows,
        learning: Mapping[str, TextEncoder],
        settings: Settings,
        device: torch.device,
        half: bool,
    ) -> None:
        self._settings = settings
        self.anchors = {key: rows.to(device) for key, rows in initial.items()}
        parameters = torch.nn.ParameterDict(
            {key: torch.nn.Parameter(rows.clone()) for key, rows in self.anchors.items()}
        )
        self._rows: dict[str, Tensor] = dict(parameters.items())
        for key, rows in self._rows.items():
            rows.requires_grad_(key in learning)
        self._lengths = {k: rows.norm(dim=1, keepdim=True) for k, rows in self.anchors.items()}
        self.rate = parse_learning_rate(settings.learning_rate, settings.schedule, settings.steps)
        self._learning = learning
        self._optimizer = self._optimizer_of(self._rows)
        # Gradients of a half-precision network are too small for its number format: scale the
        # loss up before, the gradients down after, and skip a step that overflows.
        self._scaler = GradScaler(device.type, init_scale=2.0**14, enabled=half)
        fixed = self._lengths if settings.fixed_length else None
        self._average = Average(settings.averaging, settings.steps, fixed)
        self._signal = GradientSignal()
        start = {key: self.anchors[key] for key in learning}
        self._walk, self._settling = NoiseWalk(start, self._optimizer_of), Settling(start)
        self.parts: dict[str, Stateful] = {
            "vectors": parameters,
            "optimizer": self._optimizer,
            "scaler": self._scaler,
            "average": self._average,
            "signal": self._signal,
            "walk": self._walk,
            "settling": self._settling,
        }

    def _optimizer_of(self, rows: Rows) -> torch.optim.Optimizer:
        chosen = OPTIMIZERS[self._settings.optimizer]
        groups = [
            {
                "params": [rows[key]],
                "scale": encoder.rate_scale if chosen.rate_of_rows else 1.0,
                "longest": LONGEST if self._settings.anytime else math.inf,
            }
            for key, encoder in self._learning.items()
        ]
        return chosen.make(groups, self.rate(0))

    def count(self, step: int) -> int:
        """How many rows are in use at a step.

        Progressive ones come in evenly until half-time; in a run without a length, one every
        `PROGRESSIVE` steps.
        """
        whole = row_count(self._rows)
        if not self._settings.progressive:
            return whole
        if self._settings.anytime:
            return min(whole, 1 + step // PROGRESSIVE)
        return min(whole, 1 + 2 * step * (whole - 1) // max(1, self._settings.steps - 1))

    def rows(self, step: int) -> dict[str, Tensor]:
        """The rows in use at a step, to compute a loss with: encoder key -> [vectors, width]."""
        return {key: rows[: self.count(step)] for key, rows in self._rows.items()}

    @property
    def scale(self) -> float:
        """By which gradients are larger than the loss's own until `update`."""
        return float(self._scaler.get_scale())

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss to that of the step."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def share(self, processes: Processes, loss: float) -> float:
        """Average gradient and loss over the processes that compute the step."""
        return processes.average(loss, self._rows.values())

    def update(self, step: int) -> bool:
        """Take the step; False where the gradient is no number, or never becomes one."""
        for optimizer in (self._optimizer, self._walk.optimizer):
            for group in optimizer.param_groups:
                group["lr"] = self.rate(step) * group["scale"]
        self._scaler.unscale_(self._optimizer)
        limit = self._settings.clip_gradient or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self._rows.values(), limit)
        if not self._scaler.is_enabled() and not torch.isfinite(norm):
            return False
        if torch.isfinite(norm):
            self._signal.update(self._rows, cut=self._settings.anytime)
            self._walk.follow(step, self._rows, self._pull)
            self._pull(self._rows)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad()
        if self._settings.renorm:
            restore_lengths(self._rows, self._lengths)
            restore_lengths(self._walk.rows, self._lengths)
        return not self._scaler.is_enabled() or self._scaler.get_scale() >= 1

    def _pull(self, rows: Rows) -> None:
        sizes = self._signal.strength if self._settings.anytime else None
        pull_back(rows, self.anchors, self._settings.pull, sizes)

    @property
    def estimate(self) -> Estimate:
        """Where the word that `learned` gave last is on its way."""
        return self._settling.estimate(self._signal.over_noise)

    def learned(self, step: int) -> dict[str, Tensor]:
        """What has been learned after a step, in tensors of its own; ask once for each step."""
        with learned_values(self._optimizer):
            averaged = self._average.update(step, self._rows)
            self._settling.update(self._rows, averaged, self._walk.rows)
        return {key: rows[: self.count(step)] for key, rows in averaged.items()}
