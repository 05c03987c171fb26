"""What a step minimises: noise, target and loss, for every parameterisation."""

from __future__ import annotations

from torch import Tensor

from .model import Parameterization


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


def losses(
    prediction: Tensor, wanted: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
) -> Tensor:
    """Mean squared error of each picture, [batch].

    Args:
        prediction: [batch, channels, h, w].
        wanted: the same shape.
        mask: weight of each place, [batch, 1, h, w]; each picture counts by the mean over
            its weighted places, so that a small object is not drowned by its frame.
        weights: of each picture, [batch].
    """
    error = (prediction - wanted).square()
    places = tuple(range(1, error.ndim))
    if mask is None:
        each = error.mean(places)
    else:
        shares = mask.expand_as(error)
        each = (error * shares).sum(places) / shares.sum(places).clamp_min(1e-6)
    return each if weights is None else each * weights
