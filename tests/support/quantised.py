"""The weights of loaded models in the formats of fewer bits that people share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from .families import marks, supported
from .loaded import Loaded
from .small_families import HostFamily

STORAGE = "float8 storage"
"""Plain weights of 8 bits, which the host casts each time it computes."""


def formats() -> list[str]:
    """`STORAGE`, and all formats of the host at hand that pack a weight."""
    from comfy.quant_ops import QUANT_ALGOS

    return [STORAGE, *QUANT_ALGOS]


def quantise(loaded: Loaded, family: HostFamily, kind: str) -> tuple[Loaded, Loaded]:
    """The same model with the larger weights of its network in a format of fewer bits.

    Everything computes in float32.

    Returns:
        it, and one of the same numbers in float32.
    """
    state = dict(loaded.model.model.diffusion_model.state_dict())
    with torch.inference_mode():
        whole = replace(loaded, model=network(family, torch.float32))
        if kind == STORAGE:
            packed = replace(loaded, model=network(family, torch.float16))
            packed.model.model.diffusion_model.load_state_dict(state)
            for part, weight in large(packed.model.model.diffusion_model):
                part._parameters["weight"] = _frozen(weight.float().to(torch.float8_e4m3fn))
        else:
            model = network(family, torch.float32, quant_config={"mixed_ops": True})
            model.model.diffusion_model.load_state_dict(packed_state(state, kind), strict=False)
            packed = replace(loaded, model=model)
        whole.model.model.diffusion_model.load_state_dict(
            {
                name: numbers(weight)
                for name, weight in packed.model.model.diffusion_model.named_parameters()
            },
            strict=False,
        )
    return packed, whole


def numbers(weight: torch.Tensor) -> torch.Tensor:
    """What a weight stands for, in float32."""
    if type(weight).dequantize is not torch.Tensor.dequantize:
        return weight.dequantize().float()
    return weight.float()


def network(family: HostFamily, dtype: torch.dtype, **changes: Any) -> Any:
    """The host's ModelPatcher of a family's network, which computes in float32."""
    import comfy.model_patcher

    config = supported(family)
    config.set_inference_dtype(dtype, torch.float32)
    for name, value in changes.items():
        setattr(config, name, value)
    cpu = torch.device("cpu")
    base = config.get_model(marks(family), "", device="cpu")
    return comfy.model_patcher.ModelPatcher(base, load_device=cpu, offload_device=cpu)


def packed_state(state: dict[str, torch.Tensor], kind: str) -> dict[str, torch.Tensor]:
    """A file of weights with the larger ones packed, in the form in which the host reads it."""
    from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor

    mark = torch.tensor(list(json.dumps({"format": kind}).encode()), dtype=torch.uint8)
    found = dict(state)
    for name, weight in state.items():
        # Numbers are rotated in groups of 256 there.
        if not is_large(name, weight) or ("convrot" in kind and weight.shape[1] % 256):
            continue
        prefix = name.removesuffix("weight")
        layout = QUANT_ALGOS[kind]["comfy_tensor_layout"]
        scale = {"scale": "recalculate"} if kind.startswith("float8") else {}
        with torch.inference_mode():
            packed = QuantizedTensor.from_float(weight, layout, **scale)
        del found[name]
        found |= packed.state_dict(name)
        found[f"{prefix}comfy_quant"] = mark
    return found


def is_large(name: str, weight: torch.Tensor) -> bool:
    """Whether people pack such a weight: that of a linear layer, in whole groups of numbers."""
    return name.endswith("weight") and weight.ndim == 2 and not any(n % 32 for n in weight.shape)


def large(module: torch.nn.Module) -> Iterator[tuple[torch.nn.Module, torch.Tensor]]:
    """The linear layers whose weights people pack, with these."""
    for part in module.modules():
        weight = part._parameters.get("weight")
        if isinstance(part, torch.nn.Linear) and weight is not None and is_large("weight", weight):
            yield part, weight


def _frozen(weight: torch.Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(weight, requires_grad=False)
