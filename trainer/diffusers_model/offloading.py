"""The parts of a diffusers pipeline with the weights of their blocks off the device, and when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..just_in_time import JustInTime, StandIn, blocks_of, checkpointed, to_device
from ..memory import Budget, Weights, plan, told

NUMBERS = 10_000
"""How many numbers ComfyUI reckons with for sampling one position of the latents of Stable
Diffusion 1 and 2, and fewer for SDXL; see `memory.PLAIN` for what a step takes of them."""


def budget_for(
    unet: Any,
    text_encoders: Sequence[Any],
    capacity: int | None,
    *,
    batch_size: int,
    resolution: int,
    checkpointing: bool,
    offload: bool,
) -> tuple[Budget, str]:
    """How a step is computed, and in one line why; empty if there was nothing to choose.

    Args:
        unet: on any device.
        text_encoders: likewise.
        capacity: bytes that these and a step may take; None where nothing limits it.
        batch_size: pictures in a batch.
        resolution: of the pictures.
        checkpointing: what the user wants; what is on stays on.
        offload: let all blocks' weights come just in time, whether there is room or not.
    """
    network = _weights(unet, _blocks(unet))
    encoders = [_weights(encoder, list(blocks_of(encoder))) for encoder in text_encoders]
    text = Weights(
        stored=sum(one.stored for one in encoders),
        outside=sum(one.outside for one in encoders),
        blocks=[size for one in encoders for size in one.blocks],
    )
    sampling = NUMBERS * (resolution // 8) ** 2 * unet.dtype.itemsize
    budget = plan(sampling, capacity, batch_size, checkpointing, network, text)
    if offload:
        budget = replace(budget, checkpointing=True, just_in_time=True, staying=0)
    return budget, told(budget, capacity, network, text)


def offload(
    unet: Any, text_encoders: Sequence[Any], device: torch.device, staying: int = 0
) -> ExitStack:
    """Have all blocks compute on a device, with weights that come when they do.

    What stands outside the blocks goes to the device, and so do blocks for as long as they fit
    into `staying` bytes.

    Returns:
        what ends it: then no block computes there any more.
    """
    coming = JustInTime(device)
    stack = ExitStack()

    def bring(block: nn.Module) -> list[StandIn]:
        return [
            StandIn(table, name, _on(device, tensor))
            for table, name, tensor in _entries(block.modules())
            if tensor.device != device
        ]

    parts = [(unet, _blocks(unet))]
    parts += [(encoder, list(blocks_of(encoder))) for encoder in text_encoders]
    for part, blocks in parts:
        waiting = []
        for block in blocks:
            size = _bytes(block.modules())
            if size > staying:
                waiting.append(block)
                continue
            staying -= size
            stack.enter_context(checkpointed([block]))
        absent = {module for block in waiting for module in block.modules()}
        for table, name, tensor in _entries(m for m in part.modules() if m not in absent):
            table[name] = _on(device, tensor)
        stack.enter_context(coming.over(waiting, bring))
    return stack


def _blocks(unet: Any) -> list[nn.Module]:
    levels = (*unet.down_blocks, unet.mid_block, *unet.up_blocks)
    # Some small U-Nets have no middle.
    return [block for level in levels if level is not None for block in blocks_of(level)]


def _weights(part: nn.Module, blocks: Sequence[nn.Module]) -> Weights:
    sizes = [_bytes(block.modules()) for block in blocks]
    stored = _bytes(part.modules())
    return Weights(stored=stored, outside=stored - sum(sizes), blocks=sizes)


def _bytes(modules: Iterable[nn.Module]) -> int:
    return sum(tensor.nbytes for _, _, tensor in _entries(modules))


def _entries(modules: Iterable[nn.Module]) -> list[tuple[dict[str, Any], str, Tensor]]:
    return [
        (table, name, tensor)
        for module in modules
        for table in (module._parameters, module._buffers)
        for name, tensor in table.items()
        if tensor is not None
    ]


def _on(device: torch.device, tensor: Tensor) -> Tensor:
    moved = to_device(tensor, device)
    return nn.Parameter(moved, requires_grad=False) if isinstance(tensor, nn.Parameter) else moved
