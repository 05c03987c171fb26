"""Pictures shown nearer and farther than they are, with words that say so.

After the augmentation of Custom Diffusion (arXiv 2212.04488, appendix): without the words, a
small thing on an empty ground would be learned as part of what the word means.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .pictures import EMPTY, Picture, fit

NEAR, FAR = "a close-up", "seen from afar"
"""Added to the prompts of nearer and farther pictures."""

NEAR_PARTS = (0.6, 0.8)
FAR_PARTS = (0.5, 0.7)
"""Sides of what is cut out, and of what is shrunk to, as parts of the picture's own."""

GRID = 8
"""Farther pictures lie on this grid of pixels, so that a latent shows either all or none."""


def nearer(
    picture: Picture, size: tuple[int, int], rng: torch.Generator
) -> tuple[Tensor, Tensor | None] | None:
    """Cut out a part around the middle of the mask, or of the picture, and enlarge it.

    Args:
        picture: of any size, as `pictures.flatten` gives it.
        size: height and width of the result in pixels.
        rng: how much is cut out.

    Returns:
        pixels [height, width, 3] and mask as of `pictures.fit`, or None where nothing of the
        mask lies in the part.
    """
    height, width = picture.pixels.shape[:2]
    part = _between(NEAR_PARTS, rng)
    # The shape of the result already here, or the crop that makes it would move the middle.
    scale = part * min(height / size[0], width / size[1])
    tall, wide = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    y, x = _middle(picture.mask) if picture.mask is not None else (height / 2, width / 2)
    top = min(max(round(y - tall / 2), 0), height - tall)
    left = min(max(round(x - wide / 2), 0), width - wide)
    place = (slice(top, top + tall), slice(left, left + wide))
    mask = None if picture.mask is None else picture.mask[place]
    if mask is not None and mask.max() <= EMPTY:
        return None
    return fit(Picture(picture.pixels[place], mask=mask, source=picture.source), size)


def farther(picture: Picture, size: tuple[int, int], rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Shrink the picture and put it somewhere on an empty ground, from which nothing is learned.

    Args:
        picture: of any size, as `pictures.flatten` gives it.
        size: height and width of the result in pixels.
        rng: how far, and where.

    Returns:
        pixels [height, width, 3], and a mask [height, width] that leaves out the ground.
    """
    part = _between(FAR_PARTS, rng)
    tall, wide = (max(GRID, round(side * part / GRID) * GRID) for side in size)
    pixels, mask = fit(picture, (tall, wide))
    top, left = (
        int(torch.randint((whole - shrunk) // GRID + 1, (), generator=rng)) * GRID
        for whole, shrunk in zip(size, (tall, wide), strict=True)
    )
    place = (slice(top, top + tall), slice(left, left + wide))
    ground, seen = pixels.mean((0, 1)).repeat(*size, 1), torch.zeros(size)
    ground[place] = pixels
    seen[place] = 1 if mask is None else mask
    return ground, seen


def _between(limits: Sequence[float], rng: torch.Generator) -> float:
    low, high = limits
    return low + (high - low) * float(torch.rand((), generator=rng))


def _middle(mask: Tensor) -> tuple[float, float]:
    """The middle of what a mask [height, width] shows, as y and x in pixels."""
    total = mask.sum().clamp_min(1e-6)
    y = (mask.sum(1) * torch.arange(mask.shape[0])).sum() / total
    x = (mask.sum(0) * torch.arange(mask.shape[1])).sum() / total
    return float(y) + 0.5, float(x) + 0.5
