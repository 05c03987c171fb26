"""A training run of ours against diffusers' textual inversion script: seconds and peak memory.

    COMFYUI_PATH=... python benchmarks/peers/run.py --script textual_inversion.py
        [--size sd1 | medium | small] [--steps 100] [--batch 1] [--resolution 512]
        [--dtype float32 | bfloat16 | float16] [--repeats 3] [--output results.json]

Both train on the same weights (random ones), the same pictures, in the same precision and batch,
each in a process of its own, in turn. The clock runs over the whole run but for loading: encoding
of pictures and reading of prompts count. The script is diffusers' examples/textual_inversion/
textual_inversion.py, of the installed version; it needs the extra `benchmarks`. ComfyUI is only
asked for CLIP's vocabulary.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
from support.comfyui import find_comfyui

SIZES: dict[str, dict[str, Any]] = {
    "sd1": {"block_out_channels": (320, 640, 1280, 1280), "layers_per_block": 2},
    "medium": {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2},
    "small": {"block_out_channels": (32, 64, 64, 64), "layers_per_block": 1},
}
"""U-Nets of 860 M, about 140 M and a few million parameters; the last only shows that it runs."""

PICTURES = 5
MIXED = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


def write_model(folder: Path, size: str) -> int:
    """A diffusers folder with random weights; returns the U-Net's number of parameters."""
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(find_comfyui() / "comfy" / "sd1_tokenizer")
    tokenizer.model_max_length = 77  # which ComfyUI leaves to its own code
    tokenizer.save_pretrained(folder / "tokenizer")
    text = CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
        num_attention_heads=12, bos_token_id=49406, eos_token_id=49407, pad_token_id=49407,
    )  # fmt: skip
    CLIPTextModel(text).save_pretrained(folder / "text_encoder")
    blocks = ("CrossAttnDownBlock2D",) * 3
    unet = UNet2DConditionModel(
        cross_attention_dim=768, attention_head_dim=8, sample_size=64,
        down_block_types=(*blocks, "DownBlock2D"),
        up_block_types=("UpBlock2D", *(block.replace("Down", "Up") for block in blocks)),
        **SIZES[size],
    )  # fmt: skip
    unet.save_pretrained(folder / "unet")
    AutoencoderKL(
        block_out_channels=(128, 256, 512, 512) if size != "small" else (32, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
    ).save_pretrained(folder / "vae")
    DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
    ).save_pretrained(folder / "scheduler")
    names = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDPMScheduler"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
    }
    index = {"_class_name": "StableDiffusionPipeline", **names, "requires_safety_checker": False}
    (folder / "model_index.json").write_text(json.dumps(index))
    return sum(p.numel() for p in unet.parameters())


def write_pictures(folder: Path, resolution: int) -> None:
    """Pictures of noise: what they show does not matter here."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(PICTURES):
        pixels = random.integers(0, 255, (resolution, resolution, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")


def run_script(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Diffusers' script, with the settings of its README but for the number of steps."""
    arguments = {
        "pretrained_model_name_or_path": folder / "model",
        "train_data_dir": folder / "pictures",
        "learnable_property": "object",
        "placeholder_token": "<new>",
        "initializer_token": "toy",
        "resolution": options.resolution,
        "train_batch_size": options.batch,
        "max_train_steps": options.steps,
        "learning_rate": 0.0005,
        "lr_warmup_steps": 0,
        "mixed_precision": MIXED[options.dtype],
        "output_dir": folder / "out",
    }
    pairs = itertools.chain(*((f"--{key}", str(value)) for key, value in arguments.items()))
    return measured(folder, "diffusers_script.py", options.script, *pairs)


def run_ours(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """The same by this package, with as many steps, pictures and the same rate."""
    settings = {
        "init_words": "toy",
        "resolution": options.resolution,
        "batch_size": options.batch,
        "steps": options.steps,
        "learning_rate": "0.0005",
        "schedule": "constant",
        "clip_gradient": 0.0,
        "evaluations": 0,
        "flip": True,
    }
    return measured(
        folder, "ours.py", folder / "model", folder / "pictures", options.dtype,
        json.dumps(settings),
    )  # fmt: skip


def measured(folder: Path, program: str, *arguments: object) -> dict[str, float]:
    """Run a program of this folder that writes a report."""
    report = folder / "report.json"
    command = [sys.executable, str(Path(__file__).with_name(program)), str(report)]
    subprocess.run([*command, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)
    result: dict[str, float] = json.loads(report.read_text())
    return result


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--script", type=Path, required=True)
    parser.add_argument("--size", choices=SIZES, default="medium")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--dtype", choices=MIXED, default="float32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, help="also write the figures, as JSON")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parameters = write_model(folder / "model", options.size)
        write_pictures(folder / "pictures", options.resolution)
        runs = [
            (run_script(folder, options), run_ours(folder, options)) for _ in range(options.repeats)
        ]
    theirs, ours = ([pair[i] for pair in runs] for i in (0, 1))
    print(f"U-Net of {parameters / 1e6:.0f} M parameters, {options.steps} steps, {options.dtype}\n")
    print("| | seconds per 100 steps | peak memory |\n| --- | --- | --- |")
    for label, group in (("diffusers' script", theirs), ("ours", ours)):
        seconds = statistics.median(r["seconds"] for r in group) * 100 / options.steps
        gigabytes = max(r["peak_bytes"] for r in group) / 1e9
        print(f"| {label} | {seconds:.1f} | {gigabytes:.2f} GB |")
    ratios = [script["seconds"] / own["seconds"] for script, own in runs]
    saved = min(r["peak_bytes"] for r in theirs) - max(r["peak_bytes"] for r in ours)
    print(
        f"\nOurs is {statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to "
        f"{max(ratios):.2f} over {len(ratios)} pairs) and needs {saved / 1e9:.2f} GB less."
    )
    if options.output:
        told = {k: v.name if isinstance(v, Path) else v for k, v in vars(options).items()}
        told |= {"parameters": parameters, "diffusers": theirs, "ours": ours}
        options.output.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
