"""What must hold around the host's network while gradients flow through it.

Each context manager changes one thing and puts the original object back, whatever
happens in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.ldm.modules.attention
import comfy.model_management
from torch import Tensor

from ...trainer.errors import InputError


@contextmanager
def raw_output(base: Any) -> Iterator[None]:
    """Make `base.apply_model` return what the network says instead of the denoised latents.

    Everything else that the host does around its network (casts, pooled output, patches,
    wrappers) then also happens while training.
    """
    with replaced(
        base.model_sampling,
        "calculate_denoised",
        lambda sigma, model_output, model_input: model_output,
    ):
        yield


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Give one object an attribute; afterwards it has what it had, be it its own or its type's.

    Other packs hang their own functions on the host's objects, which must be there again.
    """
    own = vars(owner)
    had = {name: own[name]} if name in own else {}
    setattr(owner, name, value)
    try:
        yield
    finally:
        own.pop(name, None)
        own.update(had)


@contextmanager
def training_flag() -> Iterator[None]:
    """Tell the host to use operations that have a gradient."""
    before = getattr(comfy.model_management, "in_training", False)
    comfy.model_management.in_training = True
    try:
        yield
    finally:
        comfy.model_management.in_training = before


_WITHOUT_GRADIENT = ("sage", "flash", "comfy_kitchen")
"""What is in the names of the host's kernels that have none."""


class PlainAttention:
    """An attention override: PyTorch's own, whatever the host was started with.

    Sage, flash and quantised kernels have no gradient, or a wrong one.
    """

    def __init__(self) -> None:
        self._is_asked = False

    def __call__(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        """Attention as the host's networks ask for it."""
        self._is_asked = True
        return comfy.ldm.modules.attention.attention_pytorch(*args, **kwargs)

    def check(self) -> None:
        """Find out, after a pass, whether the network left its attention to us.

        Raises:
            InputError: it did not, and the host was started with a kernel without gradient.
        """
        kernel = comfy.ldm.modules.attention.optimized_attention.__name__
        if not self._is_asked and any(name in kernel for name in _WITHOUT_GRADIENT):
            raise InputError(
                "This network uses the attention that ComfyUI was started with, which cannot be "
                "trained through: start ComfyUI without --use-sage-attention, "
                "--use-flash-attention and --use-ck-attention."
            )


class OutOfPlace(Tensor):
    """A tensor whose `+=` and the like make a new one.

    The host's encoder layers write `x += ...`, which overwrites what autograd has saved, and
    `x = torch.add(a, b, out=x)`, which has no gradient. This type spreads through everything
    computed from it.
    """

    __iadd__ = Tensor.__add__
    __isub__ = Tensor.__sub__
    __imul__ = Tensor.__mul__
    __itruediv__ = Tensor.__truediv__

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Into a new tensor, also where the network names one; not where that is an operand."""
        out = (kwargs or {}).get("out")
        if out is not None and not any(out is arg for arg in args):
            kwargs = {name: value for name, value in (kwargs or {}).items() if name != "out"}
        return super().__torch_function__(  # type: ignore[no-untyped-call]
            func, types, args, kwargs
        )
