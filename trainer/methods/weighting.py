"""How much each timestep's loss counts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..model import Parameterization

WEIGHTINGS: Sequence[str] = ("none", "min-snr", "debiased")

GAMMA = 5.0
"""Of min-SNR, as its paper recommends."""

LARGEST = 1000.0
"""No sample counts more; debiased weights have no bound where a schedule ends in pure noise."""


def loss_weights(
    weighting: str, parameterization: Parameterization, alpha: Tensor, sigma: Tensor
) -> Tensor | None:
    """The weight of each sample's loss, or None if all count the same.

    Both papers weight the error of the picture x0 that follows from a prediction: with
    SNR = alpha² / sigma², min-SNR (arXiv 2303.09556) by min(SNR, gamma), debiased estimation
    (arXiv 2310.08442) by the root of SNR. What the loss sees is the error of the prediction
    itself, which is smaller by the factor with which it enters x0: sigma / alpha for epsilon, sigma
    for v and flow.

    Args:
        weighting: one of `WEIGHTINGS`.
        parameterization: of the prediction.
        alpha: of each sample, [batch, 1, ...].
        sigma: the same.

    Returns:
        float32 [batch].
    """
    if weighting == "none":
        return None
    alpha, sigma = alpha.flatten(), sigma.flatten()
    # Written without SNR, which is infinite without noise and zero without picture.
    if weighting == "min-snr":
        on_noise = torch.minimum(torch.ones_like(alpha), GAMMA * (sigma / alpha) ** 2)
        on_sigma = torch.minimum(alpha**2, GAMMA * sigma**2)
    else:
        on_noise = sigma / alpha
        on_sigma = alpha * sigma
    return (on_noise if parameterization == "epsilon" else on_sigma).clamp_max(LARGEST)
