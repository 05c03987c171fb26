"""Arithmetic in float64 throughout, in code that casts to float32 wherever it likes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_PRODUCTS = {torch.ops.aten.mm.default, torch.ops.aten.bmm.default}


class _Double(TorchDispatchMode):
    """Whatever asks for float32 gets float64."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        kwargs = {k: _wider(v) for k, v in (kwargs or {}).items()}
        args = tuple(_wider(a) for a in args)
        if func in _PRODUCTS and any(a.dtype is torch.float64 for a in args):
            # A table of float32 that is asked for float32 comes here as it is.
            args = tuple(a.double() for a in args)
        result = func(*args, **kwargs)
        # Where a table of float32 is asked for float32, nothing is cast.
        return result.double() if func is torch.ops.aten.embedding.default else result


def _wider(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value


@contextmanager
def double_precision() -> Iterator[None]:
    """So that differences of a hundred-thousandth still have digits left."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Double():
            yield
    finally:
        torch.set_default_dtype(before)
