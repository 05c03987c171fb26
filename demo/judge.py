"""Somebody with a taste: likes what is painted in deep colours, and dislikes what is pale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..trainer.runs.ratings import DISLIKED, LIKED, SKIPPED
from .estimator import Pictures, read

APART = 0.1
"""How much paler one of two pictures must be for the judge to see it; shades are from 0 to 1."""


def judged(pictures: Pictures, prompts: Sequence[str]) -> list[str]:
    """What the judge says of each picture: one of `RATINGS`.

    Of each prompt, the deepest picture is held against the palest, the second deepest against the
    second palest, and so on; what looks alike is skipped.

    Args:
        pictures: height x width x RGB in 0..1 each.
        prompts: that they were drawn with.
    """
    if not prompts:
        return []
    shades = np.array([reading.look.shade for reading in read(pictures)])
    said = [SKIPPED] * len(prompts)
    for prompt in set(prompts):
        places = [place for place, other in enumerate(prompts) if other == prompt]
        places.sort(key=lambda place: shades[place])
        for deep, pale in zip(places, reversed(places), strict=True):
            if shades[pale] - shades[deep] >= APART:
                said[deep], said[pale] = LIKED, DISLIKED
    return said
