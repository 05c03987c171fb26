"""Which amounts of noise training looks at: timesteps in a window, spread evenly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError

WINDOWS: Mapping[str, tuple[int, int]] = {"object": (500, 900), "style": (300, 800)}
"""What is learned -> thousandths of the schedule that teach most.

Objects: PUTS (ZOODiP, arXiv 2503.14868), where timesteps below 500 alone fail to learn. Styles lie
in finer detail, so their window lies lower; that one is our own.
"""

FULL = 1000
"""Windows are in thousandths of the schedule, whatever its length."""


@dataclass(frozen=True)
class Timesteps:
    """From where timesteps are drawn.

    Attributes:
        low: first thousandth of the schedule.
        high: first thousandth above the window.
        logit_normal: middle ones more often, as in Stable Diffusion 3 (arXiv 2403.03206),
            instead of all equally often.
    """

    low: int = 0
    high: int = FULL
    logit_normal: bool = False

    def draw(self, count: int, length: int, generator: torch.Generator) -> Tensor:
        """Timesteps for the samples of one update, one from each of `count` equal shares.

        Taken alone, each is distributed as if it had been drawn by itself; together they cover
        the window, so that the gradient depends less on luck (stratified sampling).

        Args:
            count: samples of the update.
            length: of the schedule.
            generator: of the random numbers.

        Returns:
            int64 [count], in no order, each below `length`.
        """
        shares = torch.randperm(count, generator=generator)
        # In double precision, so that rounding never reaches the next share.
        inside = torch.rand(count, generator=generator, dtype=torch.float64)
        places = (shares + inside) / count
        if self.logit_normal:
            places = torch.special.ndtri(places).sigmoid()
        thousandths = self.low + places * (self.high - self.low)
        return (thousandths * length / FULL).long().clamp(0, length - 1)


def parse_timesteps(text: str, learn: str) -> Timesteps:
    """Read `all`, `window`, `logit-normal`, or a window of one's own such as `400-800`.

    Args:
        text: the setting.
        learn: `object` or `style`, which chooses the window.

    Raises:
        InputError: none of these.
    """
    plain = text.strip().lower()
    if plain == "all":
        return Timesteps()
    if plain == "logit-normal":
        return Timesteps(logit_normal=True)
    if plain == "window":
        return Timesteps(*WINDOWS[learn])
    bounds = re.fullmatch(r"(\d{1,4})\s*-\s*(\d{1,4})", plain)
    if bounds and int(bounds[1]) < int(bounds[2]) <= FULL:
        return Timesteps(int(bounds[1]), int(bounds[2]))
    raise InputError(
        f"timesteps is “{text}”: write all, window, logit-normal, or two numbers from 0 to {FULL} "
        "such as 500-900."
    )
