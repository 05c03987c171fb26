"""Checkpoints of random weights, in the layout and of the families that ComfyUI recognises.

They are as small as the loader permits: of the UNet only the width of its first level and of its
context is prescribed, the text encoders have their real sizes. Nothing sensible can be
drawn with them, but every path of the code runs as with real ones.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file

from .layout import (
    CHANNELS,
    Shapes,
    TextEncoder,
    UNet,
    autoencoder_shapes,
    open_clip_shapes,
    transformers_shapes,
    unet_shapes,
)
from .paths import TAESD, cache_dir

VERSION = 2
"""To be raised with every change of the weights: checkpoints in the cache are kept by it."""

Weights = dict[str, torch.Tensor]

CLIP_L = TextEncoder(width=768, layers=12, heads=12, activation="quick_gelu")
CLIP_H = TextEncoder(width=1024, layers=24, heads=16, activation="gelu")
CLIP_G = TextEncoder(width=1280, layers=32, heads=20, activation="gelu")

UNET_SD1 = UNet(
    context=768, depths=(1, 1, 0), depths_up=(1, 1, 0), depth_middle=1, blocks=1, heads=8,
    linear=False,
)  # fmt: skip
# ComfyUI looks for the spread of a weight in the last of twelve blocks on the way up.
UNET_SD2 = UNet(
    context=1024, depths=(1, 0, 0, 0), depths_up=(1, 0, 0, 0), depth_middle=1, blocks=2, heads=5,
    linear=True,
)  # fmt: skip
# The transformers on the way down are those of KOALA-700M, the smallest SDXL in ComfyUI's list.
UNET_SDXL = UNet(
    context=2048, depths=(0, 2, 5), depths_up=(0, 1, 1), depth_middle=5, blocks=1, heads=5,
    linear=True, extra=2816,
)  # fmt: skip

V_PREDICTION_MARK = "output_blocks.11.1.transformer_blocks.0.norm1.bias"


@dataclass(frozen=True)
class Family:
    """What makes a checkpoint of one family."""

    name: str
    unet: UNet
    encoders: Mapping[str, TextEncoder]
    """By the prefix of their weights."""
    latent_scale: float
    v_prediction: bool = False


SD1 = Family(
    "sd1", UNET_SD1, {"cond_stage_model.transformer.text_model.": CLIP_L}, latent_scale=0.18215
)
SD2_V = Family(
    "sd2_v", UNET_SD2, {"cond_stage_model.model.": CLIP_H}, latent_scale=0.18215, v_prediction=True
)
SDXL = Family(
    "sdxl",
    UNET_SDXL,
    {
        "conditioner.embedders.0.transformer.text_model.": CLIP_L,
        "conditioner.embedders.1.model.": CLIP_G,
    },
    latent_scale=0.13025,
)


def sd1(path: Path, *, dtype: torch.dtype = torch.float16, seed: int = 0) -> Path:
    """Write a checkpoint of Stable Diffusion 1."""
    return write(SD1, path, dtype=dtype, seed=seed)


def sd2_v(path: Path, *, dtype: torch.dtype = torch.float16, seed: int = 0) -> Path:
    """Write a checkpoint of Stable Diffusion 2 that predicts v."""
    return write(SD2_V, path, dtype=dtype, seed=seed)


def sdxl(path: Path, *, dtype: torch.dtype = torch.float16, seed: int = 0) -> Path:
    """Write a checkpoint of Stable Diffusion XL."""
    return write(SDXL, path, dtype=dtype, seed=seed)


def write(family: Family, path: Path, *, dtype: torch.dtype = torch.float16, seed: int = 0) -> Path:
    """Write a checkpoint of one family."""
    weights: Weights = {}

    def add(prefix: str, shapes: Shapes, init: Callable[[str, torch.Tensor], torch.Tensor]) -> None:
        for name, shape in shapes.items():
            # A generator per weight: its value depends on nothing but seed and name.
            generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}:{name}".encode()))
            noise = torch.randn(shape, generator=generator)
            weights[prefix + name] = init(name, noise).to(dtype)

    add("model.diffusion_model.", unet_shapes(family.unet), init_unet)
    for prefix, encoder in family.encoders.items():
        open_clip = prefix.endswith(".model.")
        shapes = (open_clip_shapes if open_clip else transformers_shapes)(encoder)
        add(prefix, shapes, partial(init_text, encoder))
    for name, weight in autoencoder(seed).items():
        weights[f"first_stage_model.taesd_{name}"] = weight.to(dtype)
    # TAESD's latents are scaled already, the host expects unscaled ones.
    weights["first_stage_model.vae_scale"] = torch.tensor(family.latent_scale)
    weights["first_stage_model.vae_shift"] = torch.tensor(0.0)

    # Never a half-written file under the final name, also with two processes at work.
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    save_file(weights, part, metadata={"format": "pt"})
    part.replace(path)
    return path


def cached(family: Family, *, dtype: torch.dtype = torch.float16) -> Path:
    """A checkpoint of one family in the cache, made if it is not there."""
    kind = "fp16" if dtype == torch.float16 else str(dtype).removeprefix("torch.")
    autoencoder_kind = "taesd" if TAESD.is_dir() else "random-vae"
    folder = cache_dir() / f"checkpoints-{VERSION}"
    folder.mkdir(exist_ok=True)
    path = folder / f"random-{family.name}-{kind}-{autoencoder_kind}.safetensors"
    with FileLock(f"{path}.lock"):  # of two processes that need it, one makes it
        return path if path.exists() else write(family, path, dtype=dtype)


def init_unet(name: str, noise: torch.Tensor) -> torch.Tensor:
    """Weights with which every layer keeps the scale of what it gets.

    Unlike the usual start of training no output layer is zero: the prediction depends on
    picture, time step and context.
    """
    if noise.dim() == 1:
        if name == V_PREDICTION_MARK:
            return 0.3 * noise
        is_norm_weight = name.endswith(".weight")
        return 1 + 0.1 * noise if is_norm_weight else 0.02 * noise
    fan_in = math.prod(noise.shape[1:])
    gain = 1.0
    if ".attn2.to_q" in name or ".attn2.to_k" in name:
        # Attention that prefers some words, or the context would come as its mean only.
        gain = 2.0
    return noise * gain / math.sqrt(fan_in)


def init_text(encoder: TextEncoder, name: str, noise: torch.Tensor) -> torch.Tensor:
    """Weights like those with which CLIP's training starts."""
    if "token_embedding" in name:
        # Rows as long as in trained encoders, where their norm is about 0.4.
        return noise * 0.4 / math.sqrt(encoder.width)
    if "position" in name:
        return noise * 0.005
    if noise.dim() == 1:
        return torch.ones_like(noise) if _is_norm_weight(name) else torch.zeros_like(noise)
    if name.endswith(("out_proj.weight", "fc2.weight", "c_proj.weight")):
        return noise * 0.02 / math.sqrt(2 * encoder.layers)
    return noise * 0.02


