"""Gradients flow past weights wherever the host holds them, and all is put back."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from support.checkpoints import SD1
from support.loaded import Loaded, executing, load
from torch import Tensor, nn


@dataclass
class Fused:
    weight: Tensor
    scale: float = 1.0


@dataclass(frozen=True)
class Frozen:
    weight: Tensor


class Slotted:
    __slots__ = ("weight",)

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight


class Pair(NamedTuple):
    name: str
    weight: Tensor


class Sized(tuple[Tensor, ...]):
    """A tuple that is made in a way of its own."""

    def __new__(cls, size: int, weight: Tensor) -> Sized:
        return super().__new__(cls, [weight] * size)


class Remembering(dict[str, Any]):
    """A table of its own kind, as caches are."""


class Unregistered(nn.Module):
    """A layer that nobody can find by asking for the modules within."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.inner.weight = nn.Parameter(weight, requires_grad=False)


PLACES: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]] = {
    "attribute": (lambda t: t, lambda v: v),
    "parameter in an attribute": (lambda t: (nn.Parameter(t),), lambda v: v[0]),
    "list": (lambda t: [1, t], lambda v: v[1]),
    "tuple": (lambda t: ("name", t), lambda v: v[1]),
    "named tuple": (lambda t: Pair("name", t), lambda v: v.weight),
    "dict": (lambda t: {"weight": t}, lambda v: v["weight"]),
    "dict of its own kind": (lambda t: Remembering(weight=t), lambda v: v["weight"]),
    "ordered, by numbers": (lambda t: OrderedDict({(64, 64): t}), lambda v: v[64, 64]),
    "deque": (lambda t: deque([t], maxlen=2), lambda v: v[0]),
    "set": (lambda t: {t}, lambda v: next(iter(v))),
    "dataclass": (Fused, lambda v: v.weight),
    "frozen dataclass": (Frozen, lambda v: v.weight),
    "slots": (Slotted, lambda v: v.weight),
    "namespace": (lambda t: SimpleNamespace(deep={"er": [t]}), lambda v: v.deep["er"][0]),
    "module in a list": (lambda t: [Unregistered(t)], lambda v: v[0].inner.weight),
    "method of an object": (lambda t: _Owner(t).read, lambda v: v()),
}


class _Owner:
    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def read(self) -> Tensor:
        return self.weight


class Odd(nn.Module):
    """Multiplies by a weight that it holds in a place of its own."""

    def __init__(self, place: str) -> None:
        super().__init__()
        hold, self.read = PLACES[place]
        with torch.inference_mode():
            self.weight = torch.randn(4, 4)
            self.held = hold(self.weight * 2)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.read(self.held) @ self.weight


def reachable(value: Any) -> Iterator[Tensor]:
    """All tensors in attributes, lists and tables, told apart from how the pack looks for them."""
    import gc

    seen: set[int] = set()
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, (type, ModuleType)):
            continue
        seen.add(id(one))
        if isinstance(one, Tensor):
            yield one
        elif not callable(one) or isinstance(one, nn.Module):
            waiting += gc.get_referents(one)


def snapshot(value: Any) -> Any:
    """Which objects stand where."""
    return sorted(id(tensor) for tensor in reachable(value))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fails", [False, True])
def test_a_weight_in_an_odd_place_lets_gradients_past(
    host_modules: ModuleType, place: str, fails: bool
) -> None:
    from textual_inversion.nodes.host.at_rest import at_rest
    from textual_inversion.trainer.just_in_time import placed

    module = nn.ModuleDict({"block": nn.Sequential(Odd(place))})
    odd: Odd = module["block"][0]
    held, read, before = odd.held, odd.read(odd.held), snapshot(module)
    numbers = read.clone()
    x = torch.randn(1, 4, requires_grad=True)
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved"):
        odd(x).sum().backward()

    found = at_rest(module)
    assert found.left == []
    try:
        with placed(found.stand_ins):
            assert not any(t.is_inference() or t.requires_grad for t in reachable(module))
            # The same memory, not a copy.
            assert odd.read(odd.held).data_ptr() == read.data_ptr()
            odd(x).sum().backward()
            if fails:
                raise KeyError(place)
    except KeyError:
        assert fails
    assert x.grad is not None
    assert odd.held is held
    assert odd.read(odd.held) is read
    assert snapshot(module) == before
    assert torch.equal(read, numbers)


def test_what_is_held_twice_is_one_tensor_again(host_modules: ModuleType) -> None:
    from textual_inversion.nodes.host.at_rest import at_rest
    from textual_inversion.trainer.just_in_time import placed

    with torch.inference_mode():
        module = nn.Linear(4, 4)
        module.fused = [module.weight]
        module.other = SimpleNamespace(list=module.fused, circle=None)
        module.other.circle = module.other
    with placed(at_rest(module).stand_ins):
        assert module.fused[0] is module.weight
        assert module.other.list is module.fused
        # What the network adds meanwhile is not kept.
        module.fused.append(torch.zeros(1))
    assert len(module.fused) == 1


