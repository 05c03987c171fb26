"""How much of a step's gradient is signal, where learning begins.

    COMFYUI_PATH=... python benchmarks/over_noise.py [--families sd1 sdxl ...]
        [--full sd1-512 sdxl-1024] [--batches 32]

For every family, as small as in the tests and with random weights, and with `--full` for U-Nets in
full size (SDXL takes 17 GB): the mean gradient over so many batches of 4 pictures against its
spread around that, of the part that turns the word's vectors. Random weights have learned nothing,
so this only says what the arithmetic of each family gives, beside what a trained model gives.
Prints a table.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from support.checkpoints import SD1, SDXL
from support.counted import TITLES
from support.package import hide_repository_root, use_checkout

FAR = 100_000
"""The first of the steps whose batches are used, which no run reaches."""

U_NETS = {"sd1-512": SD1, "sdxl-1024": SDXL}
"""Those in full size, and small checkpoints that have their text encoders and VAE."""


def at_the_start(model: Any, pictures: Sequence[Any], settings: Any, batches: int) -> Any:
    """Signal and noise of the first step's gradient, per radian of all rows, as two numbers."""
    from textual_inversion.trainer.learning.distributed import ALONE
    from textual_inversion.trainer.learning.losses import StepLosses
    from textual_inversion.trainer.learning.objectives import Word
    from textual_inversion.trainer.methods.signal import turning

    losses = StepLosses(model, pictures, settings, Word(), ALONE)
    found = []
    for step in range(FAR, FAR + batches):
        initial = Word().initial(model, settings, None)
        rows = {key: one.to(model.device).requires_grad_() for key, one in initial.items()}
        for loss in losses.losses(step, rows, rows):
            loss.backward()
        found.append(
            torch.cat(
                [
                    (turning(one.grad, one.detach()) * one.detach().norm(dim=1)[:, None]).flatten()
                    for one in rows.values()
                    if one.grad is not None
                ]
            ).cpu()
        )
    gradients = torch.stack(found).double()
    mean, square = gradients.mean(0).square().sum(), gradients.square().sum(1).mean()
    # A mean of n gradients holds the signal and an n-th of the noise, each squared.
    signal = ((mean * batches - square) / (batches - 1)).clamp_min(0)
    return float(signal.sqrt()), float((square - signal).clamp_min(0).sqrt())


def lesson(side: int) -> Sequence[Any]:
    """Five pictures of one thing with captions, the same for every family."""
    from textual_inversion.demo.lesson import captioned_pictures
    from textual_inversion.trainer.data.pictures import Picture

    drawn = captioned_pictures("candy-flower", 5, 0)
    return [
        Picture(torch.from_numpy(pixels).float(), caption)
        for pixels, caption in zip(*drawn, strict=True)
    ]


def row(title: str, parts: Sequence[Any], side: int, batch: int, batches: int) -> str:
    """One line of the table."""
    from support.loaded import executing
    from textual_inversion.nodes.host.model import HostModel
    from textual_inversion.trainer.settings import Settings

    settings = Settings(
        name="w", init_words="flower", resolution=side, batch_size=batch, evaluations=0
    )
    with executing(), HostModel(*parts, resolution=side, batch_size=batch) as model:
        signal, noise = at_the_start(model, lesson(side), settings, batches)
    # The noise of a mean over pictures falls with the root of their number.
    over = signal / noise * math.sqrt(4 / batch) if noise else math.inf
    return f"| {title} | {over:.2f} |"


def main() -> None:
    """Print the table."""
    from support.comfyui import find_comfyui
    from support.families import FAMILIES, build
    from support.inprocess import use_comfyui

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--families", nargs="*", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--full", nargs="*", choices=U_NETS, default=[])
    parser.add_argument("--batches", type=int, default=32)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    hide_repository_root()
    use_checkout()
    use_comfyui(find_comfyui(), folder)
    print("| random weights | signal over noise of a step of 4 |\n| --- | --- |")
    for name in options.families:
        family, loaded = FAMILIES[name], build(name, folder, folder)
        parts = loaded.model, loaded.clip, loaded.vae
        side = 320 if family.config == "PixArtSigma" else 64
        print(row(f"{family.title}, small", parts, side, 4, options.batches), flush=True)
    for name in options.full:
        from step import full_size_model
        from support.loaded import load

        small = load(U_NETS[name], folder)
        with torch.inference_mode():
            parts = full_size_model(name), small.clip, small.vae
        title = f"{TITLES[name]}, U-Net in full size, 128 pixels"
        print(row(title, parts, 128, 1, options.batches), flush=True)


if __name__ == "__main__":
    main()
