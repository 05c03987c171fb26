"""Classifier-free guidance (arXiv 2207.12598), and what takes too much contrast off again."""

from __future__ import annotations

from torch import Tensor


def guide(positive: Tensor, negative: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: negative + scale · (positive − negative)."""
    return negative + scale * (positive - negative)


def rescaled(guided: Tensor, positive: Tensor, share: float) -> Tensor:
    """Bring a guided prediction back to the contrast of the plain one.

    Guidance makes predictions larger, and pictures too contrasty; see “Common Diffusion Noise
    Schedules and Sample Steps are Flawed” (arXiv 2305.08891), section 3.4.

    Args:
        guided: from `guide`, [batch, channels, h, w].
        positive: the prediction for the prompt alone, of the same shape.
        share: φ of the paper: 0 leaves it as it is, 1 has all of the plain one's deviation.
    """
    dims = tuple(range(1, guided.ndim))
    ratio = positive.std(dims, keepdim=True) / guided.std(dims, keepdim=True)
    return guided * (share * ratio + 1 - share)
