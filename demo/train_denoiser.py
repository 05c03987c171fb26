"""Train the tiny model's UNet on captioned latents, below the finished text encoder."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .captioner import Captioner, NamedText
from .model import CLIPTokenizer, UNet2DConditionModel, new_scheduler, new_unet
from .muon import Muon
from .train_autoencoder import Average, learning_rate
from .workers import average_gradients, rank, share
from .world import Scene

TIMESTEPS = 1000


def timesteps(count: int, dice: torch.Generator) -> torch.Tensor:
    """Timesteps for a batch, one from each equal stretch of those to be drawn from.

    On so small a latent a large object shows through all but the last tenth of Stable
    Diffusion's timesteps. There alone the prompt decides where it stands and what it is,
    so a timestep comes up in proportion to its number: the last tenth twice as often.
    """
    at = (torch.rand(count, generator=dice) + torch.arange(count)) / count
    return (at.sqrt() * TIMESTEPS).long().clamp(max=TIMESTEPS - 1)


def velocity(latents: torch.Tensor, noise: torch.Tensor, alphas: torch.Tensor) -> torch.Tensor:
    """The v-prediction target at the given cumulative alphas."""
    a = alphas[:, None, None, None]
    return a.sqrt() * noise - (1.0 - a).sqrt() * latents


def train_denoiser(
    latents: torch.Tensor,
    scenes: list[Scene],
    tokenizer: CLIPTokenizer,
    text: NamedText,
    steps: int,
    *,
    batch: int = 32,
    peak: float = 2e-2,
    seed: int = 0,
    start: dict[str, torch.Tensor] | None = None,
    report: Callable[[int, float], None] | None = None,
    keep: Callable[[int, UNet2DConditionModel], None] | None = None,
) -> UNet2DConditionModel:
    """Train on latents (N, 4, 16, 16) of known scenes; returns the averaged weights.

    `keep` is called with the averaged weights every 1,000 steps.
    """
    torch.manual_seed(seed)
    unet = new_unet()
    if start is not None:
        unet.load_state_dict(start)
    average = Average(unet)
    moved = list(unet.parameters())
    optimizer = Muon(moved, lr=peak)
    alphas = new_scheduler().alphas_cumprod
    captioner = Captioner(tokenizer, np.random.default_rng([seed, rank()]))
    dice = torch.Generator().manual_seed(seed)
    noise_dice = torch.Generator().manual_seed(1000 * (seed + 1) + rank())
    torch.manual_seed(seed + 1 + rank())
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        chosen = share(torch.randint(len(latents), (batch,), generator=dice))
        clean = latents[chosen]
        tokens, features = captioner([scenes[i] for i in chosen.tolist()])
        noise = torch.randn(clean.shape, generator=noise_dice)
        at = timesteps(len(clean), noise_dice)
        a = alphas[at]
        noisy = a.sqrt()[:, None, None, None] * clean + (1 - a).sqrt()[:, None, None, None] * noise
        with torch.no_grad():
            states = text(tokens, features)
        # Half precision, where the processor has it, takes two thirds of the time.
        with torch.autocast("cpu", torch.bfloat16):
            made = unet(noisy, at, states).sample
        loss = functional.mse_loss(made.float(), velocity(clean, noise, a))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        average_gradients(moved)
        nn.utils.clip_grad_norm_(moved, 1.0)
        optimizer.step()
        average.update(unet)
        if report is not None:
            report(step, loss.item())
        if keep is not None and (step + 1) % 1000 == 0 and rank() == 0:
            keep(step + 1, average.module)
    return average.module
