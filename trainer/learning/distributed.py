"""Several processes that learn one word together, started by `torchrun`.

All of them draw the same batches, because seed and step decide all that is random. Each
computes its part of every batch, and the gradients of the vectors, a few kilobytes, are
averaged by `torch.distributed`. So the word is that of one process, up to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed
from torch import Tensor

from ..data.batches import Batch
from ..errors import InputError
from ..settings import Settings

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among those that work together; by default it is alone.

    Attributes:
        rank: number of this process, from 0; the first one writes files and speaks.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def check(self, settings: Settings) -> None:
        """Find out whether a batch can be shared.

        Raises:
            InputError: it cannot be cut into equal parts.
        """
        if settings.batch_size % self.size:
            raise InputError(
                f"{self.size} processes share every batch, so batch_size must be a multiple of "
                f"{self.size}, not {settings.batch_size}."
            )

    def part_of(self, batch: Batch) -> Batch:
        """This process's part of a batch; all parts are of one size."""
        if self.size == 1:
            return batch
        size = len(batch.timesteps) // self.size
        return batch.part(slice(self.rank * size, (self.rank + 1) * size))

    def average(self, loss: float, vectors: Iterable[Tensor]) -> float:
        """Average the gradients over all processes, in place, and the loss with them.

        Args:
            loss: of this process's part.
            vectors: those without a gradient are left out; the same in every process.

        Returns:
            the loss of the whole batch.
        """
        if self.size == 1:
            return loss
        gradients = [v.grad for v in vectors if v.grad is not None]
        flat = torch.cat([g.detach().float().flatten() for g in gradients])
        flat = torch.cat([flat, flat.new_tensor([loss])])
        torch.distributed.all_reduce(flat)
        *parts, mean = torch.split(flat / self.size, [*(g.numel() for g in gradients), 1])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))
        return float(mean)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            torch.distributed.all_reduce(values)
        return values

    def total(self, values: Sequence[float], device: torch.device) -> list[float]:
        """The sum of each value over all processes."""
        if self.size == 1:
            return list(values)
        summed = torch.tensor(values, dtype=torch.float64, device=device)
        torch.distributed.all_reduce(summed)
        return [float(value) for value in summed]

    def shared(
        self,
        parts: Sequence[T],
        compute: Callable[[T], list[float]],
        count: Callable[[T], int],
        device: torch.device,
    ) -> list[float]:
        """What is computed of all parts, each by one of the processes.

        Args:
            parts: the same in every process.
            compute: the values of a part.
            count: how many they are.
            device: where they are exchanged.
        """
        found: list[float] = []
        for number, part in enumerate(parts):
            is_ours = number % self.size == self.rank
            found += compute(part) if is_ours else [0.0] * count(part)
        return self.total(found, device)

    def agree(self, value: T) -> T:
        """What the first process has, in all of them."""
        if self.size == 1:
            return value
        values = [value]
        torch.distributed.broadcast_object_list(values)
        return values[0]


ALONE = Processes()


@contextmanager
def joined(device: torch.device | None = None) -> Iterator[Processes]:
    """Join the processes that `torchrun` has started; without it, there is just this one.

    Args:
        device: where the vectors are; gradients on CUDA are exchanged by NCCL, others by gloo.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "TORCHELASTIC_RUN_ID" not in os.environ:
        yield ALONE
        return
    on_cuda = device is not None and device.type == "cuda"
    if on_cuda:
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if on_cuda else "gloo")
    try:
        yield Processes(torch.distributed.get_rank(), size)
    finally:
        torch.distributed.destroy_process_group()
