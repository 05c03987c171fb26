"""What the host's network predicts, told by what the host computes from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.samplers
import torch
from torch import Tensor

from ..trainer.errors import InputError
from ..trainer.model import NoiseSchedule, Parameterization


def parameterization_of(sampling: Any) -> Parameterization:
    """Tell what a network predicts by the host's formulas for it, not by its name.

    Args:
        sampling: the host's `model_sampling`.

    Raises:
        InputError: none of epsilon, v and flow.
    """
    sigmas = sampling.sigmas.detach().to("cpu", torch.float64).clone()
    known: Sequence[Parameterization] = ("epsilon", "v_prediction", "flow")
    for parameterization in known:
        places = (0, len(sigmas) // 2, -1)
        if all(_computes(sampling, parameterization, sigmas[i]) for i in places):
            return parameterization
    kinds = ", ".join(c.__name__ for c in type(sampling).__mro__[1:3])
    raise InputError(
        f"This model's kind of prediction ({kinds}) cannot be trained on: use a model that "
        "predicts epsilon, v or flow, and connect it before any LCM, turbo or x0 sampling node."
    )


def schedule_of(parameterization: Parameterization, sigmas: Tensor) -> NoiseSchedule:
    """The trainer's schedule from the host's sigmas, [timesteps]; a flow's shift is in them."""
    if parameterization == "flow":
        return NoiseSchedule(1 - sigmas, sigmas)
    return NoiseSchedule.from_alphas_cumprod(1 / (1 + sigmas.double() ** 2))


def batches_of(conds: Sequence[Any]) -> list[slice]:
    """Runs of neighbours that the host can put into one batch."""
    starts = [
        i
        for i in range(len(conds))
        if not i or not comfy.samplers.cond_equal_size(conds[i - 1], conds[i])
    ]
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(conds)], strict=True)]


@torch.no_grad()
def _computes(sampling: Any, parameterization: Parameterization, sigma: Tensor) -> bool:
    """Whether the host adds noise, scales and denoises at this sigma as the formulas say.

    In float64, where the little that LCM mixes in at any sigma shows.
    """
    generator = torch.Generator().manual_seed(0)
    output, noisy, noise = torch.randn((3, 1, 4, 2, 2), generator=generator, dtype=torch.float64)
    scale = (sigma**2 + 1).sqrt()
    scaled, mixed = noisy / scale, output + sigma * noise
    denoised = noisy - output * sigma
    if parameterization == "v_prediction":
        denoised = noisy / scale**2 - output * sigma / scale
    if parameterization == "flow":
        scaled, mixed = noisy, (1 - sigma) * output + sigma * noise
    sigma = sigma.view(1)
    host = (
        sampling.calculate_input(sigma, noisy),
        sampling.noise_scaling(sigma, noise, output),
        sampling.calculate_denoised(sigma, output, noisy),
    )
    return all(
        torch.allclose(found, expected, rtol=1e-7, atol=1e-7)
        for found, expected in zip(host, (scaled, mixed, denoised), strict=True)
    )
