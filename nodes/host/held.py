"""The host's networks held still: what weights they compute with, and when these come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from torch import nn

from ...trainer.just_in_time import JustInTime, blocks_of, checkpointed, placed
from ...trainer.memory import Budget
from .at_rest import at_rest
from .memory import bytes_there, bytes_to_bring
from .weights import HostWeights


@contextmanager
def held_still(network: HostWeights, text: HostWeights, budget: Budget) -> Iterator[list[str]]:
    """Give all layers weights that gradients flow past, in the way that the budget has chosen.

    Afterwards every original object is in its place again.

    Args:
        network: the weights of the network that predicts.
        text: those of the text encoders.
        budget: see `trainer.memory.plan`.

    Yields:
        see `AtRest.left`.

    Raises:
        InputError: weights that cannot be used; before the first step.
    """
    left = []
    with ExitStack() as stack:
        for weights in (network, text):
            resting = at_rest(weights.module)
            stack.enter_context(placed(resting.stand_ins))
            left += resting.left
        if budget.just_in_time:
            _bring_just_in_time(stack, (network, text), budget.staying)
        else:
            for weights in (network, text):
                stack.enter_context(placed(weights.bring(weights.module)))
            if budget.checkpointing:
                stack.enter_context(checkpointed(blocks_of(network.module)))
            if budget.text_checkpointing:
                stack.enter_context(checkpointed(blocks_of(text.module)))
        yield left


def _bring_just_in_time(stack: ExitStack, every: Sequence[HostWeights], staying: int) -> None:
    """Let blocks keep their weights while they fit into so many bytes; the rest come and go."""
    coming = JustInTime(every[0].device)
    left = staying - sum(bytes_there(weights.module, weights.device) for weights in every)
    for weights in every:
        weights.check()
        blocks = list(blocks_of(weights.module))
        stack.enter_context(placed(weights.bring_outside(blocks)))
        waiting: list[nn.Module] = []
        for block in blocks:
            size = bytes_to_bring(block, weights.device, weights.dtype)
            if size > left:
                waiting.append(block)
                continue
            left -= size
            stack.enter_context(placed(weights.bring(block)))
            stack.enter_context(checkpointed([block]))
        stack.enter_context(coming.over(waiting, weights.bring))
