"""Weights of the loss, against what the papers weight: the error of the picture."""

from __future__ import annotations

import pytest
import torch
from support.toy_model import ToyModel
from textual_inversion.trainer.methods.diffusion import add_noise, split_prediction, target
from textual_inversion.trainer.methods.weighting import LARGEST, loss_weights
from textual_inversion.trainer.model import NoiseSchedule

BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
SCHEDULE = NoiseSchedule.from_alphas_cumprod((1 - BETAS).cumprod(0))
TIMESTEPS = torch.tensor([0, 100, 500, 999])


def at(timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    alpha, sigma = SCHEDULE.at(timesteps, torch.zeros(1, 4, 2, 2))
    return alpha, sigma, ((alpha / sigma) ** 2).flatten()


def test_min_snr_is_the_papers_formula() -> None:
    alpha, sigma, snr = at(TIMESTEPS)
    assert snr[0] > 5 > snr[-1]
    epsilon = loss_weights("min-snr", "epsilon", alpha, sigma)
    torch.testing.assert_close(epsilon, snr.clamp(max=5) / snr)
    velocity = loss_weights("min-snr", "v_prediction", alpha, sigma)
    torch.testing.assert_close(velocity, snr.clamp(max=5) / (snr + 1))


def test_debiased_is_the_papers_formula() -> None:
    alpha, sigma, snr = at(TIMESTEPS)
    epsilon = loss_weights("debiased", "epsilon", alpha, sigma)
    torch.testing.assert_close(epsilon, snr.rsqrt())


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "flow"])
@pytest.mark.parametrize("weighting", ["min-snr", "debiased"])
def test_a_weighted_error_is_that_of_the_picture(weighting: str, kind) -> None:
    """Whatever the network predicts, the same error of x0 counts the same."""
    schedule = ToyModel(kind).schedule
    generator = torch.Generator().manual_seed(0)
    latents, noise, wrong = torch.randn(3, 4, 3, 8, 8, generator=generator)
    alpha, sigma = schedule.at(torch.tensor([0, 30, 60, 99]), latents)
    noisy = add_noise(latents, noise, alpha, sigma)
    wanted = target(kind, latents, noise, alpha, sigma)
    prediction = wanted + 0.1 * wrong
    x0, _ = split_prediction(kind, noisy, prediction, alpha, sigma)
    snr = ((alpha / sigma) ** 2).flatten()
    share = snr.clamp(max=5) if weighting == "min-snr" else snr.sqrt()
    expected = share * (x0 - latents).square().mean((1, 2, 3))
    weights = loss_weights(weighting, kind, alpha, sigma)
    weighted = weights * (prediction - wanted).square().mean((1, 2, 3))
    torch.testing.assert_close(weighted, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("weighting", ["min-snr", "debiased"])
def test_pure_noise_and_pure_picture_have_finite_weights(weighting: str, kind) -> None:
    weights = loss_weights(weighting, kind, torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]))
    assert (weights >= 0).all()
    assert (weights <= LARGEST).all()


def test_no_weighting() -> None:
    alpha, sigma, _ = at(TIMESTEPS)
    assert loss_weights("none", "epsilon", alpha, sigma) is None
