"""A training step of ours against one of ComfyUI's own LoRA trainer, both as nodes in its server.

    COMFYUI_PATH=... python benchmarks/peers/host_lora.py [--resolution 512] [--steps 6]

The LoRA trainer learns something else, so this is for reference alone: what a step of training
costs in the same server, on the same checkpoint (random weights, a U-Net of 111 M parameters in the
layout of Stable Diffusion 1), in float32, with one picture a step and no checkpointing. Each node
runs twice, with few and with many steps, and the difference is divided by the further steps:
loading, encoding and saving do not count. The LoRA trainer is also run as it comes, with gradient
checkpointing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
from support.checkpoints import SD1, write
from support.client import Host, serving
from support.comfyui import find_comfyui
from support.graph import Graph
from support.layout import UNet
from support.training import batch, checkpoint, photos, train

UNET = UNet(
    context=768, depths=(1, 1, 1, 0), depths_up=(1, 1, 1, 0), depth_middle=1, blocks=2, heads=8,
    linear=False,
)  # fmt: skip
FEW = 2
"""Steps of the short run; the first ones of a run take longer than others."""

Build = Callable[[Graph, int], None]


def ours(model: str, picture: list[str], resolution: int) -> Build:
    """Our node, with as little as possible around its steps."""

    def build(graph: Graph, steps: int) -> None:
        train(
            graph, checkpoint(graph, model), batch(graph, picture), steps=steps,
            resolution=resolution, evaluations=0, num_vectors=1,
        )  # fmt: skip

    return build


def lora(model: str, picture: list[str], resolution: int, checkpointing: bool) -> Build:
    """The stock node with its own defaults, but for the precision, which is ours."""

    def build(graph: Graph, steps: int) -> None:
        loaded = checkpoint(graph, model)
        sized = graph.add(
            "ImageScale", image=batch(graph, picture), upscale_method="bilinear",
            width=resolution, height=resolution, crop="center",
        )  # fmt: skip
        latents = graph.add("VAEEncode", pixels=sized[0], vae=loaded[2])
        text = graph.add("CLIPTextEncode", clip=loaded[1], text="a photo of a toy duck")
        trained = graph.add(
            "TrainLoraNode", model=loaded[0], latents=latents[0], positive=text[0], batch_size=1,
            grad_accumulation_steps=1, steps=steps, learning_rate=0.0005, rank=8,
            optimizer="AdamW", loss_function="MSE", seed=0, training_dtype="fp32",
            lora_dtype="fp32", quantized_backward=False, algorithm="LoRA",
            gradient_checkpointing=checkpointing, checkpoint_depth=1, offloading=False,
            existing_lora="[None]", bucket_mode=False, bypass_mode=False,
        )  # fmt: skip
        graph.add("LossGraphNode", loss=trained[1], filename_prefix="loss")

    return build


def step_of(host: Host, build: Build, steps: int) -> float:
    """Seconds of one step."""
    taken = []
    for count in (FEW, FEW + steps):
        graph = Graph()
        build(graph, count)
        started = time.perf_counter()
        host.run(graph, timeout=3600)
        taken.append(time.perf_counter() - started)
    return (taken[1] - taken[0]) / steps


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--steps", type=int, default=6)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        cpu = not torch.cuda.is_available()
        with serving(find_comfyui(), base, "--force-fp32", cpu=cpu) as host:
            path = write(replace(SD1, unet=UNET), base / "medium.safetensors", dtype=torch.float32)
            shared = (host.add_checkpoint(path), photos(host, count=1), options.resolution)
            ways = {
                "ours": ours(*shared),
                "LoRA trainer": lora(*shared, checkpointing=False),
                "LoRA trainer, gradient checkpointing": lora(*shared, checkpointing=True),
            }
            step_of(host, ways["ours"], 1)  # which loads the model
            print("| | seconds per step |\n| --- | --- |")
            for way, build in ways.items():
                print(f"| {way} | {step_of(host, build, options.steps):.2f} |", flush=True)


if __name__ == "__main__":
    main()
