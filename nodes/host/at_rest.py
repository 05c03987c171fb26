"""Everything that the host's modules hold, as tensors that gradients can flow past.

Nodes run in inference mode, so that what the host loads and computes there are inference tensors,
which autograd refuses. Most of them are parameters and buffers; but networks also keep tables of
positions, fused weights and whole modules in attributes, lists and objects of their own, and
every version of the host thinks of further places. So all that can be reached is looked through.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache, partial
from types import FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import comfy.model_patcher
import torch
from torch import Tensor, nn

from ...trainer.just_in_time import GONE, StandIn
from .weights import PLACE, alias_of, entries, frozen, is_plain

DEEPEST = 8
"""Objects in objects, from a module on, that are entered."""

LARGEST = 10_000
"""Entries of a list or a table that are looked through; vocabularies have more."""

_TABLES = ("_parameters", "_buffers", "_modules")
_BOOKS = (PLACE, "_v_weight", "_v_bias", "_v_signature", "_prefetch", "_pin_state")
"""What the host notes of a layer in dynamic VRAM, which without a place there it does not use."""

_NEVER_ENTERED = (type, ModuleType, comfy.model_patcher.ModelPatcher)
_FOREIGN = {"asyncio", "logging", "sentencepiece", "threading", "tokenizers", "transformers",
            "weakref"}  # fmt: skip
"""Packages whose objects hold none of the host's tensors, but may hold a great deal else."""


class AtRest(NamedTuple):
    """Ordinary tensors on the memory of those that a module holds.

    Attributes:
        stand_ins: what takes the places of tensors, and of lists and the like that hold some.
        left: where inference tensors stay because nothing can take their place.
    """

    stand_ins: list[StandIn]
    left: list[str]


def at_rest(module: nn.Module) -> AtRest:
    """Find all tensors that a module holds, but for weights that are packed.

    Unless others take their place, layers cast them as the host has them do. No tensor is copied;
    one that stands in two places is one tensor again. Lists, tables and the like that hold some
    are copied, so that what a network adds to them meanwhile is gone afterwards.
    """
    walk = _Walk()
    walk.modules(module, "")
    return AtRest(walk.stand_ins, walk.left)


