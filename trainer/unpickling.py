"""Reads the data in files of `torch.save`, without Python's pickle and so without running code.

A pickle is a program. This interpreter knows only the instructions that build dictionaries,
lists, tuples, text and numbers, and calls only the six functions in `_BUILDERS`, all its own.
`torch.load(weights_only=True)` would run no code either, but refuses the `ParameterDict` of
early embeddings and lets a file of a few bytes ask for any amount of memory. Here, no tensor
has more elements than the file stores, and only what the file stores is allocated.
"""

from __future__ import annotations

import math
import pickletools
import struct
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

import torch
from torch import Tensor

from .refused import DAMAGED, Refused

Storages = Callable[[str, torch.dtype], "Tensor | None"]
"""Key and type of a storage -> its elements, or None where they are not at hand yet."""

MAX_PROGRAM = 256 * 1024
"""Bytes of a pickle without its tensors; an embedding has less than a thousand."""

_MAX_ZIP_ENTRIES = 1000
_LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."

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


def read_torch_file(content: bytes) -> object:
    """The dictionary, list or tensor that `torch.save` wrote.

    Args:
        content: a whole file in the zip format of PyTorch 1.6 and newer, or in the older one.

    Returns:
        dictionaries, lists, tuples, text, numbers and CPU tensors; a tensor may share the
        memory of `content`. `OrderedDict` and `ParameterDict` come back as dictionaries.

    Raises:
        Refused: the file holds more than data.
        Exception: of any type, where the file is damaged.
    """
    if content.startswith(_LEGACY_MAGIC):
        return _read_legacy(content)
    return _read_zip(content)


def _read_zip(content: bytes) -> object:
    # Entries of the directory cost far more memory than file, so they are counted first.
    if content.count(b"PK\x01\x02") > _MAX_ZIP_ENTRIES:
        raise Refused("has too many parts for an embedding: it is a model or an archive.")
    with zipfile.ZipFile(BytesIO(content)) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise Refused("is compressed, which PyTorch never does: unpack it if it is an archive.")
        programs = [n for n in archive.namelist() if n.rpartition("/")[2] == "data.pkl"]
        if len(programs) != 1:
            raise Refused("is an archive, not an embedding: unpack it and use the file inside.")
        root = programs[0].removesuffix("data.pkl")
        known: dict[str, Tensor] = {}

        def storage(key: str, dtype: torch.dtype) -> Tensor:
            if key not in known:
                known[key] = _elements(archive.read(f"{root}data/{key}"), dtype)
                if sum(s.nbytes for s in known.values()) > len(content):
                    raise Refused(DAMAGED)
            return known[key]

        return run_program(archive.read(programs[0]), storage)


def _read_legacy(content: bytes) -> object:
    """Five pickles (magic, version, platform, object, storage keys), then the storages."""
    view, ends, start = memoryview(content), [0], 0
    for _ in range(5):
        start += _program_length(bytes(view[start : start + MAX_PROGRAM]))
        ends.append(start)
    program, keys = content[ends[3] : ends[4]], run_program(content[ends[4] : ends[5]], _absent)
    types: dict[str, torch.dtype] = {}

    def note_type(key: str, dtype: torch.dtype) -> None:
        types[key] = dtype

    run_program(program, note_type)
    known: dict[str, Tensor] = {}
    if not isinstance(keys, list):
        raise Refused(DAMAGED)
    for key in keys:
        (count,) = struct.unpack_from("<q", content, start)
        end = start + 8 + count * types[key].itemsize
        if count < 0 or end > len(content):
            raise Refused(DAMAGED)
        known[key] = _elements(view[start + 8 : end], types[key])
        start = end
    return run_program(program, lambda key, _: known[key])


def _absent(key: str, dtype: torch.dtype) -> None:
    return None


def _program_length(content: bytes) -> int:
    """Where the first pickle in `content` ends; an error where it does not."""
    *_, (_, _, last) = pickletools.genops(content)
    return (last or 0) + 1


def _elements(raw: bytes | memoryview, dtype: torch.dtype) -> Tensor:
    # bytearray: torch wants memory that may be written, even if nobody does.
    return (
        torch.frombuffer(bytearray(raw), dtype=dtype) if len(raw) else torch.empty(0, dtype=dtype)
    )


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
            stack.append(_storage(stack.pop(), storages))
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


def _storage(identity: object, storages: Storages) -> object:
    if not isinstance(identity, tuple) or identity[0] != "storage":
        raise Refused(DAMAGED)
    dtype, key = identity[1], identity[2]
    if not isinstance(dtype, torch.dtype) or not isinstance(key, str):
        raise Refused(DAMAGED)
    return storages(key, dtype)


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
