"""The weights of loaded models in the formats of fewer bits that people share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from .families import marks, patcher_of, supported, text_encoder
from .loaded import Loaded
from .small_families import HostFamily

STORAGE = "float8 storage"
"""Plain weights of 8 bits, which the host casts each time it computes."""


def formats() -> list[str]:
    """`STORAGE`, and all formats of the host at hand that pack a weight."""
    from comfy.quant_ops import QUANT_ALGOS

    return [STORAGE, *QUANT_ALGOS]


def quantise(loaded: Loaded, family: HostFamily, kind: str, text: Any = None) -> Loaded:
    """The same model with the larger weights of its network in a format of fewer bits.

    Everything computes in float32.

    Args:
        loaded: plain.
        family: its own.
        kind: one of `formats`.
        text: what takes the place of its text encoders, see `quantised_text`.
    """
    plain = loaded.model.model.diffusion_model
    with torch.inference_mode():
        if kind == STORAGE:
            model = network(family, torch.float16)
            model.model.diffusion_model.load_state_dict(plain.state_dict())
            store_in_8_bits(model.model.diffusion_model)
        else:
            model = network(family, torch.float32, quant_config={"mixed_ops": True})
            model.model.diffusion_model.load_state_dict(packed_state(plain, kind), strict=False)
    return replace(loaded, model=model, clip=text or loaded.clip)


def quantised_text(loaded: Loaded, family: HostFamily, kind: str, embeddings: Path) -> Any:
    """The host's CLIP with the weights of all layers of its encoders in a format of fewer bits."""
    plain = loaded.clip.cond_stage_model
    with torch.inference_mode():
        if kind == STORAGE:
            clip = text_encoder(family, embeddings, state=plain.state_dict())
            store_in_8_bits(clip.cond_stage_model)
            return clip
        mixed = {"quantization_metadata": {"mixed_ops": True}}
        return text_encoder(family, embeddings, state=packed_state(plain, kind), **mixed)


def dequantised(packed: Loaded, family: HostFamily, like: Loaded) -> Loaded:
    """A model of the same numbers in float32, as they are now: with LoRAs that are in them.

    Args:
        packed: what has been quantised.
        family: its own.
        like: what it was made of; its text encoders take on the numbers, too.
    """
    with torch.inference_mode():
        model = network(family, torch.float32)
        pairs = [(packed.model.model.diffusion_model, model.model.diffusion_model)]
        pairs.append((packed.clip.cond_stage_model, like.clip.cond_stage_model))
        for source, target in pairs:
            state = {name: numbers(weight) for name, weight in source.named_parameters()}
            target.load_state_dict(state, strict=False)
    return replace(like, model=model)


def numbers(weight: torch.Tensor) -> torch.Tensor:
    """What a weight stands for, in float32."""
    if type(weight).dequantize is not torch.Tensor.dequantize:
        return weight.dequantize().float()
    return weight.float()


def network(family: HostFamily, dtype: torch.dtype, **changes: Any) -> Any:
    """The host's ModelPatcher of a family's network, which computes in float32."""
    config = supported(family)
    config.set_inference_dtype(dtype, torch.float32)
    for name, value in changes.items():
        setattr(config, name, value)
    return patcher_of(config.get_model(marks(family), "", device="cpu"))


def packed_state(plain: torch.nn.Module, kind: str) -> dict[str, torch.Tensor]:
    """A file of weights with the larger ones packed, in the form in which the host reads it."""
    from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor

    mark = torch.tensor(list(json.dumps({"format": kind}).encode()), dtype=torch.uint8)
    found = dict(plain.state_dict())
    layout = QUANT_ALGOS[kind]["comfy_tensor_layout"]
    scale = {"scale": "recalculate"} if kind.startswith("float8") else {}
    # Some rotate numbers in groups of 256.
    groups = 256 if "convrot" in kind or "w4a8" in kind else 1
    for name, part in large(plain):
        if part.weight.shape[1] % groups:
            continue
        del found[f"{name}.weight"]
        packed = QuantizedTensor.from_float(part.weight.detach(), layout, **scale)
        found |= packed.state_dict(f"{name}.weight")
        found[f"{name}.comfy_quant"] = mark
    return found


def store_in_8_bits(module: torch.nn.Module) -> None:
    """Keep the larger weights as plain numbers of 8 bits."""
    for _, part in large(module):
        stored = part.weight.float().to(torch.float8_e4m3fn)
        part._parameters["weight"] = torch.nn.Parameter(stored, requires_grad=False)


def is_large(name: str, weight: torch.Tensor) -> bool:
    """Whether people pack such a weight: that of a linear layer, in whole groups of numbers."""
    return name.endswith("weight") and weight.ndim == 2 and not any(n % 32 for n in weight.shape)


def large(module: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Linear]]:
    """The linear layers whose weights people pack, with their names."""
    for name, part in module.named_modules():
        if isinstance(part, torch.nn.Linear) and is_large("weight", part.weight):
            yield name, part
