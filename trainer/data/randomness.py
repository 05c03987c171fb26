"""Random numbers that depend on the seed and a place in the run alone."""

from __future__ import annotations

from enum import IntEnum

import torch


class Stream(IntEnum):
    """The streams of random numbers beside those of the batches, which count from 0."""

    EVALUATION = -1
    CAPTIONS = -2
    BUCKETS = -3
    ZOOM = -4
    TIMESTEPS = -5
    HELD_OUT = -6


def generator(seed: int, *place: int) -> torch.Generator:
    """The random numbers of one place: the number of a batch, or a `Stream` and a number in it.

    The same ones wherever the run began, on every device: torch draws them on the CPU.
    """
    for number in place:
        # The remainder is what torch can take.
        seed = (seed * 1_000_003 + number) % 2**63
    return torch.Generator().manual_seed(seed)
