"""What a step minimises: noise, target and loss, for every parameterisation."""

from __future__ import annotations

from torch import Tensor

from ..model import Parameterization


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
