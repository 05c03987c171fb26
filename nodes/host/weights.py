"""The host's weights as tensors that gradients can flow past, wherever and however it keeps them.

Its nodes run in inference mode, so that what it loads are inference tensors, which autograd
refuses. It may keep weights off the device that computes, hold LoRAs back until it brings them in,
and keep weights packed into fewer bits (`QuantizedTensor`, GGUF).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import comfy.ops
import torch
from torch import Tensor, nn

from ...trainer.errors import InputError
from ...trainer.just_in_time import StandIn, to_device
from .errors import is_out_of_memory

PLACE = "_v"
"""The attribute in which the host keeps a layer's place in dynamic VRAM."""


class HostWeights:
    """How the weights of one of the host's modules come to where they compute.

    Attributes:
        module: the host's.
        device: where it computes.
        dtype: the number format in which it computes, and in which weights are unpacked.
        wide: bring the weights of layers that cast them at each use in this format at once, where
            that loses nothing: from fewer bits to more. Tables of words, which are not cast, stay
            as they are.
    """

    def __init__(
        self, module: nn.Module, device: torch.device, dtype: torch.dtype, *, wide: bool = False
    ) -> None:
        self.module, self.device, self.dtype, self._wide = module, device, dtype, wide

    def bring(self, module: nn.Module) -> list[StandIn]:
        """What a part of the module computes with, in place of what is there; `at_rest` before.

        Raises:
            InputError: weights that cannot be unpacked.
        """
        return self._brought(module.modules())

    def bring_outside(self, blocks: Iterable[nn.Module]) -> list[StandIn]:
        """The same for all that is in none of the blocks."""
        inside = {part for block in blocks for part in block.modules()}
        return self._brought(part for part in self.module.modules() if part not in inside)

    def check(self) -> None:
        """Unpack one weight of each kind, so that what cannot be is found before the first step.

        Raises:
            InputError: as `bring`.
        """
        seen = set()
        for part in self.module.modules():
            for _, name, original in entries(part):
                kind = packing(original)
                if kind and kind not in seen:
                    seen.add(kind)
                    self._unpacked(part, name, original)

    def numbers(self) -> Iterator[Tensor]:
        """Each weight as the module computes with it, with LoRAs, one after the other.

        While all weights are the host's, not `at_rest`.
        """
        seen = set()
        for part in self.module.modules():
            for name, original in part._parameters.items():
                if original is None or id(original) in seen:
                    continue
                seen.add(id(original))
                held_back = getattr(part, f"{name}_lowvram_function", None) is not None
                functions = getattr(part, f"{name}_function", None) or []
                made: Tensor = original
                if held_back or functions or packing(original) or original.is_meta:
                    made = self._made(part, name, original)
                for function in functions:
                    made = function(to_device(made, self.device).to(torch.float32, copy=True))
                yield made

    @torch.no_grad()
    def _brought(self, parts: Iterable[nn.Module]) -> list[StandIn]:
        found: list[StandIn] = []
        made: dict[tuple[int, int], Tensor] = {}
        for part in parts:
            for table, name, original in entries(part):
                patch = getattr(part, f"{name}_lowvram_function", None)
                key = (id(original), id(patch))
                if key not in made:
                    made[key] = frozen(self._made(part, name, original), original)
                if made[key] is not original:
                    found.append(StandIn(table, name, made[key]))
                if packing(original):
                    # Or the layer would pack what it gets, too, to multiply in fewer bits.
                    found.append(StandIn(vars(part), "comfy_force_cast_weights", True))
        return found

    def _made(self, part: nn.Module, name: str, original: Tensor) -> Tensor:
        """What takes the place of one weight; itself, if that will do."""
        patch = getattr(part, f"{name}_lowvram_function", None)
        dtype = self.dtype if packing(original) else format_of(part, name, original)
        held = original
        if packing(original):
            held = self._unpacked(part, name, original)
        elif original.is_meta:
            held = self._missing(part, name, original)
        elif patch is None and original.device != self.device:
            held = to_device(original, self.device).to(dtype)
        if patch is not None:
            held = to_device(held, self.device).to(torch.float32, copy=True)
            held = patch(held).to(dtype)
        casts = getattr(part, "comfy_cast_weights", False) and not isinstance(part, nn.Embedding)
        if self._wide and casts and held.is_floating_point():
            held = held.to(wider(held.dtype, self.dtype))
        return alias_of(held) if held.is_inference() else held

    def _unpacked(self, part: nn.Module, name: str, packed: Any) -> Tensor:
        """The numbers of a packed weight, by what brings them out in the host or in a pack."""
        try:
            return unpacked(part, packed, self.device, self.dtype)
        except (NotImplementedError, RuntimeError, ValueError, TypeError) as error:
            if is_out_of_memory(error):
                raise
            raise InputError(
                f"The weight “{self._name(part, name)}” is quantised as {packing(packed)}, which "
                "cannot be turned back into numbers here: load the model from a file in another "
                "format."
            ) from error

    def _missing(self, part: nn.Module, name: str, original: Tensor) -> Tensor:
        """What the host takes for a weight that the file does not have."""
        if not hasattr(comfy.ops, "materialize_meta_param"):
            raise InputError(
                f"The weight “{self._name(part, name)}” is not in memory: start ComfyUI with "
                "--disable-dynamic-vram."
            )
        dtype = format_of(part, name, original)
        return torch.zeros(original.shape, dtype=dtype, device=self.device)

    def _name(self, part: nn.Module, name: str) -> str:
        places = (place for place, module in self.module.named_modules() if module is part)
        return f"{next(places, '')}.{name}"


