"""How much of a step fits into the GPU's memory, decided before the first one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.model_management
import torch
from torch import nn

from .gradients import format_of

PLAIN, CHECKPOINTED = 32, 7
"""What a step of one picture takes, by the host's reckoning for sampling it, which holds the
values of one block where a step holds those of all for the way back.

Counted for networks of full size in half precision, at most: Stable Diffusion 1 takes 9 times as
much, SDXL 19, Flux.1 22 and Z-Image 29; with checkpointing all take 2 to 2.5. Measured on an H200:
9, 19, 17 and 20, and 1.9 to 2.5. Measured with its text encoder on a CPU, Stable Diffusion 1 takes
12 and 7.
"""


@dataclass(frozen=True)
class Budget:
    """How a step is computed.

    Attributes:
        at_once: pictures of a batch computed together; the rest follow, to the same gradient.
        checkpointing: compute the network's inner values twice instead of keeping them.
        needed: bytes to ask the host for, beside the weights.
        wide_text: keep the text encoders' weights in the number format that they compute in.
        text_checkpointing: as `checkpointing`, for the text encoders.
    """

    at_once: int
    checkpointing: bool
    needed: int
    wide_text: bool
    text_checkpointing: bool


def plan(
    sampling: int,
    room: int | None,
    batch_size: int,
    checkpointing: bool,
    copies: int,
    text_copies: int,
) -> Budget:
    """Keep the whole batch together if it fits; else split it; else checkpoint, too.

    Splitting costs next to nothing, checkpointing a third of the time. The host's text encoders
    compute in float32: kept for the way back, the copies of half-precision weights would take
    twice the encoders' own memory (19 GB for T5-XXL). Where there is room left for that, they are
    made once and not at each use; else those of one layer at a time.

    Args:
        sampling: bytes that the host reckons with for sampling one picture.
        room: bytes of the GPU beside the weights; None where there is no GPU to fill.
        batch_size: pictures in a batch.
        checkpointing: what the user wants; what is on stays on.
        copies: of the network, see the function; with checkpointing only those of one block are
            there at a time.
        text_copies: of the text encoders.
    """
    for on in (False, True):
        each, once = sampling * (CHECKPOINTED if on else PLAIN), 0 if on else copies
        fitting = batch_size
        if room is not None:
            fitting = min(batch_size, max(0, room - once) // max(1, each))
        if fitting and (on or not checkpointing):
            needed = once + fitting * each
            wide = room is not None and not on and needed + text_copies <= room
            narrow = text_copies > 0 and not wide
            return Budget(fitting, on, needed + text_copies * wide, wide, on or narrow)
    return Budget(1, True, sampling * CHECKPOINTED, False, True)


def copies(module: nn.Module, dtype: torch.dtype) -> int:
    """Bytes of its weights in the number format that it computes in, where it is another.

    The host makes such copies as it goes along, and autograd keeps them for the way back.
    """
    return sum(count * dtype.itemsize for count, held in _weights(module) if held != dtype)


def room(model: Any, clip: Any) -> int | None:
    """Bytes of the GPU that are left beside the weights of both; None on the CPU."""
    device = model.load_device
    if device.type == "cpu":
        return None
    # What the host leaves to the desktop and other programs.
    reserved = comfy.model_management.extra_reserved_memory()
    weights = sum(
        count * held.itemsize
        for module in (model.model, clip.cond_stage_model)
        for count, held in _weights(module)
    )
    return int(comfy.model_management.get_total_memory(device) - reserved - weights)


def _weights(module: nn.Module) -> list[tuple[int, torch.dtype]]:
    """Of each weight how many values it has, and in which number format it is brought in."""
    return [
        (weight.numel(), format_of(part, name, weight))
        for part in module.modules()
        for name, weight in part.named_parameters(recurse=False)
    ]
