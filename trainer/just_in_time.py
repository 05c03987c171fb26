"""Weights just in time: a block of a network has its weights only while it computes.

No weight changes while a word is learned. Under checkpointing (Chen et al., “Training Deep Nets
with Sublinear Memory Cost”, 2016) the inside of a block is computed twice in a step, there and
again on the way back, and at no other time are its weights needed. So they can be kept anywhere
and in any format, as long as someone brings them: moved, unpacked and cast.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import count
from traceback import clear_frames
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

GONE = object()
"""In place of a value: the entry is not there."""


@dataclass(frozen=True)
class StandIn:
    """What takes the place of an entry of a table for a while, such as of `module._parameters`."""

    table: dict[str, Any]
    name: str
    value: Any


Bring = Callable[[nn.Module], list[StandIn]]
"""Makes what a block computes with; called at each use, so that nothing of it outlives the use."""


@contextmanager
def placed(stand_ins: Sequence[StandIn]) -> Iterator[None]:
    """Put stand-ins into their places; afterwards each place holds the object that it held."""
    before = [StandIn(s.table, s.name, s.table.get(s.name, GONE)) for s in stand_ins]
    try:
        _put(stand_ins)
        yield
    finally:
        _put(reversed(before))


def _put(entries: Iterable[StandIn]) -> None:
    for entry in entries:
        if entry.value is GONE:
            entry.table.pop(entry.name, None)
        else:
            entry.table[entry.name] = entry.value


def blocks_of(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost modules inside lists and sequences: those that are called as one."""
    lists = nn.ModuleList | nn.Sequential
    for child in module.children():
        if isinstance(child, lists) or not isinstance(module, lists):
            yield from blocks_of(child)
        elif next(child.children(), None) is not None:
            yield child


@contextmanager
def checkpointed(blocks: Iterable[nn.Module]) -> Iterator[None]:
    """Keep only the inputs of each block and compute its inside again on the way back."""
    with _computing_twice(blocks, lambda block, back: nullcontext()):
        yield


class JustInTime:
    """Brings blocks their weights: while one computes, those of the one that follows.

    Args:
        device: where the blocks compute.
    """

    def __init__(self, device: torch.device) -> None:
        self._transfers = _Transfers(device)
        self._bring: dict[nn.Module, Bring] = {}
        self._next: dict[tuple[nn.Module, bool], nn.Module] = {}
        self._last: tuple[nn.Module, bool] | None = None
        self._ahead: tuple[nn.Module, _Coming] | None = None

    @contextmanager
    def over(self, blocks: Sequence[nn.Module], bring: Bring) -> Iterator[None]:
        """Checkpoint blocks, and give each what `bring` makes while it computes.

        Several networks that compute one after the other can share one object: never more than
        the stand-ins of two blocks are there, whichever they belong to.
        """
        self._bring |= dict.fromkeys(blocks, bring)
        try:
            with _computing_twice(blocks, self._weights_of):
                yield
        finally:
            self._last = self._ahead = None
            self._next.clear()
            for block in blocks:
                del self._bring[block]

    @contextmanager
    def _weights_of(self, block: nn.Module, back: bool) -> Iterator[None]:
        coming, self._ahead = self._ahead, None
        if coming is None or coming[0] is not block:
            coming = None  # what was brought in vain goes before anything else comes
            held = self._bring[block](block)
        else:
            held = coming[1].arrived()
            coming = None
        # Without gradients nothing comes back, so that such passes say nothing of the order.
        if self._last and not self._last[1] and not back and torch.is_grad_enabled():
            self._next[self._last[0], False] = block
            self._next[block, True] = self._last[0]
        self._last = block, back
        following = self._next.get((block, back))
        if following is not None:
            bring = self._bring[following]
            self._ahead = following, self._transfers.begin(lambda: bring(following))
        with placed(held):
            del held
            yield


def _computing_twice(
    blocks: Iterable[nn.Module], around: Callable[[nn.Module, bool], AbstractContextManager[None]]
) -> AbstractContextManager[None]:
    """Checkpoint blocks; `around(block, back)` is open whenever one computes."""
    return placed([StandIn(vars(b), "forward", _twice(b, around)) for b in blocks])


def _twice(
    block: nn.Module, around: Callable[[nn.Module, bool], AbstractContextManager[None]]
) -> Callable[..., Any]:
    forward = block.forward

    def run(*args: Any, **kwargs: Any) -> Any:
        # Networks write the place where they are into these as they go along; the second pass
        # must see what the first one saw.
        kwargs = {k: dict(v) if isinstance(v, dict) else v for k, v in kwargs.items()}
        args = tuple(dict(a) if isinstance(a, dict) else a for a in args)
        passes = count()

        def inside(*args: Any, **kwargs: Any) -> Any:
            with around(block, next(passes) > 0):
                return forward(*args, **kwargs)

        try:
            return checkpoint(
                inside, *args, use_reentrant=False, preserve_rng_state=False, **kwargs
            )
        except BaseException as error:
            # Before PyTorch 2.13 the hooks of a pass that failed stay for as long as anyone keeps
            # the error, whose frames hold them, and the next run would go through them.
            clear_frames(error.__traceback__)
            raise

    return run


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device, itself if it is there; from the CPU to a GPU without waiting.

    The pinned copy on the way belongs to PyTorch's own cache, which takes it for the next one.
    """
    if tensor.device.type == "cpu" and device.type == "cuda":
        pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
        return pinned.to(device, non_blocking=True)
    return tensor.to(device)


@dataclass(frozen=True)
class _Coming:
    """Stand-ins that are being brought; `event` is set where a stream of their own brings them."""

    stand_ins: list[StandIn]
    device: torch.device
    event: Any = None

    def arrived(self) -> list[StandIn]:
        """The stand-ins, for the device's current stream to use."""
        if self.event is not None:
            torch.cuda.current_stream(self.device).wait_event(self.event)
        return self.stand_ins


class _Transfers:
    """Begins to bring stand-ins: on a GPU by a stream of its own, elsewhere at once.

    That stream first waits for all that was to be computed when it was asked. So it can take the
    memory of stand-ins that have gone since at once, though a GPU may lag far behind this program:
    there is never more than what two blocks take. Neither are there more than a few pinned copies
    on the way.

    The only part of this module that only a GPU can show; it has not been run on one.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: Any = None
        self._under_way: deque[Any] = deque()
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def begin(self, bring: Callable[[], list[StandIn]]) -> _Coming:
        if self._stream is None:
            return _Coming(bring(), self._device)
        if len(self._under_way) == 2:
            self._under_way.popleft().synchronize()
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            stand_ins = bring()
            self._under_way.append(self._stream.record_event())
        return _Coming(stand_ins, self._device, self._under_way[-1])
