"""What a step of a network of full size takes, counted without the memory and the time for it.

The network stands on PyTorch's device `meta`, where tensors have shapes and no values. All
that the host and autograd would allocate on the way there and back is added up.
"""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from .small_families import FLUX, LUMINA, unet


@dataclass(frozen=True)
class FullSize:
    """A network as people have it.

    Attributes:
        config: name of its class in `comfy.supported_models`.
        network: the sizes of its layers.
        latents: shape of what one picture becomes.
        context: shape of the text encoders' output for one prompt.
        pooled: width of the vector beside it, if the network takes one.
        encoders: its text encoders, `module.Class` in the host's package `comfy`.
        inputs: what else its `forward` takes: name -> value.
    """

    config: str
    network: Mapping[str, Any]
    latents: Sequence[int]
    context: Sequence[int]
    encoders: Sequence[str]
    pooled: int | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)


CLIP_L, CLIP_G = "sd1_clip.SDClipModel", "sdxl_clip.SDXLClipG"
T5 = "text_encoders.sd3_clip.T5XXLModel"

FULL_SIZE = {
    "sd1-512": FullSize(
        "SD15",
        unet(
            768, model_channels=320, num_res_blocks=[2] * 4, channel_mult=[1, 2, 4, 4],
            transformer_depth=[1] * 6 + [0] * 2, transformer_depth_output=[1] * 9 + [0] * 3,
            num_heads=8,
        ),
        (4, 64, 64), (77, 768), [CLIP_L],
    ),
    "sdxl-1024": FullSize(
        "SDXL",
        unet(
            2048, model_channels=320, num_res_blocks=[2] * 3, channel_mult=[1, 2, 4],
            transformer_depth=[0, 0, 2, 2, 10, 10], transformer_depth_middle=10,
            transformer_depth_output=[0, 0, 0, 2, 2, 2, 10, 10, 10], num_heads=-1,
            num_head_channels=64, use_linear_in_transformer=True, adm_in_channels=2816,
            num_classes="sequential",
        ),
        (4, 128, 128), (77, 2048), [CLIP_L, CLIP_G], 2816,
    ),
    "flux-1024": FullSize(
        "Flux",
        FLUX | {"image_model": "flux", "guidance_embed": False, "vec_in_dim": 768,
                "context_in_dim": 4096, "hidden_size": 3072, "num_heads": 24, "depth": 19,
                "depth_single_blocks": 38},
        (16, 128, 128), (256, 4096), [CLIP_L, T5], 768,
    ),
    "z-image-1024": FullSize(
        "ZImage",
        LUMINA | {"dim": 3840, "n_layers": 30, "n_refiner_layers": 2, "n_heads": 30,
                  "n_kv_heads": 30, "cap_feat_dim": 2560, "axes_dims": [32, 48, 48],
                  "axes_lens": [1536, 512, 512], "multiple_of": 256, "rope_theta": 256.0,
                  "ffn_dim_multiplier": 8 / 3, "z_image_modulation": True, "time_scale": 1000.0,
                  "pad_tokens_multiple": 32},
        (16, 128, 128), (128, 2560), ["text_encoders.z_image.Qwen3_4BModel"],
        inputs={"num_tokens": 128},
    ),
}  # fmt: skip

LARGE = {
    "sd3.5-medium-1024": FullSize(
        "SD3",
        {
            "in_channels": 16, "out_channels": 16, "patch_size": 2, "depth": 24,
            "input_size": None, "adm_in_channels": 768 + 1280, "num_patches": 147456,
            "pos_embed_max_size": 384, "qk_norm": "rms", "pos_embed_scaling_factor": None,
            "x_block_self_attn_layers": list(range(13)),
            "context_embedder_config": {
                "target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 1536}
            },
        },
        (16, 128, 128), (154, 4096), [CLIP_L, CLIP_G, T5], 768 + 1280,
    ),
    "chroma-1024": FullSize(
        "Chroma",
        FLUX | {"image_model": "chroma", "in_channels": 64, "out_channels": 64, "in_dim": 64,
                "out_dim": 3072, "hidden_dim": 5120, "n_layers": 5, "vec_in_dim": None,
                "context_in_dim": 4096, "hidden_size": 3072, "num_heads": 24, "depth": 19,
                "depth_single_blocks": 38},
        (16, 128, 128), (256, 4096), [T5], inputs={"guidance": torch.ones(1)},
    ),
    "qwen-image-1024": FullSize(
        "QwenImage",
        {"image_model": "qwen_image", "in_channels": 64, "num_layers": 60,
         "attention_head_dim": 128, "num_attention_heads": 24, "joint_attention_dim": 3584,
         "axes_dims_rope": (16, 56, 56)},
        (16, 1, 128, 128), (128, 3584), ["text_encoders.qwen_image.Qwen25_7BVLIModel"],
    ),
}  # fmt: skip


TITLES = {
    "sd1-512": "Stable Diffusion 1",
    "sdxl-1024": "SDXL",
    "sd3.5-medium-1024": "Stable Diffusion 3.5 medium",
    "z-image-1024": "Z-Image",
    "chroma-1024": "Chroma",
    "flux-1024": "Flux.1",
    "qwen-image-1024": "Qwen-Image",
}
"""What people call them, from the smallest to the largest."""

CARDS = (4, 6, 8, 12, 16, 24, 48)
"""Common sizes of GPUs' memory, in GB."""

