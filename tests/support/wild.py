"""Embedding files: those that others made, and ones that look like what their tools write."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from textual_inversion.trainer.files.picture_files import write_picture
from torch import Tensor

from .paths import DATA

WILD = DATA / "embeddings"


def wild(name: str) -> Path:
    """The path of a file of the community; the test skips where there is none."""
    path = WILD / name
    if not path.is_file():
        pytest.skip(f"no community file {name} beside the repository")
    return path


def rows(count: int, width: int, seed: int = 0) -> Tensor:
    """Float32 [count, width] of the size that learned vectors have."""
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) * 0.02


def a1111(tensor: Tensor, **changes: object) -> dict[str, object]:
    """The dictionary of AUTOMATIC1111's `.pt` files."""
    return {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": tensor},
        "name": "someone's name",
        "step": 500,
        "sd_checkpoint": "c35782bad8",
        "sd_checkpoint_name": "model",
    } | changes


def paper(parameters: Mapping[str, Tensor]) -> dict[str, object]:
    """What the code of the paper saves: parameters of a module, tokens as tensors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "string_to_token": {word: torch.tensor(265) for word in parameters},
            "string_to_param": torch.nn.ParameterDict(
                {word: torch.nn.Parameter(tensor) for word, tensor in parameters.items()}
            ),
        }


def lora(rank: int = 2) -> dict[str, Tensor]:
    """Some tensors of a LoRA as kohya's scripts name them."""
    name = "lora_te_text_model_encoder_layers_{}_mlp_fc1.lora_{}.weight"
    return {
        name.format(layer, side): rows(*shape)
        for layer in range(3)
        for side, shape in (("down", (rank, 768)), ("up", (3072, rank)))
    }


L, H, G, T5 = (rows(3, width) for width in (768, 1024, 1280, 4096))

