"""What a training step costs inside ComfyUI: time over a forward pass, memory over the model.

    COMFYUI_PATH=... python benchmarks/step.py [--checkpoint FILE] [--size 512] [--batch 1]

An exact gradient costs at least as much again as the forward pass, so that no step can take
less than 2.0 forwards. Forward and step are timed in turn and compared in pairs, because the
speed of a shared machine drifts. Without a checkpoint, the U-Net of Stable Diffusion 1 in
full size (860 M parameters) is used, with random weights.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from memory import Peak
from support.checkpoints import SD1, cached
from support.comfyui import find_comfyui
from support.counted import FULL_SIZE, network
from support.inprocess import use_comfyui
from support.loaded import executing
from support.package import hide_repository_root, use_checkout

if TYPE_CHECKING:
    from textual_inversion.trainer.model import FrozenModel


def full_size_model(name: str = "sd1-512") -> Any:
    """The host's own model of one of the sizes in `FULL_SIZE`, with random weights."""
    import comfy.model_management
    import comfy.model_patcher

    device = comfy.model_management.get_torch_device()
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    model = network(FULL_SIZE[name], dtype, device)
    for parameter in model.diffusion_model.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else parameter.numel()
        parameter.normal_(std=fan_in**-0.5)
    return comfy.model_patcher.ModelPatcher(model, device, device)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkpoint", type=Path, help="SD1, SD2 or SDXL; default: random")
    parser.add_argument("--size", type=int, default=512, help="side of the pictures in pixels")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()

    hide_repository_root()
    use_checkout()
    use_comfyui(find_comfyui(), Path(tempfile.mkdtemp()), cpu=not torch.cuda.is_available())
    import comfy.sd
    from textual_inversion.nodes.host.model import HostModel

    with torch.inference_mode():
        model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(
            str(options.checkpoint or cached(SD1))
        )
        if options.checkpoint is None:
            model = full_size_model()
    unet = model.model.diffusion_model
    print(f"U-Net: {sum(p.numel() for p in unet.parameters()) / 1e6:.0f} M parameters")
    for checkpointing in (False, True):
        with executing(), HostModel(model, clip, vae, checkpointing=checkpointing) as frozen:
            result = measure(frozen, options.size // 8, options.batch, options.repeats)
        print(f"{'with' if checkpointing else 'without'} checkpointing: {result}")


def measure(frozen: FrozenModel, side: int, batch: int, repeats: int) -> str:
    """One line of the table: a model in its present state."""
    from textual_inversion.trainer.learning.initial import initial_vectors
    from textual_inversion.trainer.learning.losses import squared_errors
    from textual_inversion.trainer.methods.diffusion import add_noise, target

    vectors = initial_vectors(frozen.text_encoders, "toy", 1)
    live = {k: v.to(frozen.device).requires_grad_() for k, v in vectors.items()}
    optimizer = torch.optim.AdamW(live.values())
    tokens = [frozen.tokenize("a photo of a [name]", 1)] * batch
    latents = torch.randn((batch, 4, side, side), device=frozen.device)
    noise = torch.randn_like(latents)
    timesteps = torch.full((batch,), 600)
    alpha, sigma = frozen.schedule.at(timesteps, latents)
    noisy = add_noise(latents, noise, alpha, sigma)
    wanted = target(frozen.parameterization, latents, noise, alpha, sigma)
    with torch.no_grad():
        fixed = frozen.encode_prompts(tokens, live)

    @torch.no_grad()
    def forward() -> None:
        frozen.predict(noisy, timesteps, fixed)

    def step() -> None:
        prediction = frozen.predict(noisy, timesteps, frozen.encode_prompts(tokens, live))
        squared_errors(prediction, wanted).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    forward()
    peak = Peak()
    step()
    memory = peak.above()
    pairs = [(seconds(forward), seconds(step)) for _ in range(repeats)]
    ratios = [b / a for a, b in pairs]
    return (
        f"forward {statistics.median(a for a, _ in pairs):.2f} s, "
        f"step {statistics.median(b for _, b in pairs):.2f} s, "
        f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), "
        f"peak {memory / 1e9:.2f} GB above the resident model"
    )


if __name__ == "__main__":
    main()
