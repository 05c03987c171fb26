"""What the pickles of embeddings may name: types of numbers, and functions that build data."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from .refused import DAMAGED, Refused

MOST_ELEMENTS = 4 * 1024 * 1024
"""How many numbers a tensor may have that repeats what the file stores; a word has no more."""

_FLOAT8 = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")

_DTYPES: Mapping[str, torch.dtype] = {
    f"torch {name}": getattr(torch, name)
    for name in (
        *("float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8"),
        *("bool", *(name for name in _FLOAT8 if hasattr(torch, name))),
    )
}

TYPES: Mapping[str, torch.dtype] = {
    **_DTYPES,
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
    # Bytes, of which the tensor says what they are: newer kinds of numbers.
    "torch.storage UntypedStorage": torch.uint8,
}
"""Name in a pickle -> the type of a tensor, or of the numbers in a storage."""


class WithState:
    """What a pickle completes after it was built."""

    def set_state(self, state: object) -> None:
        """Take the state in, as far as it counts."""


class _ParameterDict(dict[object, object], WithState):
    """Stands in for `torch.nn.ParameterDict`: the state of a module, of which one part counts."""

    def set_state(self, state: object) -> None:
        if not isinstance(state, dict):
            raise Refused(DAMAGED)
        parameters = state.get("_parameters", {})
        self.update(parameters if isinstance(parameters, dict) else {})


class _NumberType(WithState):
    """Stands in for `numpy.dtype`: a kind of number, and the order of its bytes."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not re.fullmatch("[iuf][1248]|b1", code):
            raise Refused(DAMAGED)
        self._code, self._order = code, "<"

    def set_state(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] == ">":
            self._order = ">"

    def number(self, content: object) -> object:
        if not isinstance(content, bytes):
            raise Refused(DAMAGED)
        (number,) = np.frombuffer(content, self._order + self._code)
        return number.item()


def _rebuild_tensor(
    storage: Tensor | None, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> Tensor | None:
    if storage is None:
        return None
    if len(size) != len(stride) or len(size) > 8 or min((offset, *size, *stride)) < 0:
        raise Refused(DAMAGED)
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    # An expanded tensor says the same numbers again and again: strides of 0.
    most = max(storage.numel(), MOST_ELEMENTS)
    if not 0 < math.prod(size) <= most or last >= storage.numel():
        raise Refused(DAMAGED)
    return storage.as_strided(size, stride, offset)


def _rebuild_other_tensor(
    storage: Tensor | None,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    _gradient: object,
    _hooks: object,
    dtype: object,
    *_: object,
) -> Tensor | None:
    if storage is None:
        return None
    if not isinstance(dtype, torch.dtype) or storage.numel() % dtype.itemsize:
        raise Refused(DAMAGED)
    return _rebuild_tensor(storage.view(dtype), offset, size, stride)


def _rebuild_parameter(data: object, *_: object) -> object:
    return data


def _ordered(items: object = ()) -> dict[object, object]:
    if not isinstance(items, (list, tuple)) or not all(isinstance(key, str) for key, _ in items):
        raise Refused(DAMAGED)
    return dict(items)


def _defaults(*_: object) -> dict[object, object]:
    return {}


def _size(numbers: object = ()) -> tuple[object, ...]:
    return tuple(numbers) if isinstance(numbers, (tuple, list)) else ()


def _number(kind: object, content: object = None) -> object:
    if not isinstance(kind, _NumberType):
        raise Refused(DAMAGED)
    return kind.number(content)


def _bytes(text: object = "", encoding: object = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise Refused(DAMAGED)
    return text.encode("latin1")


def _nothing(*_: object) -> None:
    return None


BUILDERS: Mapping[str, Callable[..., object]] = {
    "collections OrderedDict": _ordered,
    "collections defaultdict": _defaults,
    "torch._utils _rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils _rebuild_tensor_v3": _rebuild_other_tensor,
    "torch._utils _rebuild_parameter": _rebuild_parameter,
    "torch.nn.modules.container ParameterDict": _ParameterDict,
    "torch Size": _size,
    "numpy dtype": _NumberType,
    "numpy.core.multiarray scalar": _number,
    "numpy._core.multiarray scalar": _number,
    "_codecs encode": _bytes,
    # Inside the state of a ParameterDict, and as what a defaultdict begins with: not looked at.
    **{
        f"{module} {kind}": _nothing
        for module in ("__builtin__", "builtins")
        for kind in ("set", "frozenset", "dict", "list", "tuple", "int", "float", "str")
    },
}
"""Name in a pickle -> what is called in its place."""
