"""Pictures from the tiny model in diffusers' terms: plain DDIM with guidance."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .model import GUIDANCE, LATENT_CHANNELS, LATENT_SIZE, TinyModel, new_scheduler
from .vocabulary import LENGTH

STEPS = 25


def encode_prompts(model: TinyModel, prompts: Sequence[str]) -> torch.Tensor:
    """The text encoder's states for prompts (N, 77, width)."""
    tokens = model.tokenizer(
        list(prompts), padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"
    )
    states: torch.Tensor = model.text_encoder(tokens.input_ids).last_hidden_state
    return states


def start_noise(count: int, seed: int) -> torch.Tensor:
    """The noise of `count` pictures; picture n of a seed is the same for any count."""
    parts = []
    for number in range(count):
        dice = torch.Generator().manual_seed(seed * 100_003 + number)
        parts.append(torch.randn(LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE, generator=dice))
    return torch.stack(parts)


@torch.no_grad()
def sample_latents(
    model: TinyModel,
    states: torch.Tensor,
    *,
    seed: int = 0,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    negative: torch.Tensor | None = None,
) -> torch.Tensor:
    """Latents for text states (N, 77, width), guided away from `negative`."""
    if negative is None:
        negative = encode_prompts(model, [""])
    both = torch.cat([negative.expand_as(states), states])
    scheduler = new_scheduler()
    scheduler.set_timesteps(steps)
    latents = start_noise(len(states), seed)
    for at in scheduler.timesteps:
        made = model.unet(torch.cat([latents, latents]), at, both).sample
        without, with_text = made.chunk(2)
        guided = without + guidance * (with_text - without)
        latents = scheduler.step(guided, at, latents).prev_sample
    return latents


@torch.no_grad()
def decode(model: TinyModel, latents: torch.Tensor) -> torch.Tensor:
    """Pictures (N, height, width, RGB in 0..1) from latents."""
    made: torch.Tensor = model.vae.decode(latents).sample
    return made.movedim(1, -1).add(1.0).div(2.0).clamp(0.0, 1.0)


def sample(
    model: TinyModel,
    prompts: Sequence[str],
    *,
    seed: int = 0,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    batch: int = 25,
) -> torch.Tensor:
    """Pictures (N, height, width, RGB in 0..1) for prompts."""
    made = []
    for at in range(0, len(prompts), batch):
        states = encode_prompts(model, prompts[at : at + batch])
        latents = sample_latents(model, states, seed=seed + at, steps=steps, guidance=guidance)
        made.append(decode(model, latents))
    return torch.cat(made)
