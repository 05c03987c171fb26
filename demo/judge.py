"""Somebody with a taste: likes what is painted in deep colours, and dislikes what is pale."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..trainer.runs.ratings import DISLIKED, LIKED, SKIPPED
from .estimator import read

DECIDED = 0.4
"""Share of the pictures of a prompt that is liked, and that is disliked."""


def judged(pictures: Sequence[Tensor], prompts: Sequence[str]) -> list[str]:
    """What the judge says of each picture: one of `RATINGS`.

    Of each prompt, the deepest pictures are liked and the palest disliked; what lies between is
    skipped.

    Args:
        pictures: float32 [height, width, 3] in 0..1 each.
        prompts: that they were drawn with.
    """
    shades = [read(picture)[0].look.shade for picture in pictures]
    said = [SKIPPED] * len(prompts)
    for prompt in set(prompts):
        places = [place for place, other in enumerate(prompts) if other == prompt]
        places.sort(key=lambda place: shades[place])
        count = int(DECIDED * len(places))
        for deep, pale in zip(places[:count], places[::-1][:count], strict=True):
            said[deep], said[pale] = LIKED, DISLIKED
    return said
