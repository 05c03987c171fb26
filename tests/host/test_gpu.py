"""A server on a GPU, with its ways to keep weights where there is room: the same is learned."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import checkpoints
from support.client import Host, RunningHost
from support.training import learned, stock_picture

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="There is no GPU here."),
]

WAYS = (
    (),  # dynamic VRAM, where the host knows it
    ("--disable-dynamic-vram",),
    ("--novram",),
    ("--bf16-unet",),
)
CLIP = "cond_stage_model.transformer."
UNET = "model.diffusion_model."


def write_lora(checkpoint: Path, path: Path) -> Path:
    """One that changes the attention of the network and the text encoder by half, of rank 4."""
    tensors = {}
    for key, weight in load_file(checkpoint).items():
        if weight.ndim != 2 or not key.endswith((".to_q.weight", ".to_v.weight", ".fc1.weight")):
            continue
        prefix, name = ("lora_te_", key.removeprefix(CLIP)) if key.startswith(CLIP) else (
            "lora_unet_", key.removeprefix(UNET)
        )  # fmt: skip
        name = prefix + name.removesuffix(".weight").replace(".", "_")
        generator = torch.Generator().manual_seed(len(tensors))
        up = torch.randn(weight.shape[0], 4, generator=generator)
        down = torch.randn(4, weight.shape[1], generator=generator)
        scale = 0.5 * weight.float().norm() / (up @ down).norm()
        tensors |= {f"{name}.lora_up.weight": up * scale, f"{name}.lora_down.weight": down}
    save_file(tensors, path)
    return path


@pytest.fixture(scope="module")
def lora(sd1_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lora(sd1_checkpoint, tmp_path_factory.mktemp("lora") / "half.safetensors")


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same checkpoint in float32, from which the host computes in half precision."""
    path = tmp_path_factory.mktemp("single") / "single.safetensors"
    return checkpoints.sd1(path, dtype=torch.float32)


def moves(host: Host, checkpoint: Path, lora: Path | None) -> torch.Tensor:
    """What a few steps change in a word; the host draws as before, before and after them.

    The first picture does not count: as the host brings weights in it rounds them, and draws with
    what they were before.
    """
    model = host.add_checkpoint(checkpoint)
    name = host.add_lora(lora) if lora else None
    stock_picture(host, model, 0, lora=name)
    before = stock_picture(host, model, 1, lora=name)
    start = learned(host, model, "start", lora=name, learning_rate="1e-9")
    end = learned(host, model, "end", lora=name, steps=6)
    np.testing.assert_array_equal(stock_picture(host, model, 2, lora=name), before)
    return (end - start).flatten()


@pytest.fixture(scope="module")
def expected(
    running_host: RunningHost, sd1_checkpoint: Path, lora: Path
) -> Iterator[dict[bool, torch.Tensor]]:
    """With all weights on the GPU for good, with a LoRA and without."""
    with running_host("--gpu-only", cpu=False) as host:
        yield {on: moves(host, sd1_checkpoint, lora if on else None) for on in (False, True)}


def test_a_lora_counts(expected: dict[bool, torch.Tensor]) -> None:
    assert alike(expected[False], expected[True]) < 0.8


@pytest.mark.parametrize("flags", WAYS, ids=lambda flags: " ".join(flags) or "as it comes")
def test_the_same_is_learned_wherever_the_weights_are(
    running_host: RunningHost,
    sd1_checkpoint: Path,
    single: Path,
    lora: Path,
    expected: dict[bool, torch.Tensor],
    flags: tuple[str, ...],
) -> None:
    """With a LoRA, without, and from a file in float32."""
    with running_host(*flags, cpu=False) as host:
        found = {
            "plain": alike(moves(host, sd1_checkpoint, None), expected[False]),
            "with a LoRA": alike(moves(host, sd1_checkpoint, lora), expected[True]),
            "from float32": alike(moves(host, single, None), expected[False]),
        }
    assert min(found.values()) > 0.9, found


def alike(one: torch.Tensor, other: torch.Tensor) -> float:
    return torch.nn.functional.cosine_similarity(one, other, dim=0).item()
