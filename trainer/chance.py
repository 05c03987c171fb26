"""Random numbers that depend on the seed and a place in the run alone."""

from __future__ import annotations

import torch


def generator(seed: int, *place: int) -> torch.Generator:
    """The random numbers of one place, such as a batch or a turn.

    The same ones wherever the run began, on every device: torch draws them on the CPU.
    """
    for number in place:
        # The remainder is what torch can take.
        seed = (seed * 1_000_003 + number) % 2**63
    return torch.Generator().manual_seed(seed)
