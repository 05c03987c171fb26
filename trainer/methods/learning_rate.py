"""The learning rate at each step."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..errors import InputError

Schedule = Callable[[int], float]
"""Step (counted from 0) -> learning rate."""

SCHEDULES = ("anytime", "cosine", "constant")
"""How a rate may change over a run."""

TURN = 100
"""Steps after which an anytime rate is half of what it began with."""

LARGEST_RATE = 1000
"""No vocabulary has rows this long; the optimiser's arithmetic ends far above."""


def is_anytime(shape: str, rate: str) -> bool:
    """Whether a run has no length of its own; a list of rates always has one."""
    return shape == "anytime" and ":" not in rate


def parse_learning_rate(text: str, shape: str, steps: int) -> Schedule:
    """Read a rate, or A1111's list of `rate:until_step` pairs.

    Args:
        text: `"0.005"`, or `"0.005:100, 1e-3:1000"`: 0.005 for steps 1 to 100, then 1e-3.
            The last pair may leave out its step and then holds to the end; a list that
            ends early holds its last rate.
        shape: one of `SCHEDULES`; for a single rate only. `anytime` falls like
            1 / (1 + step / `TURN`): slowly enough to get anywhere and fast enough to settle, as
            Robbins and Monro (1951) ask for, whatever the length of the run.
        steps: length of the run.

    Raises:
        InputError: not a number above 0 and up to `LARGEST_RATE`, or steps that do not increase.
    """
    pairs = [_pair(part, text) for part in text.split(",") if part.strip()]
    ends = [end for _, end in pairs]
    if not pairs or any(end is None for end in ends[:-1]):
        raise _unreadable(text)
    bounds = [end for end in ends if end is not None]
    if any(b <= a for a, b in zip([0, *bounds], bounds, strict=False)):
        raise InputError(f"The steps in the learning rate “{text}” must increase, as in “{_LIST}”.")
    if bounds:
        return lambda step: next(
            (rate for rate, end in pairs if end is None or step < end), pairs[-1][0]
        )
    rate = pairs[0][0]
    if shape == "constant":
        return lambda step: rate
    if shape == "anytime":
        return lambda step: rate / (1 + step / TURN)
    return lambda step: rate * 0.5 * (1 + math.cos(math.pi * step / steps))


_LIST = "0.005:100, 1e-3:1000"


def _unreadable(text: str) -> InputError:
    return InputError(
        f"The learning rate “{text}” cannot be read: give auto, one number above 0 and up to "
        f"{LARGEST_RATE}, such as 0.005, or a list such as “{_LIST}”."
    )


def _pair(part: str, text: str) -> tuple[float, int | None]:
    rate_text, _, end_text = part.partition(":")
    try:
        rate, end = float(rate_text), int(end_text) if end_text.strip() else None
    except ValueError:
        raise _unreadable(text) from None
    if not 0 < rate <= LARGEST_RATE:
        raise _unreadable(text)
    return rate, end