def entries(part: nn.Module) -> Iterator[tuple[dict[str, Any], str, Tensor]]:
    """A module's own parameters and buffers: the table that each stands in, its name there, it."""
    tables: tuple[dict[str, Any], ...] = (part._parameters, part._buffers)
    for table in tables:
        for name, original in table.items():
            if original is not None:
                yield table, name, original


def frozen(held: Tensor, original: Tensor) -> Tensor:
    """What takes the place of a tensor: a parameter for a parameter, but without gradient."""
    if held is original or not isinstance(original, nn.Parameter):
        return held
    return nn.Parameter(held, requires_grad=False)


def is_plain(weight: Tensor) -> bool:
    """Whether a tensor holds its numbers as they are, one after the other."""
    return type(weight) in (Tensor, nn.Parameter)


def packing(weight: Tensor) -> str:
    """The name of the format into which a weight is packed; empty for plain numbers."""
    if is_plain(weight):
        return ""
    kind = getattr(weight, "_layout_cls", None) or getattr(weight, "tensor_type", None)
    return str(getattr(kind, "name", kind) or type(weight).__name__)


def unpacked(part: Any, packed: Any, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The numbers of a packed weight, by what brings them out in the host or in a pack.

    Args:
        part: the layer that has it.
        packed: a subclass of tensors that has a `dequantize` of its own, such as the host's
            `QuantizedTensor`; or one of a layer that has `get_weight(packed, dtype)`, such as
            ComfyUI-GGUF's, which adds the LoRAs that it keeps beside the weight; or plain numbers
            of a pack's own type, which that one's are where they are not quantised.
        device: where to.
        dtype: in which number format.

    Raises:
        NotImplementedError: it is none of them.
    """
    numbers: Tensor
    if type(packed).dequantize is not Tensor.dequantize:
        numbers = packed.to(device=device, dtype=dtype).dequantize()
    elif hasattr(part, "get_weight"):
        numbers = part.get_weight(packed.to(device), dtype)
    elif packed.is_floating_point() and packed.dtype.itemsize > 1:
        numbers = packed.to(device=device, dtype=dtype)
    else:
        raise NotImplementedError(type(packed).__name__)
    return numbers.as_subclass(Tensor)


def format_of(part: nn.Module, name: str, weight: Tensor) -> torch.dtype:
    """The number format in which the host brings in a weight.

    With dynamic VRAM it keeps what was in the file, which may be in another.
    """
    return getattr(part, f"{name}_comfy_model_dtype", None) or weight.dtype


def compute_dtype_of(model: Any) -> torch.dtype:
    """The number format in which the host's MODEL computes."""
    dtype: torch.dtype = model.get_model_object("manual_cast_dtype") or model.model.get_dtype()
    return dtype


def wider(one: torch.dtype, other: torch.dtype) -> torch.dtype:
    """The number format of more bits; the first, if both have as many."""
    return other if other.itemsize > one.itemsize else one


def count_of(weight: Tensor) -> int:
    """How many numbers a weight has, packed or not."""
    return math.prod(weight.shape)


def alias_of(original: Tensor) -> Tensor:
    """An ordinary tensor on the memory of one that may be an inference tensor.

    An inference tensor cannot hand out such a view, but its memory can be shared.
    """
    alias = torch.empty(0, dtype=original.dtype, device=original.device)
    return alias.set_(
        original.untyped_storage(), original.storage_offset(), original.shape, original.stride()
    )
