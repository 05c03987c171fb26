"""Train with several single-threaded processes that share their gradients.

The networks are so small that a second thread inside an operation helps little, and
on a busy machine it waits more than it works; a process per core on its share of the
batch, meeting once a step, keeps every core busy.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn


def rank() -> int:
    """This worker's number; 0 when it works alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def workers() -> int:
    """How many work together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def share(batch: torch.Tensor) -> torch.Tensor:
    """This worker's part of a batch that all of them drew alike."""
    return batch[rank() :: workers()]


@torch.no_grad()
def add_up(tensors: list[torch.Tensor]) -> None:
    """Replace every tensor by its sum over the workers."""
    if workers() == 1:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    at = 0
    for tensor in tensors:
        tensor.copy_(flat[at : at + tensor.numel()].view_as(tensor))
        at += tensor.numel()


@torch.no_grad()
def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace every gradient by its mean over the workers."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    for gradient in gradients:
        gradient /= workers()
    add_up(gradients)


def _start(
    number: int, count: int, meeting: str, job: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=number, world_size=count)
    job(*arguments)
    dist.destroy_process_group()


def run(count: int, job: Callable[..., None], *arguments: Any) -> None:
    """Run a job in `count` processes that can share gradients; in this one if alone."""
    if count == 1:
        torch.set_num_threads(1)
        job(*arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        spawn(_start, args=(count, meeting, job, arguments), nprocs=count)  # type: ignore[no-untyped-call]