LAYOUTS: Mapping[str, tuple[str, object, Mapping[str, Tensor]]] = {
    "AUTOMATIC1111": (".pt", a1111(L), {"clip_l": L}),
    "AUTOMATIC1111 for SD2": (".pt", a1111(H), {"clip_h": H}),
    "AUTOMATIC1111 without steps": (".pt", a1111(L, step=None, sd_checkpoint=None), {"clip_l": L}),
    "AUTOMATIC1111, one vector without a dimension": (".pt", a1111(L[0]), {"clip_l": L[:1]}),
    "AUTOMATIC1111, half precision": (".pt", a1111(L.half()), {"clip_l": L.half().float()}),
    "paper": (".pt", paper({"*": L}), {"clip_l": L}),
    "diffusers": (".safetensors", {"<cat-toy>": L[0]}, {"clip_l": L[:1]}),
    "diffusers .bin": (".bin", {"<cat-toy>": L[0]}, {"clip_l": L[:1]}),
    "diffusers .bin, a parameter": (".bin", {"<cat>": torch.nn.Parameter(L)}, {"clip_l": L}),
    "diffusers .bin, ordered": (".bin", OrderedDict({"a cat": L}), {"clip_l": L}),
    "diffusers for SD2": (".bin", {"<cat-toy>": H}, {"clip_h": H}),
    "diffusers, unknown encoder": (".bin", {"<cat-toy>": rows(2, 32)}, {"width_32": rows(2, 32)}),
    "diffusers advanced": (".safetensors", {"clip_l": L, "clip_g": G}, {"clip_l": L, "clip_g": G}),
    "diffusers advanced for Flux": (
        ".safetensors",
        {"clip_l": L, "t5": T5},
        {"clip_l": L, "t5xxl": T5},
    ),
    "kohya": (".safetensors", {"emb_params": L}, {"clip_l": L}),
    "kohya .pt": (".pt", {"emb_params": L}, {"clip_l": L}),
    "kohya .ckpt": (".ckpt", {"emb_params": L}, {"clip_l": L}),
    "one vector in three brackets": (".pt", {"<cat>": L[:1][None]}, {"clip_l": L[:1]}),
    "one vector in three brackets, bare": (".pt", L[:1][None], {"clip_l": L[:1]}),
    "kohya for SD2": (".safetensors", {"emb_params": H}, {"clip_h": H}),
    "kohya for SDXL": (
        ".safetensors",
        {"clip_l": L.half(), "clip_g": G.half()},
        {"clip_l": L.half().float(), "clip_g": G.half().float()},
    ),
    "OneTrainer": (
        ".safetensors",
        {"emp_params": L, "emp_params_out": rows(3, 768, 1)},
        {"clip_l": L},
    ),
    "OneTrainer for SD3": (
        ".safetensors",
        {"clip_l": L, "clip_g": G, "t5": T5, "t5_out": T5 + 1},
        {"clip_l": L, "clip_g": G, "t5xxl": T5},
    ),
    "OneTrainer for Flux, once": (
        ".safetensors",
        {"clip_g": L, "t5": T5},
        {"clip_l": L, "t5xxl": T5},
    ),
    "OneTrainer for HiDream": (
        ".safetensors",
        {"clip_l": L, "clip_g": G, "t5": T5, "llama": T5 * 2},
        {"clip_l": L, "clip_g": G, "t5xxl": T5, "llama": T5 * 2},
    ),
    "OneTrainer for another encoder": (
        ".safetensors",
        {"gemma": rows(2, 2304)},
        {"gemma": rows(2, 2304)},
    ),
    "OneTrainer in a LoRA": (
        ".safetensors",
        lora() | {"bundle_emb.a.b.clip_l": L, "bundle_emb.a.b.clip_l_out": L + 1},
        {"clip_l": L},
    ),
    "OneTrainer in a LoRA, as the host reads it": (
        ".safetensors",
        lora() | {"bundle_emb.word.string_to_param.*": L},
        {"clip_l": L},
    ),
    "OneTrainer in an SDXL LoRA": (
        ".safetensors",
        lora() | {"bundle_emb.word.clip_l": L, "bundle_emb.word.clip_g": G},
        {"clip_l": L, "clip_g": G},
    ),
    "eight bits": (
        ".safetensors",
        {"emb_params": L.to(torch.float8_e4m3fn)},
        {"clip_l": L.to(torch.float8_e4m3fn).float()},
    ),
    "invoke-training": (".safetensors", {"clip_l": L, "clip_g": G}, {"clip_l": L, "clip_g": G}),
    "refiners": (".safetensors", {"my own token": L[0]}, {"clip_l": L[:1]}),
    "cog": (
        ".pti",
        {"text_encoders_0": L, "text_encoders_1": G},
        {"clip_l": L, "clip_g": G},
    ),
    "oss-roettger": (
        ".pt",
        {"emb": L.bfloat16(), "emb2": G.bfloat16()},
        {"clip_l": L.bfloat16().float(), "clip_g": G.bfloat16().float()},
    ),
    "oss-roettger, a list": (".pt", [L, G], {"clip_l": L, "clip_g": G}),
    "a list of dictionaries": (
        ".pt",
        [{"a": L[0], "b": G[0]}, {"a": L[1], "b": G[1]}],
        {"clip_l": L[:2], "clip_g": G[:2]},
    ),
    "a bare tensor": (".pt", L, {"clip_l": L}),
    "SDXL's second encoder alone": (".safetensors", {"clip_g": G}, {"clip_g": G}),
    "a tiny model": (".safetensors", {"clip_l": rows(2, 32)}, {"clip_l": rows(2, 32)}),
}
"""Tool -> suffix of its file, content, and the vectors that are to be read from it."""


def write(content: object, path: Path, metadata: Mapping[str, str] | None = None) -> Path:
    """Write a file in the container of its suffix."""
    if path.suffix in (".safetensors", ".pti"):
        assert isinstance(content, dict)
        contiguous = {key: tensor.contiguous().clone() for key, tensor in content.items()}
        save_file(contiguous, path, dict(metadata) if metadata else None)
    elif path.suffix == ".png":
        assert isinstance(content, dict)
        path.write_bytes(write_picture(content, Image.new("RGB", (64, 64), (99, 99, 99))))
    else:
        torch.save(content, path)
    return path
