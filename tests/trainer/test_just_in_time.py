"""Weights that come when their block computes: the same gradient, those of two blocks at most."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from textual_inversion.trainer.just_in_time import (
    JustInTime,
    StandIn,
    blocks_of,
    checkpointed,
    placed,
)
from torch import nn


class Block(nn.Module):
    """What computes as one, with something inside."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor, options: dict[str, int]) -> torch.Tensor:
        options["place"] += 1
        return x + torch.tanh(self.inner(x)) * options["place"]


class Network(nn.Module):
    """Blocks in a list, and a layer outside."""

    def __init__(self, blocks: int = 6) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.blocks = nn.ModuleList(Block() for _ in range(blocks))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        options = {"place": 0}
        for place, block in enumerate(self.blocks):
            options["place"] = place
            x = block(x, options)
        return x


class Coming:
    """Brings copies, and knows for how many blocks there are any."""

    def __init__(self) -> None:
        self.most = self.count = 0
        self._alive: list[list[weakref.ref[torch.UntypedStorage]]] = []

    def __call__(self, block: nn.Module) -> list[StandIn]:
        made = [
            StandIn(part._parameters, name, nn.Parameter(weight.clone(), requires_grad=False))
            for part in block.modules()
            for name, weight in part._parameters.items()
        ]
        self._alive.append([weakref.ref(one.value.untyped_storage()) for one in made])
        self._alive = [refs for refs in self._alive if any(ref() is not None for ref in refs)]
        self.count += 1
        self.most = max(self.most, len(self._alive))
        return made


@pytest.fixture
def network() -> Network:
    torch.manual_seed(1)
    return Network().requires_grad_(False)


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    before = [(set(vars(m)), dict(m._parameters)) for m in module.modules()]
    yield
    after = [(set(vars(m)), dict(m._parameters)) for m in module.modules()]
    assert [names for names, _ in after] == [names for names, _ in before]
    for (_, now), (_, then) in zip(after, before, strict=True):
        assert all(now[name] is then[name] for name in then)


def gradient(network: nn.Module, passes: int = 2) -> torch.Tensor:
    x = torch.linspace(-1, 1, 16).view(2, 8).requires_grad_()
    for _ in range(passes):
        network(x).square().sum().backward()
    assert x.grad is not None
    return x.grad


def test_the_gradient_is_the_same_and_two_blocks_are_there_at_most(network: Network) -> None:
    wanted, coming = gradient(network), Coming()
    with unchanged(network), JustInTime(torch.device("cpu")).over(network.blocks, coming):
        found = gradient(network)
    assert torch.equal(found, wanted)
    assert coming.most == 2
    # There and back, twice; and the last block, after which no one knows that it comes again.
    assert coming.count <= 2 * 2 * len(network.blocks) + 2


def test_two_networks_share_what_is_there(network: Network) -> None:
    torch.manual_seed(2)
    other = Network(3).requires_grad_(False)
    both, coming = nn.Sequential(network, other), Coming()
    wanted = gradient(both)
    line = JustInTime(torch.device("cpu"))
    with line.over(network.blocks, coming), line.over(other.blocks, coming):
        with torch.no_grad():
            both(torch.ones(1, 8))
        assert torch.equal(gradient(both), wanted)
    assert coming.most == 2


def test_some_stay_and_some_come(network: Network) -> None:
    wanted, coming = gradient(network), Coming()
    stay, come = network.blocks[::2], network.blocks[1::2]
    with (
        unchanged(network),
        checkpointed(stay),
        JustInTime(torch.device("cpu")).over(list(come), coming),
    ):
        assert torch.equal(gradient(network), wanted)
    assert coming.most == 2


@pytest.mark.parametrize("back", [False, True])
def test_after_an_error_all_is_as_it_was(network: Network, back: bool) -> None:
    """On the way there, and on the way back; also for the next run, while the error is kept."""
    wanted, calls = gradient(network), []

    def fails(*_: object) -> None:
        calls.append(1)
        if len(calls) == 1 + back:
            raise KeyError("broken")

    hook = network.blocks[2].inner.register_forward_hook(fails)
    with (
        unchanged(network),
        pytest.raises(KeyError) as kept,
        JustInTime(torch.device("cpu")).over(network.blocks, Coming()),
    ):
        gradient(network)
    hook.remove()
    with JustInTime(torch.device("cpu")).over(network.blocks, Coming()):
        assert torch.equal(gradient(network), wanted)
    assert "broken" in str(kept.value)


def test_blocks_are_the_outermost_of_lists(network: Network) -> None:
    assert list(blocks_of(nn.Sequential(network.first, network))) == [network]
    assert list(blocks_of(network)) == list(network.blocks)


def test_what_is_placed_goes_again() -> None:
    table: dict[str, object] = {"kept": 1}
    with placed([StandIn(table, "kept", 2), StandIn(table, "new", 3)]):
        assert table == {"kept": 2, "new": 3}
    assert table == {"kept": 1}
