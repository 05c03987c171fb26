"""Runs the pickles of `torch.save` as far as they build data, and without Python's pickle.

A pickle is a program. This interpreter knows only the instructions that build dictionaries,
lists, tuples, text and numbers, and calls only the functions in `plain_builders.BUILDERS`, all
our own. `torch.load(weights_only=True)` would run no code either, but refuses the `ParameterDict`
of early embeddings and lets a file of a few bytes ask for any amount of memory. Here, only what
the file stores is allocated, and no tensor has more elements than that or a word can have.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .plain_builders import BUILDERS, TYPES, WithState
from .refused import DAMAGED, Refused

Storages = Callable[[str, torch.dtype], "Tensor | None"]
"""Key and type of a storage -> its elements, or None where they are not at hand yet."""

MAX_PROGRAM = 256 * 1024
"""Bytes of a pickle without its tensors; an embedding has less than a thousand."""

_PUSH_ARGUMENT = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "INT", "LONG", "FLOAT"}
    | {"BINUNICODE", "SHORT_BINUNICODE", "UNICODE", "SHORT_BINSTRING", "BINSTRING", "STRING"}
    | {"BINBYTES", "SHORT_BINBYTES"}
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_NEW = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": list}
_MEMORISE = frozenset({"BINPUT", "LONG_BINPUT", "PUT"})
_RECALL = frozenset({"BINGET", "LONG_BINGET", "GET"})
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
        elif name in _MEMORISE:
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in _RECALL:
            stack.append(memo[argument])
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("TUPLE", "FROZENSET"):
            stack.append(tuple(pop_to_mark()))
        elif name == "LIST":
            stack.append(pop_to_mark())
        elif name == "DICT":
            items, made = pop_to_mark(), dict[object, object]()
            _set_items(made, items)
            stack.append(made)
        elif name in _TUPLES:
            count = _TUPLES[name]
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("GLOBAL", "INST"):
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
        elif name == "PERSID":
            stack.append(_persistent(_identity_as_text(argument), storages))
        elif name in ("SETITEM", "SETITEMS"):
            items = [stack.pop(-2), stack.pop()] if name == "SETITEM" else pop_to_mark()
            _set_items(stack[-1], items)
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
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
_WHOLE_MODEL = (
    "is a whole model, saved with its code (it asks for {}), not an embedding: none of it was "
    "loaded."
)
_MODULES = ("torch.nn.", "transformers.", "diffusers.", "pytorch_lightning.", "__torch__.")


def _named(name: str) -> object:
    known = TYPES.get(name, BUILDERS.get(name))
    if known is None:
        dotted = name.replace(" ", ".")
        shown = ascii(dotted[:60])[1:-1]
        if dotted.startswith(_MODULES):
            raise Refused(_WHOLE_MODEL.format(shown))
        raise Refused(_MORE_THAN_DATA.format(f"it asks for {shown}"))
    return known


def _build(builder: object, arguments: object) -> object:
    if not any(builder is known for known in BUILDERS.values()) or not callable(builder):
        raise Refused(DAMAGED)
    if not isinstance(arguments, tuple):
        raise Refused(DAMAGED)
    return builder(*arguments)


def _set_state(target: object, state: object) -> None:
    if isinstance(target, WithState):
        target.set_state(state)
    # A state_dict has notes of its modules' versions as an attribute.
    elif not (isinstance(target, dict) and isinstance(state, dict)):
        raise Refused(DAMAGED)


_IDENTITY = re.compile(
    r"\('storage', <class '(torch|torch\.storage)\.(\w{1,40})'>, '(\w{1,40})', '\w{1,20}', \d+\)"
)


def _identity_as_text(text: str) -> object:
    """What protocol 0 makes of the identity of a storage: its text, as Python shows it."""
    found = _IDENTITY.fullmatch(text)
    return ("storage", _named(f"{found[1]} {found[2]}"), found[3]) if found else None


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
