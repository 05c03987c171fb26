"""Runs the pickles of `torch.save` as far as they build data, and without Python's pickle.

A pickle is a program. This interpreter knows only the instructions that build dictionaries,
lists, tuples, text and numbers, and calls only the six functions in `_BUILDERS`, all its own.
`torch.load(weights_only=True)` would run no code either, but refuses the `ParameterDict` of
early embeddings and lets a file of a few bytes ask for any amount of memory. Here, no tensor
has more elements than the file stores, and only what the file stores is allocated.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from .refused import DAMAGED, Refused

Storages = Callable[[str, torch.dtype], "Tensor | None"]
"""Key and type of a storage -> its elements, or None where they are not at hand yet."""

MAX_PROGRAM = 256 * 1024
"""Bytes of a pickle without its tensors; an embedding has less than a thousand."""

_STORAGE_TYPES: Mapping[str, torch.dtype] = {
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch DoubleStorage": torch.float64,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
    "torch ShortStorage": torch.int16,
    "torch CharStorage": torch.int8,
    "torch ByteStorage": torch.uint8,
    "torch BoolStorage": torch.bool,
}


class _ParameterDict(dict[object, object]):
    """Stands in for `torch.nn.ParameterDict`: the state of a module, of which one part counts."""

    def set_state(self, state: Mapping[object, object]) -> None:
        parameters = state.get("_parameters", {})
        self.update(parameters if isinstance(parameters, dict) else {})


def _rebuild_tensor(
    storage: Tensor | None, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> Tensor | None:
    if storage is None:
        return None
    if len(size) != len(stride) or len(size) > 8 or min((offset, *size, *stride)) < 0:
        raise Refused(DAMAGED)
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if not 0 < math.prod(size) <= storage.numel() or last >= storage.numel():
        raise Refused(DAMAGED)
    return storage.as_strided(size, stride, offset)


def _ordered_dict() -> dict[object, object]:
    return {}


def _rebuild_parameter(data: object, *_: object) -> object:
    return data


def _nothing(*_: object) -> None:
    return None


_BUILDERS: Mapping[str, Callable[..., object]] = {
    "collections OrderedDict": _ordered_dict,
    "torch._utils _rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils _rebuild_parameter": _rebuild_parameter,
    "torch.nn.modules.container ParameterDict": _ParameterDict,
    # Only inside the state of a ParameterDict, where it is not looked at.
    "__builtin__ set": _nothing,
    "builtins set": _nothing,
}

_PUSH_ARGUMENT = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
    | {"BINUNICODE", "SHORT_BINUNICODE", "SHORT_BINSTRING"}
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_NEW = {"EMPTY_DICT": dict, "EMPTY_LIST": list}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


def run_program(program: bytes, storages: Storages) -> object:
    """Run a pickle that builds data.

    Args:
        program: the pickle, up to protocol 4.
        storages: gives the elements of a tensor's storage.

    Raises:
        Refused: an instruction or a function that data does not need.
        Exception: of any type, where the program is damaged.
    """
    if len(program) > MAX_PROGRAM:
        raise Refused("holds too many objects for an embedding: it is a model.")
    stack: list[object] = []
    memo: dict[int, object] = {}

    def pop_to_mark() -> list[object]:
        at = len(stack) - 1 - stack[::-1].index(_MARK)
        items = stack[at + 1 :]
        del stack[at:]
        return items

    argument: Any
    for instruction, argument, _ in pickletools.genops(program):
        name = instruction.name
        if name in _PUSH_ARGUMENT:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _NEW:
            stack.append(_NEW[name]())
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "TUPLE":
            stack.append(tuple(pop_to_mark()))
        elif name in _TUPLES:
            count = _TUPLES[name]
            stack[-count:] = [tuple(stack[-count:])]
        elif name == "GLOBAL":
            stack.append(_named(argument))
        elif name == "STACK_GLOBAL":
            stack[-2:] = [_named(f"{stack[-2]} {stack[-1]}")]
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, builder = stack.pop(), stack.pop()
            stack.append(_build(builder, arguments))
        elif name == "BUILD":
            _set_state(stack[-2], stack.pop())
        elif name == "BINPERSID":
            stack.append(_persistent(stack.pop(), storages))
        elif name in ("SETITEM", "SETITEMS"):
            items = [stack.pop(-2), stack.pop()] if name == "SETITEM" else pop_to_mark()
            _set_items(stack[-1], items)
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else pop_to_mark()
            _append(stack[-1], items)
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise Refused(_MORE_THAN_DATA.format(f"the instruction {name}"))
    raise Refused(DAMAGED)


_MORE_THAN_DATA = (
    "holds more than data ({}) and could run code on this computer, so it was not loaded: "
    "use a .safetensors file from its maker."
)


def _named(name: str) -> object:
    known = _STORAGE_TYPES.get(name) or _BUILDERS.get(name)
    if known is None:
        shown = ascii(name.replace(" ", ".")[:60])[1:-1]
        raise Refused(_MORE_THAN_DATA.format(f"it asks for {shown}"))
    return known


def _build(builder: object, arguments: object) -> object:
    if not any(builder is known for known in _BUILDERS.values()) or not callable(builder):
        raise Refused(DAMAGED)
    if not isinstance(arguments, tuple):
        raise Refused(DAMAGED)
    return builder(*arguments)


def _set_state(target: object, state: object) -> None:
    if not isinstance(target, _ParameterDict) or not isinstance(state, dict):
        raise Refused(DAMAGED)
    target.set_state(state)


def _persistent(identity: object, storages: Storages) -> object:
    match identity:
        case ("storage", torch.dtype() as dtype, str() as key, *_):
            return storages(key, dtype)
        case ("module", known, *_):  # A class and its source code, before PyTorch 1.6.
            return known
    raise Refused(DAMAGED)


def _set_items(target: object, items: list[object]) -> None:
    keys = items[::2]
    # Hashing a nested tuple can take forever: data has plain keys.
    if not isinstance(target, dict) or not all(isinstance(k, (str, int, float)) for k in keys):
        raise Refused(DAMAGED)
    target.update(zip(keys, items[1::2], strict=True))


def _append(target: object, items: list[object]) -> None:
    if not isinstance(target, list):
        raise Refused(DAMAGED)
    target.extend(items)
