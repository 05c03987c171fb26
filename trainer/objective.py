"""What a step minimises: noise, timesteps, target and loss, for every parameterisation."""

from __future__ import annotations

import torch
from torch import Tensor

from .model import NoiseSchedule, Parameterization


def draw_timesteps(batch: int, schedule: NoiseSchedule, generator: torch.Generator) -> Tensor:
    """Timesteps for a batch, uniform over the schedule; int64 [batch]."""
    return torch.randint(len(schedule), (batch,), generator=generator)


def add_noise(latents: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The forward process: alpha · x0 + sigma · noise."""
    return alpha * latents + sigma * noise


def target(
    parameterization: Parameterization,
    latents: Tensor,
    noise: Tensor,
    alpha: Tensor,
    sigma: Tensor,
) -> Tensor:
    """What a perfect network would have answered (see `model.Parameterization`)."""
    if parameterization == "epsilon":
        return noise
    if parameterization == "v_prediction":
        return alpha * noise - sigma * latents
    return noise - latents


def split_prediction(
    parameterization: Parameterization,
    noisy: Tensor,
    prediction: Tensor,
    alpha: Tensor,
    sigma: Tensor,
) -> tuple[Tensor, Tensor]:
    """The picture and the noise that a prediction claims `noisy` is made of: (x0, noise)."""
    if parameterization == "epsilon":
        return (noisy - sigma * prediction) / alpha, prediction
    if parameterization == "v_prediction":
        return alpha * noisy - sigma * prediction, sigma * noisy + alpha * prediction
    return noisy - sigma * prediction, noisy + alpha * prediction


def loss(prediction: Tensor, wanted: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error, a scalar.

    Args:
        prediction: [batch, channels, h, w].
        wanted: the same shape.
        mask: weight of each place, [batch, 1, h, w]; each picture counts by the mean over
            its weighted places, so that a small object is not drowned by its frame.
    """
    error = (prediction - wanted).square()
    if mask is None:
        return error.mean()
    weight = mask.expand_as(error)
    places = tuple(range(1, error.ndim))
    return ((error * weight).sum(places) / weight.sum(places).clamp_min(1e-6)).mean()
