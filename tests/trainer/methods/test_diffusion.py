"""Noise, target and loss, against diffusers' own training maths."""

from __future__ import annotations

import pytest
import torch
from support.tiny_models import scheduler
from textual_inversion.trainer.methods import diffusion as objective
from textual_inversion.trainer.model import NoiseSchedule


def draw(batch: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(batch, 4, 8, 8, generator=generator)
    noise = torch.randn(batch, 4, 8, 8, generator=generator)
    return latents, noise, torch.tensor([0, 1, 250, 700, 999])[:batch]


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_equals_diffusers_ddpm(kind: str, zero_snr: bool) -> None:
    from diffusers import DDPMScheduler

    config = scheduler(kind, rescale_betas_zero_snr=zero_snr).config
    oracle = DDPMScheduler.from_config(config)
    latents, noise, timesteps = draw()
    schedule = NoiseSchedule.from_alphas_cumprod(oracle.alphas_cumprod)
    alpha, sigma = schedule.at(timesteps, latents)
    noisy = objective.add_noise(latents, noise, alpha, sigma)
    torch.testing.assert_close(noisy, oracle.add_noise(latents, noise, timesteps))
    wanted = objective.target(kind, latents, noise, alpha, sigma)
    velocity = oracle.get_velocity(latents, noise, timesteps)
    torch.testing.assert_close(wanted, velocity if kind == "v_prediction" else noise)


def test_equals_diffusers_flow_matching() -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    oracle = FlowMatchEulerDiscreteScheduler()
    latents, noise, places = draw()
    sigmas = oracle.sigmas[places]
    schedule = NoiseSchedule(1 - sigmas, sigmas)
    alpha, sigma = schedule.at(torch.arange(5), latents)
    noisy = objective.add_noise(latents, noise, alpha, sigma)
    expected = oracle.scale_noise(latents, oracle.timesteps[places], noise)
    torch.testing.assert_close(noisy, expected)
    # Euler's step from here to no noise at all ends in the picture.
    wanted = objective.target("flow", latents, noise, alpha, sigma)
    torch.testing.assert_close(noisy - sigma * wanted, latents, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "flow"])
def test_right_prediction_splits_into_picture_and_noise(kind) -> None:
    latents, noise, _ = draw()
    angles = torch.linspace(0.2, 1.4, 5)
    schedule = NoiseSchedule(angles.cos(), angles.sin())
    if kind == "flow":
        schedule = NoiseSchedule(1 - angles / 2, angles / 2)
    alpha, sigma = schedule.at(torch.arange(5), latents)
    noisy = objective.add_noise(latents, noise, alpha, sigma)
    wanted = objective.target(kind, latents, noise, alpha, sigma)
    x0, found = objective.split_prediction(kind, noisy, wanted, alpha, sigma)
    torch.testing.assert_close(x0, latents, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found, noise, atol=1e-4, rtol=1e-4)
