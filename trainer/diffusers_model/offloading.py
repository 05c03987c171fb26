"""The parts of a diffusers pipeline with the weights of their blocks off the device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from ..just_in_time import JustInTime, StandIn, blocks_of, to_device


def offload(unet: Any, text_encoders: Sequence[Any], device: torch.device) -> ExitStack:
    """Have all blocks compute on a device, with weights that come when they do.

    What stands outside the blocks goes to the device.

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

    levels = (*unet.down_blocks, unet.mid_block, *unet.up_blocks)
    parts = [(unet, [block for level in levels for block in blocks_of(level)])]
    parts += [(encoder, list(blocks_of(encoder))) for encoder in text_encoders]
    for part, blocks in parts:
        inside = {module for block in blocks for module in block.modules()}
        for table, name, tensor in _entries(m for m in part.modules() if m not in inside):
            table[name] = _on(device, tensor)
        stack.enter_context(coming.over(blocks, bring))
    return stack


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
