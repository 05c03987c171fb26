"""What a step of diffusers' U-Nets takes in full size, and what is chosen by it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.counted import LiveBytes, fused_attention
from textual_inversion.trainer.diffusers_model.offloading import NUMBERS, budget_for
from textual_inversion.trainer.memory import CHECKPOINTED, PLAIN

GB = 1 << 30
SDXL = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (320, 640, 1280),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SIZES = {"sd1": ({"cross_attention_dim": 768}, 512), "sdxl": (SDXL, 1024)}


def unet(name: str) -> Any:
    """In half precision, without memory."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return UNet2DConditionModel(**SIZES[name][0]).half().requires_grad_(False).eval()


def step_bytes(network: Any, side: int) -> int:
    """The most that is in use at once while a picture's step is computed, beside the weights."""
    config = network.config

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.float16, device="meta")

    added = None
    if config.addition_embed_type:
        added = {"text_embeds": empty(1, 1280), "time_ids": empty(1, 6)}
    states = empty(1, 77, config.cross_attention_dim).requires_grad_()
    with LiveBytes(network) as live:
        out = network(empty(1, 4, side, side), empty(1), states, added_cond_kwargs=added).sample
        out.float().square().mean().backward()
    return live.peak


@pytest.mark.parametrize("name", SIZES)
def test_a_step_takes_what_is_reckoned(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda q, k, v, **_: fused_attention(None, q, k, v, 0),
    )
    network, resolution = unet(name), SIZES[name][1]
    side = resolution // 8
    sampling = 2 * NUMBERS * side**2
    assert 0.2 * PLAIN * sampling < step_bytes(network, side) < PLAIN * sampling
    network.enable_gradient_checkpointing()
    network.train()
    assert 0.2 * CHECKPOINTED * sampling < step_bytes(network, side) < CHECKPOINTED * sampling


@pytest.mark.parametrize(
    ("name", "capacity", "batch_size", "comes", "at_once", "checkpointing"),
    [
        ("sd1", None, 4, False, 4, False),
        ("sd1", 6 * GB, 1, False, 1, False),
        ("sd1", 3 * GB, 4, False, 2, True),
        ("sdxl", 24 * GB, 1, False, 1, False),
        ("sdxl", 12 * GB, 1, False, 1, True),
        ("sdxl", 5 * GB, 1, True, 1, True),
    ],
)
def test_what_is_chosen(
    name: str, capacity: int | None, batch_size: int, comes: bool, at_once: int, checkpointing: bool
) -> None:
    resolution = SIZES[name][1]
    budget, line = budget_for(
        unet(name), [], capacity, batch_size=batch_size, resolution=resolution,
        checkpointing=False, offload=False,
    )  # fmt: skip
    found = budget.just_in_time, budget.at_once, budget.checkpointing
    assert found == (comes, at_once, checkpointing), line
    assert bool(line) == (capacity is not None)
    assert ("block by block" in line) == comes
