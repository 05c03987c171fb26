"""Graphs that train, and the real photos they train on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from safetensors.torch import load_file

from .client import Host
from .graph import Graph, Link, Node, sample
from .paths import ROOT

PHOTOS = ROOT.parent / "shared" / "data" / "photos"


def photos(host: Host, subject: str = "duck_toy", count: int = 3) -> list[str]:
    """Upload some photos of one thing; returns their names for Load Image.

    Where the real ones are not at hand, drawn ones stand in.
    """
    folder = PHOTOS / subject
    if folder.is_dir():
        return [host.upload_image(path) for path in sorted(folder.glob("*.jpg"))[:count]]
    return [host.upload_image(_drawing(i), f"drawing-{i}.png") for i in range(count)]


def _drawing(number: int) -> Image.Image:
    picture = Image.new("RGB", (160, 120), (40 * number, 90, 160))
    ImageDraw.Draw(picture).ellipse((30 + 20 * number, 30, 100 + 20 * number, 100), "yellow")
    return picture


def checkpoint(graph: Graph, name: str) -> Node:
    """Add the stock loader: outputs model, clip, vae."""
    return graph.add("CheckpointLoaderSimple", ckpt_name=name)


def batch(graph: Graph, names: Sequence[str]) -> Link:
    """Add stock nodes that load pictures and make one batch of them."""
    links = [graph.add("LoadImage", image=name)[0] for name in names]
    joined = links[0]
    for link in links[1:]:
        joined = graph.add("ImageBatch", image1=joined, image2=link)[0]
    return joined


def train_negative(graph: Graph, loaded: Node, images: Link, **changes: Any) -> Node:
    """Add our node for negatives, likewise."""
    inputs = train(Graph(), loaded, images).inputs | {
        "name": "test-negative",
        "objective": "bad pictures",
        "guidance": 3.0,
        "keep_guidance": 1.0,
    }
    return graph.add("TextualInversionTrainNegative", **(inputs | changes))


def train(graph: Graph, loaded: Node, images: Link, **changes: Any) -> Node:
    """Add our training node with settings that take seconds."""
    inputs: dict[str, Any] = {
        "model": loaded[0],
        "clip": loaded[1],
        "vae": loaded[2],
        "images": images,
        "name": "test-word",
        "init_words": "toy duck",
        "num_vectors": 2,
        "learn": "object",
        "steps": 3,
        "batch_size": 1,
        "resolution": 64,
        "learning_rate": "0.005",
        "seed": 7,
        "schedule": "constant",
        "accumulate": 1,
        "clip_gradient": 1.0,
        "flip": False,
        "alpha": "flatten",
        "checkpointing": False,
        "evaluations": 0,
        "keep": "last",
        "previews": 0,
        "timesteps": "all",
        "weighting": "none",
        "noise_offset": 0.0,
        "templates": "",
        "shuffle_tags": False,
        "drop_tags": 0.0,
        "zoom": 0.0,
        "buckets": False,
        "preview_every": 0,
        "save_every": 100,
        "encoders": "",
        "optimizer": "adamw",
        "pull": 0.0,
        "renorm": False,
        "averaging": "none",
        "initialization": "words",
        "progressive": False,
        "context": 0.0,
        "stop_early": False,
        "unlike_weight": 1.0,
        "preset": "none",
        "save": True,
        "overwrite": True,
    }
    return graph.add("TextualInversionTrain", **(inputs | changes))


def learned(
    host: Host, file: str, name: str, *, lora: str | None = None, **changes: Any
) -> torch.Tensor:
    """The vectors of a word learned alone in its graph, through a LoRA if there is one."""
    graph = Graph()
    loaded = checkpoint(graph, file)
    model, clip = model_and_clip(graph, loaded, lora)
    train(
        graph, loaded, batch(graph, photos(host)), name=name, model=model, clip=clip, **changes
    )  # fmt: skip
    host.run(graph, timeout=900)
    return load_file(host.embeddings / f"{name}.safetensors")["emb_params"]


def stock_picture(
    host: Host, model: str, detours: int, *, lora: str | None = None
) -> NDArray[np.uint8]:
    """By stock nodes alone; the detours keep it from the cache."""
    graph = Graph()
    loaded = checkpoint(graph, model)
    saved = sample(graph, *model_and_clip(graph, loaded, lora), loaded[2], detours=detours)
    return host.fetch_image(host.run(graph, timeout=900)[saved]["images"][0])


def model_and_clip(graph: Graph, loaded: Node, lora: str | None) -> tuple[Link, Link]:
    """Those of a checkpoint, through the stock loader of LoRAs if there is one."""
    if lora is None:
        return loaded[0], loaded[1]
    node = graph.add(
        "LoraLoader", model=loaded[0], clip=loaded[1], lora_name=lora, strength_model=1.0,
        strength_clip=1.0,
    )  # fmt: skip
    return node[0], node[1]
