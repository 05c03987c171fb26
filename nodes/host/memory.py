"""What the host's weights take, and what a GPU has for training; see `trainer.memory`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import torch
from torch import nn

from ...trainer.just_in_time import blocks_of
from ...trainer.memory import Weights
from .weights import count_of, format_of, packing, wider


def weights_of(module: nn.Module, dtype: torch.dtype) -> Weights:
    """What the weights of one of the host's modules take, which computes in `dtype`."""
    blocks = list(blocks_of(module))
    inside = {part for block in blocks for part in block.modules()}

    def brought(parts: Iterable[nn.Module]) -> int:
        return sum(one.brought(dtype) for part in parts for one in _of(part))

    every = [one for part in module.modules() for one in _of(part)]
    return Weights(
        stored=sum(one.stored for one in every),
        unpacked=sum(one.count * dtype.itemsize for one in every if one.is_packed),
        copies=copies(module, dtype),
        outside=brought(part for part in module.modules() if part not in inside),
        blocks=[brought(block.modules()) for block in blocks],
    )


def copies(module: nn.Module, dtype: torch.dtype) -> int:
    """Bytes of its weights in the number format that it computes in, where it is another.

    The host makes such copies as it goes along, and autograd keeps them for the way back.
    """
    every = [one for part in module.modules() for one in _of(part)]
    return sum(e.count * dtype.itemsize for e in every if e.is_packed or e.held != dtype)


def capacity(model: Any, limit: int | None) -> int | None:
    """Bytes that training may take: the GPU's memory, or less; None if nothing limits it.

    Args:
        model: the host's ModelPatcher.
        limit: the most that it may take, if the user says so.
    """
    device = model.load_device
    if device.type == "cpu":
        return limit
    # What the host leaves to the desktop and other programs.
    reserved = comfy.model_management.extra_reserved_memory()
    total = int(comfy.model_management.get_total_memory(device) - reserved)
    return total if limit is None else min(total, limit)


def withheld(model: Any, taken: int | None) -> int:
    """Bytes of the GPU that training leaves alone because the user says so."""
    whole = capacity(model, None)
    return 0 if whole is None or taken is None else whole - taken


def bytes_to_bring(module: nn.Module, device: torch.device, dtype: torch.dtype) -> int:
    """What the weights of a block will take where it computes, beside what is there already.

    On a CPU, which has all of them, as if it were another device: what is decided is the same.
    """
    return sum(
        one.brought(dtype)
        for part in module.modules()
        for one in _of(part)
        if one.is_packed or device.type == "cpu" or one.device != device
    )


def bytes_there(module: nn.Module, device: torch.device) -> int:
    """What the host has on a GPU of a module's weights; nothing for a CPU, see above."""
    if device.type == "cpu":
        return 0
    every = (one for part in module.modules() for one in _of(part))
    return sum(one.stored for one in every if one.device == device)


@dataclass(frozen=True)
class _Weight:
    """One weight: how many numbers in which format, and what it takes as the host keeps it."""

    count: int
    held: torch.dtype
    stored: int
    is_packed: bool
    is_table: bool
    device: torch.device

    def brought(self, dtype: torch.dtype) -> int:
        """Bytes of what a layer that computes in `dtype` gets, and makes of it."""
        if self.is_packed:
            return self.count * dtype.itemsize
        if self.is_table or not self.held.is_floating_point:
            return self.count * self.held.itemsize
        held = wider(self.held, dtype)
        return self.count * (held.itemsize + (dtype.itemsize if held != dtype else 0))


def _of(part: nn.Module) -> list[_Weight]:
    found = []
    for name, weight in part.named_parameters(recurse=False):
        count, held, is_packed = count_of(weight), format_of(part, name, weight), packing(weight)
        stored = weight.nbytes if is_packed else count * held.itemsize
        is_table = isinstance(part, nn.Embedding)
        found.append(_Weight(count, held, stored, bool(is_packed), is_table, weight.device))
    return found
