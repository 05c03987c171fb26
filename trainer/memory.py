"""How much of a step fits into the memory of a GPU, decided before the first one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PLAIN, CHECKPOINTED = 32, 7
"""What a step of one picture takes, by the host's reckoning for sampling it, which holds the
values of one block where a step holds those of all for the way back.

Counted for networks of full size in half precision, at most: Stable Diffusion 1 takes 9 times as
much, SDXL 19, Flux.1 22 and Z-Image 29; with checkpointing all take 2 to 2.5. Measured on an H200:
9, 19, 17 and 20, and 1.9 to 2.5. Measured with its text encoder on a CPU, Stable Diffusion 1 takes
12 and 7.
"""

IN_TIME = 5
"""The same where all weights come just in time, which are counted for themselves.

Counted on top of two blocks' weights, for pictures of 1024 and 1536 pixels and texts of 128 and 512
tokens: at most 3.7 for Qwen-Image, 2.4 for Z-Image, and 1.8 for the others, whose largest block is
not where most values are kept. Most of it are the inputs of blocks, so that networks of many blocks
take most; the host's reckoning knows the pictures' size and not their number. The rest is for what
is not counted: text encoders' values, and what allocators and kernels take for themselves.
"""


@dataclass(frozen=True)
class Weights:
    """What the weights of a network or of text encoders take, in bytes.

    Attributes:
        stored: as the host keeps them.
        unpacked: those that are quantised, in the number format that it computes in.
        copies: those that it keeps in another format than it computes in, in that one.
        outside: what stands outside the blocks, as it computes with it.
        blocks: each block, likewise.
    """

    stored: int = 0
    unpacked: int = 0
    copies: int = 0
    outside: int = 0
    blocks: Sequence[int] = ()


@dataclass(frozen=True)
class Budget:
    """How a step is computed.

    Attributes:
        at_once: pictures of a batch computed together; the rest follow, to the same gradient.
        checkpointing: compute the network's inner values twice instead of keeping them.
        needed: bytes to ask the host for, beside the weights.
        wide_text: keep the text encoders' weights in the number format that they compute in.
        text_checkpointing: as `checkpointing`, for the text encoders.
        just_in_time: blocks have their weights only while they compute, but for as many as stay.
        staying: bytes of the blocks that keep theirs.
    """

    at_once: int
    checkpointing: bool
    needed: int
    wide_text: bool
    text_checkpointing: bool
    just_in_time: bool = False
    staying: int = 0


def plan(
    sampling: int,
    capacity: int | None,
    batch_size: int,
    checkpointing: bool,
    network: Weights,
    text: Weights,
) -> Budget:
    """Keep the whole batch together if it fits; else split it; else checkpoint, too.

    Splitting costs next to nothing, checkpointing a third of the time. The host's text encoders
    compute in float32: kept for the way back, the copies of half-precision weights would take
    twice the encoders' own memory (19 GB for T5-XXL). Where there is room left for that, they are
    made once and not at each use; else those of one layer at a time.

    Where not even one picture fits beside all weights, these come just in time: then a batch is
    split as little as possible, because each part of it brings them all again.

    Args:
        sampling: bytes that the host reckons with for sampling one picture.
        capacity: bytes that training may take, weights included; None where nothing limits it.
        batch_size: pictures in a batch.
        checkpointing: what the user wants; what is on stays on.
        network: its weights. Their copies are there at once without checkpointing, else those of
            one block at a time.
        text: the text encoders' weights.
    """
    unpacked = network.unpacked + text.unpacked
    room = None if capacity is None else capacity - network.stored - text.stored - unpacked
    # Without a limit there is no second copy of what the host keeps. Those that its text encoders
    # make as they go along are let go by checkpointing, see above.
    twice = network.copies + text.unpacked
    for on in (False, True) if room is not None or not twice else ():
        each = sampling * (CHECKPOINTED if on else PLAIN)
        once = 0 if on else network.copies - network.unpacked
        fitting = batch_size
        if room is not None:
            fitting = min(batch_size, max(0, room - once) // max(1, each))
        if fitting and (on or not checkpointing):
            needed = once + fitting * each
            widening = text.copies - text.unpacked
            wide = room is not None and not on and needed + widening <= room
            narrow = widening > 0 and not wide
            needed += unpacked + widening * wide
            return Budget(fitting, on, needed, wide, on or narrow)
    # One computes while the next one comes.
    weights = network.outside + text.outside + 2 * max((*network.blocks, *text.blocks), default=0)
    each = sampling * IN_TIME
    fitting = batch_size
    if capacity is not None:
        fitting = max(1, min(batch_size, (capacity - weights) // max(1, each)))
    needed = weights + fitting * each
    staying = 0 if capacity is None else max(0, capacity - needed)
    return Budget(fitting, True, needed, True, True, True, staying)


def told(budget: Budget, capacity: int | None, network: Weights, text: Weights) -> str:
    """What was chosen and why, in one line for people; empty if there was nothing to choose."""
    if capacity is None and not budget.just_in_time:
        return ""
    stored = network.stored + text.stored
    parts = [f"the weights are {_gb(stored)}"]
    if capacity is not None:
        parts.insert(0, f"training may take {_gb(capacity)}")
    unpacked = network.unpacked + text.unpacked
    if unpacked:
        parts[-1] += f", {_gb(stored + unpacked)} with the quantised ones unpacked"
    if not budget.just_in_time:
        chosen = "all of them stay"
    elif budget.staying:
        chosen = f"{_gb(budget.staying)} of them stay and the others come block by block"
    else:
        chosen = "they come block by block"
    chosen += f"; pictures at once: {budget.at_once}"
    chosen += f"; checkpointing is {'on' if budget.checkpointing else 'off'}"
    return f"Memory: {', '.join(parts)}: {chosen}."


def _gb(size: int) -> str:
    return f"{size / (1 << 30):.1f} GB"