def _is_norm_weight(name: str) -> bool:
    return name.endswith(".weight") and ("norm" in name or "ln_" in name)


def autoencoder(seed: int = 0) -> Weights:
    """TAESD's weights by `encoder.…` and `decoder.…`: the real ones if present, else random."""
    weights: Weights = {}
    for side, shapes in autoencoder_shapes().items():
        file = TAESD / f"taesd_{side}.safetensors"
        if file.is_file():
            part = load_file(file)
            if {name: tuple(weight.shape) for name, weight in part.items()} != shapes:
                raise ValueError(f"{file} is not a TAESD of the expected layout.")
        else:
            part = {}
            for name, shape in shapes.items():
                generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}:{name}".encode()))
                noise = torch.randn(shape, generator=generator)
                # As TAESD's own are: no checkpoint in half precision rounds them any more.
                part[name] = init_autoencoder(side, name, noise).half()
        weights.update({f"{side}.{name}": weight.float() for name, weight in part.items()})
    return weights


def init_autoencoder(side: str, name: str, noise: torch.Tensor) -> torch.Tensor:
    """Weights with which noise becomes latents of scale 1, and these become grey-ish pictures."""
    if noise.dim() == 1:
        # The decoder gives values between 0 and 1.
        return torch.full_like(noise, 0.5) if (side, name) == ("decoder", "19.bias") else 0 * noise
    if name == "19.weight":
        gain = 0.15
    elif name == "14.weight":
        gain = 1.5
    else:
        # The last layer of a block is added to what went in.
        gain = 0.3 if name.endswith(".conv.4.weight") else math.sqrt(2)
    return noise * gain / math.sqrt(math.prod(noise.shape[1:]))


def unet_parameters(unet: UNet) -> int:
    """How many numbers a UNet has."""
    return sum(math.prod(shape) for shape in unet_shapes(unet).values())


__all__ = [
    "CHANNELS",
    "CLIP_G",
    "CLIP_H",
    "CLIP_L",
    "SD1",
    "SD2_V",
    "SDXL",
    "Family",
    "autoencoder",
    "cached",
    "sd1",
    "sd2_v",
    "sdxl",
    "unet_parameters",
    "write",
]
