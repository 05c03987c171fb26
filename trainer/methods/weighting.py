"""How much each timestep's loss counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..model import Parameterization

GAMMA = 5.0
"""Of min-SNR, as its paper recommends."""

LARGEST = 1000.0
"""No sample counts more; debiased weights have no bound where a schedule ends in pure noise."""


Factors = tuple[Tensor, Tensor]
"""The weight of an error in epsilon, and of one in v or flow; [batch] each."""


def _min_snr(alpha: Tensor, sigma: Tensor) -> Factors:
    """min(SNR, gamma) (arXiv 2303.09556), written without SNR."""
    on_noise = torch.minimum(torch.ones_like(alpha), GAMMA * (sigma / alpha) ** 2)
    return on_noise, torch.minimum(alpha**2, GAMMA * sigma**2)


def _debiased(alpha: Tensor, sigma: Tensor) -> Factors:
    """The root of SNR (arXiv 2310.08442), written without SNR."""
    return sigma / alpha, alpha * sigma


WEIGHTINGS: Mapping[str, Callable[[Tensor, Tensor], Factors] | None] = {
    "none": None,
    "min-snr": _min_snr,
    "debiased": _debiased,
}
"""The one table of weightings: a row here is all that another one takes, and a test.

Papers weight the error of the picture x0 that follows from a prediction, by a function of
SNR = alpha² / sigma². What the loss sees is the error of the prediction itself, which is smaller by
the factor with which it enters x0: sigma / alpha for epsilon, sigma for v and flow. SNR is infinite
without noise and zero without picture, so that formulas do without it.
"""


def loss_weights(
    weighting: str, parameterization: Parameterization, alpha: Tensor, sigma: Tensor
) -> Tensor | None:
    """The weight of each sample's loss, or None if all count the same.

    Args:
        weighting: one of `WEIGHTINGS`.
        parameterization: of the prediction.
        alpha: of each sample, [batch, 1, ...].
        sigma: the same.

    Returns:
        float32 [batch].
    """
    weigh = WEIGHTINGS[weighting]
    if weigh is None:
        return None
    on_noise, on_sigma = weigh(alpha.flatten(), sigma.flatten())
    return (on_noise if parameterization == "epsilon" else on_sigma).clamp_max(LARGEST)