class Cached(nn.Module):
    """Computes its positions once, as the embedder of Chroma Radiance does."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = lru_cache(lambda: torch.full((4,), 2.0))

    @lru_cache(maxsize=4)  # noqa: B019
    def positions(self, size: int) -> Tensor:
        return torch.linspace(0, 1, size)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.positions(4) * self.scale()


def test_what_was_computed_before_is_computed_anew(host_modules: ModuleType) -> None:
    from textual_inversion.nodes.host.at_rest import at_rest
    from textual_inversion.trainer.just_in_time import placed

    module = nn.Sequential(Cached())
    with torch.inference_mode():
        drawn = module(torch.ones(4)).clone()
    kept = module[0].positions(4), module[0].scale()
    x = torch.ones(4, requires_grad=True)
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved"):
        module(x).sum().backward()
    with placed(at_rest(module).stand_ins):
        module(x).sum().backward()
    assert torch.equal(x.grad, drawn)
    assert "positions" not in vars(module[0])
    assert module[0].positions(4) is kept[0]
    assert module[0].scale() is kept[1]


@pytest.mark.parametrize(
    ("hold", "where"),
    [
        (lambda t: lambda: t, "0.held"),
        (lambda t: partial(torch.add, t), "0.held"),
        (lambda t: {"table": t.to_sparse()}, "0.held['table']"),
        (lambda t: Sized(2, t), "0.held"),
    ],
    ids=["closure", "partial", "sparse", "tuple of its own kind"],
)
def test_what_cannot_be_reached_is_named(
    host_modules: ModuleType, hold: Callable[[Tensor], Any], where: str
) -> None:
    from textual_inversion.nodes.host.at_rest import at_rest

    module = nn.Sequential(nn.Identity())
    with torch.inference_mode():
        module[0].held = hold(torch.ones(2, 2))
    found = at_rest(module)
    assert found.left == [where]
    assert found.stand_ins == []


def test_nobody_waits_for_tokenizers_and_vocabularies(host_modules: ModuleType) -> None:
    """Nor for what is nested without end."""
    from comfy.text_encoders.sd3_clip import SD3Tokenizer
    from textual_inversion.nodes.host.at_rest import at_rest

    module = nn.Identity()
    module.tokenizer = SD3Tokenizer()
    module.vocabulary = {str(i): [i] for i in range(300_000)}
    nested: list[Any] = []
    for _ in range(5_000):
        nested = [nested]
    module.nested = nested
    start = time.process_time()
    at_rest(module)
    assert time.process_time() - start < 1


@pytest.fixture
def sd1(host_modules: ModuleType, tmp_path: Path) -> Loaded:
    return load(SD1, tmp_path)


def one_step(loaded: Loaded) -> Tensor:
    from textual_inversion.nodes.host.model import HostModel
    from textual_inversion.trainer.learning.initial import initial_vectors

    with executing(), HostModel(loaded.model, loaded.clip, loaded.vae, resolution=64) as model:
        start = initial_vectors(model.text_encoders, "toy", 1)
        vectors = {k: v.requires_grad_() for k, v in start.items()}
        encoded = model.encode_prompts([model.tokenize("a [name]", 1)], vectors)
        generator = torch.Generator().manual_seed(1)
        noisy = torch.randn((1, 4, 8, 8), generator=generator)
        predicted = model.predict(noisy, torch.tensor([300]), encoded)
        (predicted * torch.randn(predicted.shape, generator=generator)).sum().backward()
        gradient = vectors["clip_l"].grad
        assert gradient is not None
        return gradient


def fuse(loaded: Loaded, hold: Callable[[Tensor], Any], read: Callable[[Any], Tensor]) -> nn.Module:
    """Have a layer's queries, keys and values come from one weight in an odd place."""
    block = loaded.model.model.diffusion_model.middle_block[1].transformer_blocks[0]
    attention = block.attn1
    with torch.inference_mode():
        names = ("to_q", "to_k", "to_v")
        fused = torch.cat([getattr(attention, name).weight.float() for name in names])
        attention.fused = hold(fused)
    rows = fused.shape[0] // 3
    for number, name in enumerate(names):
        part = slice(number * rows, (number + 1) * rows)

        def forward(x: Tensor, part: slice = part) -> Tensor:
            return nn.functional.linear(x, read(attention.fused)[part])

        getattr(attention, name).forward = forward
    return attention


def test_a_network_with_fused_weights_is_trained_through(sd1: Loaded) -> None:
    """As newer hosts hold the queries, keys and values of a layer."""
    wanted = one_step(sd1)
    fuse(sd1, Fused, lambda held: held.weight)
    sd1.have_host_load()
    before = sd1.objects(), sd1.weights_hash()
    torch.testing.assert_close(one_step(sd1), wanted, rtol=1e-4, atol=1e-5 * float(wanted.norm()))
    assert (sd1.objects(), sd1.weights_hash()) == before


def test_an_error_says_where_weights_are_that_cannot_be_reached(sd1: Loaded) -> None:
    from textual_inversion.trainer.errors import InputError

    fuse(sd1, lambda weight: lambda: weight, lambda held: held())
    with pytest.raises(InputError, match=r"“diffusion_model\.middle_block\..*\.attn1\.fused”"):
        one_step(sd1)