FREE = 0.93
"""How much of it is for us: other programs and the desktop have the rest."""

GB = 1 << 30


class LiveBytes(TorchDispatchMode):
    """Adds up what is allocated while it is open, and takes off what is freed.

    Attributes:
        now: bytes that are in use.
        peak: the most that there were.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.now = self.peak = 0
        # What the network has is no part of what a step takes.
        self._known = WeakIdKeyDictionary()
        for tensor in (*module.parameters(), *module.buffers()):
            self._known[tensor.untyped_storage()] = True

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known[storage] = True
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, storage.nbytes())

    def _forget(self, size: int) -> None:
        self.now -= size


class _Fused(torch.autograd.Function):
    """Keeps what the attention kernels of GPUs keep: what goes in and what comes out."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, out)
        return out

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor, ...]:
        q, k, v, _ = ctx.saved_tensors
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def fused_attention(
    original: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, heads: int, *_: Any,
    skip_reshape: bool = False, skip_output_reshape: bool = False, **__: Any,
) -> Tensor:  # fmt: skip
    """An attention override in the form that the host's networks call."""
    out: Tensor = _Fused.apply(q, k, v)
    return out.transpose(1, 2).flatten(2) if skip_reshape and not skip_output_reshape else out


def network(full: FullSize, dtype: torch.dtype, device: torch.device | str = "meta") -> Any:
    """The host's model of this size; without memory, and on any other device without values."""
    import comfy.supported_models

    config = getattr(comfy.supported_models, full.config)(dict(full.network))
    config.set_inference_dtype(dtype, None)
    return config.get_model({}, "", device=device).requires_grad_(False)


def text_encoders(full: FullSize) -> nn.Module:
    """The text encoders of this size in half precision, without memory."""
    made = nn.Module()
    for name in full.encoders:
        module, kind = f"comfy.{name}".rsplit(".", 1)
        encoder = getattr(importlib.import_module(module), kind)
        made.add_module(kind, encoder(device="meta", dtype=torch.float16))
    return made


def half_precision(full: FullSize) -> torch.dtype:
    """In which the host computes such a network on a GPU."""
    return torch.float16 if full.config in ("SD15", "SDXL") else torch.bfloat16


def chosen_on_cards(name: str, base: Any) -> str:
    """What the budget chooses on each card for one picture: a line of the table in the docs.

    Args:
        name: one of `TITLES`.
        base: its network, from `network`.
    """
    from textual_inversion.nodes.host.memory import weights_of
    from textual_inversion.trainer.memory import plan

    full = {**FULL_SIZE, **LARGE}[name]
    own = weights_of(base, half_precision(full))
    text = weights_of(text_encoders(full), torch.float32)
    sampling = int(base.memory_required([1, *full.latents]))
    blocks = sum(own.blocks) + sum(text.blocks)
    cells = []
    for card in CARDS:
        room = int(FREE * card * GB)
        budget = plan(sampling, room, 1, False, own, text)
        if not budget.just_in_time:
            cells.append("stay ¹" if budget.checkpointing else "stay")
        elif budget.needed > room:
            cells.append("–")
        else:
            cells.append(f"{100 * (1 - budget.staying / blocks):.0f} %")
    stored = (own.stored + text.stored) / GB
    least = plan(sampling, 1, 1, False, own, text).needed / GB
    first = [TITLES[name], name.rpartition("-")[2], f"{stored:.3g} GB", f"{least:.1f} GB"]
    return f"| {' | '.join(first + cells)} |"


def step_bytes(
    base: Any,
    full: FullSize,
    dtype: torch.dtype,
    *,
    checkpointing: bool = False,
    just_in_time: bool = False,
) -> int:
    """The most that is in use at once while a picture's step is computed.

    Beside the weights; or with what is there of them, where all blocks come just in time.
    """
    from textual_inversion.nodes.host.gradients import OutOfPlace, training_flag
    from textual_inversion.nodes.host.weights import HostWeights
    from textual_inversion.trainer.just_in_time import (
        JustInTime,
        blocks_of,
        checkpointed,
        placed,
    )

    def empty(*shape: int) -> Tensor:
        made = torch.empty((1, *shape), dtype=dtype, device="meta")
        return made if full.config.startswith("SD") else made.as_subclass(OutOfPlace)

    inputs = dict(full.inputs)
    if full.pooled:
        inputs["y"] = empty(full.pooled)
    options = {"optimized_attention_override": fused_attention, "sigmas": torch.ones(1)}
    latents, context = empty(*full.latents), empty(*full.context).requires_grad_()
    timesteps = torch.ones(1, dtype=dtype, device="meta")
    blocks = list(blocks_of(base.diffusion_model))
    with ExitStack() as stack:
        stack.enter_context(training_flag())
        live = stack.enter_context(LiveBytes(base.diffusion_model))
        if just_in_time:
            device = torch.device("meta")
            weights = HostWeights(base.diffusion_model, device, dtype, wide=True)
            stack.enter_context(placed(weights.bring_outside(blocks)))
            stack.enter_context(JustInTime(device).over(blocks, weights.bring))
        elif checkpointing:
            stack.enter_context(checkpointed(blocks))
        out = base.diffusion_model(
            latents, timesteps, context=context, transformer_options=options, **inputs
        )
        out.as_subclass(Tensor).float().square().mean().backward()
    return live.peak