class _Walk:
    """One way through all that can be reached; each object is met once, so that circles end."""

    def __init__(self) -> None:
        self.stand_ins: list[StandIn] = []
        self.left: list[str] = []
        self._met: dict[int, tuple[Any, Any]] = {}
        """By identity: each object, kept alive for that, and what takes its place."""
        self._cached: dict[type, list[tuple[str, Any]]] = {}
        """Of each class, the methods whose results are kept, and the functions that are called."""

    def modules(self, root: nn.Module, path: str, depth: int = 0) -> None:
        """A module with those in it; `depth` is how many objects deep it was found."""
        for name, part in root.named_modules(prefix=path):
            if id(part) in self._met:
                continue
            self._met[id(part)] = part, part
            # A layer with a place in dynamic VRAM would take its weights from there alone.
            if PLACE in vars(part):
                self.stand_ins.append(StandIn(vars(part), PLACE, GONE))
            for table, own, tensor in entries(part):
                if _can_be_shared(tensor):
                    self.stand_ins.append(StandIn(table, own, self._alias(tensor)))
            self._attributes(vars(part), name, depth)
            for own, function in self._cached_methods(type(part)):
                self.stand_ins.append(StandIn(vars(part), own, MethodType(function, part)))

    def _cached_methods(self, kind: type) -> list[tuple[str, Any]]:
        """What a method has computed before, in inference mode, has to be computed anew."""
        if kind not in self._cached:
            every = {
                name: value for one in reversed(kind.__mro__) for name, value in vars(one).items()
            }
            self._cached[kind] = [
                (name, value.__wrapped__)
                for name, value in every.items()
                if isinstance(value, _KEEPS_RESULTS)
            ]
        return self._cached[kind]

    def _attributes(self, own: dict[str, Any], path: str, depth: int) -> None:
        for name, value in list(own.items()):
            if isinstance(name, str) and name not in (*_TABLES, *_BOOKS):
                made = self._made(value, f"{path}.{name}".lstrip("."), depth)
                if made is not value:
                    self.stand_ins.append(StandIn(own, name, made))

    def _made(self, value: Any, path: str, depth: int) -> Any:
        """What takes the place of a value: itself, unless it is a tensor or holds some."""
        if isinstance(value, _PRIMITIVE):
            return value
        if isinstance(value, Tensor):
            return self._tensor(value, path)
        if id(value) in self._met:
            return self._met[id(value)][1]
        if depth >= DEEPEST or isinstance(value, _NEVER_ENTERED):
            return value
        if isinstance(value, nn.Module):
            self.modules(value, path, depth + 1)
            return value
        if type(value).__module__.partition(".")[0] in _FOREIGN:
            return value
        self._met[id(value)] = value, value
        made = self._entered(value, path, depth + 1)
        self._met[id(value)] = value, made
        return made

    def _entered(self, value: Any, path: str, depth: int) -> Any:
        if isinstance(value, (dict, list, deque)):
            return self._with_entries(value, path, depth)
        if isinstance(value, (tuple, set, frozenset)):
            return self._with_items(value, path, depth)
        if isinstance(value, _KEEPS_RESULTS):
            return value.__wrapped__
        if isinstance(value, (FunctionType, MethodType, partial)):
            for held in _closed_over(value):
                if self._made(held, path, depth) is not held:
                    self.left.append(path)
            return value
        if isinstance(own := getattr(value, "__dict__", None), dict):
            self._attributes(own, path, depth)
        return self._with_slots(value, path, depth)

    def _with_entries(self, value: Any, path: str, depth: int) -> Any:
        if len(value) > LARGEST:
            return value
        changed = {}
        for place in list(value) if isinstance(value, dict) else range(len(value)):
            made = self._made(value[place], f"{path}[{place!r}]", depth)
            if made is not value[place]:
                changed[place] = made
        if not changed:
            return value
        copied = copy.copy(value)
        for place, made in changed.items():
            copied[place] = made
        return copied

    def _with_items(self, value: Any, path: str, depth: int) -> Any:
        if len(value) > LARGEST:
            return value
        items = [self._made(held, f"{path}[{i}]", depth) for i, held in enumerate(value)]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        try:
            return _same_kind(value)(items)
        except TypeError:  # It takes something else than its items.
            self.left.append(path)
            return value

    def _with_slots(self, value: Any, path: str, depth: int) -> Any:
        """An object that has slots for attributes; a copy of it, where one holds a tensor."""
        changed = {}
        for name in _slots(type(value)):
            held = getattr(value, name, None)
            made = self._made(held, f"{path}.{name}", depth)
            if made is not held:
                changed[name] = made
        if not changed:
            return value
        copied = copy.copy(value)
        for name, made in changed.items():
            object.__setattr__(copied, name, made)
        return copied

    def _tensor(self, tensor: Tensor, path: str) -> Tensor:
        if tensor.is_meta or not (tensor.is_inference() or tensor.requires_grad):
            return tensor
        if _can_be_shared(tensor):
            return self._alias(tensor)
        if tensor.is_inference():
            self.left.append(path)
        return tensor

    def _alias(self, tensor: Tensor) -> Tensor:
        if id(tensor) not in self._met:
            self._met[id(tensor)] = tensor, frozen(alias_of(tensor), tensor)
        alias: Tensor = self._met[id(tensor)][1]
        return alias


_KEEPS_RESULTS = type(lru_cache(lambda: None))
_PRIMITIVE = (str, bytes, int, float, complex, torch.dtype, torch.device, type(None))


def _can_be_shared(tensor: Tensor) -> bool:
    return is_plain(tensor) and not tensor.is_meta and tensor.layout == torch.strided


def _closed_over(function: Any) -> Iterator[Any]:
    """What belongs to a function and cannot be another for a while."""
    if isinstance(function, partial):
        yield from (function.func, *function.args, *function.keywords.values())
    elif isinstance(function, MethodType):
        yield from (function.__self__, function.__func__)
    else:
        for cell in function.__closure__ or ():
            with suppress(ValueError):  # It may be empty.
                yield cell.cell_contents


def _same_kind(value: Any) -> Callable[[Any], Any]:
    """Makes another tuple or set of its kind from a list."""
    make: Callable[[Any], Any] = getattr(value, "_make", None) or type(value)
    return make


def _slots(kind: type) -> Iterator[str]:
    for one in kind.__mro__:
        names = vars(one).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if name not in ("__dict__", "__weakref__"):
                yield f"_{one.__name__.lstrip('_')}{name}" if _is_private(name) else name


def _is_private(name: str) -> bool:
    return name.startswith("__") and not name.endswith("__")
