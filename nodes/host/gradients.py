"""What must hold around the host's network while gradients flow through it.

Each context manager changes one thing and puts the original object back, whatever
happens in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import comfy.ldm.modules.attention
import comfy.model_management
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...trainer.errors import InputError

PLAIN_TENSORS = (Tensor, nn.Parameter)


@contextmanager
def differentiable(
    module: nn.Module, device: torch.device, wide: torch.dtype | None = None
) -> Iterator[None]:
    """Swap all weights and buffers for frozen ordinary tensors on the same memory.

    The host runs its nodes in inference mode, so that what it loads are inference tensors,
    which autograd refuses. An alias shares their memory and is refused nothing. A weight
    that the host keeps off the compute device gets a private copy there for the time
    being, because the host could evict a shared one between forward and backward. With
    dynamic VRAM that is every large weight: the copy has the number format and the patches
    (LoRAs) with which the host would bring it in.

    Args:
        module: what to look through.
        device: where it computes.
        wide: a number format to which its layers cast their weights each time they compute; with
            it they get copies of those of 16 bits in it. Tables of words, which are not cast, stay
            as they are.

    Raises:
        InputError: weights that are quantised or not in memory at all.
    """
    swapped: list[tuple[dict[str, Any], str, Any]] = []
    aliases: dict[tuple[int, int], Tensor] = {}
    try:
        for part in module.modules():
            # A layer with a place in dynamic VRAM takes its weights from there alone.
            if _PLACE in vars(part):
                swapped.append((vars(part), _PLACE, vars(part).pop(_PLACE)))
            tables: tuple[dict[str, Any], ...] = (part._parameters, part._buffers)
            for table in tables:
                for name, original in table.items():
                    if original is None:
                        continue
                    patch = getattr(part, f"{name}_lowvram_function", None)
                    key = (id(original), id(patch))
                    if key not in aliases:
                        aliases[key] = _stand_in(part, name, original, device, patch, wide)
                    swapped.append((table, name, original))
                    table[name] = aliases[key]
        yield
    finally:
        for table, name, original in swapped:
            table[name] = original


_PLACE = "_v"
"""The attribute in which the host keeps a layer's place in dynamic VRAM."""


def _stand_in(
    part: nn.Module,
    name: str,
    original: Tensor,
    device: torch.device,
    patch: Callable[[Tensor], Tensor] | None,
    wide: torch.dtype | None,
) -> Tensor:
    """What takes the place of one weight; `patch` is what the host does as it brings it in."""
    if type(original) not in PLAIN_TENSORS:
        raise InputError(
            f"The model's weights are quantised ({type(original).__name__}), which cannot be "
            "trained through: load the model in fp16, bf16 or fp32."
        )
    if original.is_meta:
        raise InputError(
            "The model's weights are not in memory: start ComfyUI with --disable-dynamic-vram."
        )
    dtype = format_of(part, name, original)
    if patch is not None:
        held = patch(original.detach().to(device, torch.float32, copy=True)).to(dtype)
    elif original.device != device:
        held = original.detach().to(device, dtype, copy=True)
    else:
        held = alias_of(original)
    casts = getattr(part, "comfy_cast_weights", False) and not isinstance(part, nn.Embedding)
    # Layers may know weights of 8 bits by their format, and treat them in ways of their own.
    if wide and casts and held.dtype in (torch.float16, torch.bfloat16):
        held = held.to(wide)
    return nn.Parameter(held, requires_grad=False) if isinstance(original, nn.Parameter) else held


def format_of(part: nn.Module, name: str, weight: Tensor) -> torch.dtype:
    """The number format in which the host brings in a weight.

    With dynamic VRAM it keeps what was in the file, which may be in another.
    """
    return getattr(part, f"{name}_comfy_model_dtype", None) or weight.dtype


def alias_of(original: Tensor) -> Tensor:
    """An ordinary tensor on the memory of one that may be an inference tensor.

    An inference tensor cannot hand out such a view, but its memory can be shared.
    """
    alias = torch.empty(0, dtype=original.dtype, device=original.device)
    return alias.set_(
        original.untyped_storage(), original.storage_offset(), original.shape, original.stride()
    )


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


@contextmanager
def checkpointed(module: nn.Module) -> Iterator[None]:
    """Keep only the inputs of each block and compute its inside again on the way back."""
    with ExitStack() as stack:
        for block in _blocks(module):
            stack.enter_context(replaced(block, "forward", _checkpointing(block.forward)))
        yield


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost modules inside lists and sequences: those that are called as one."""
    lists = nn.ModuleList | nn.Sequential
    for child in module.children():
        if isinstance(child, lists) or not isinstance(module, lists):
            yield from _blocks(child)
        elif next(child.children(), None) is not None:
            yield child


def _checkpointing(forward: Any) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        # The host writes the place in the network into these as it goes along; the second
        # pass must see what the first one saw.
        kwargs = {k: dict(v) if isinstance(v, dict) else v for k, v in kwargs.items()}
        args = tuple(dict(a) if isinstance(a, dict) else a for a in args)
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return run


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
        if not self._is_asked and any(name in kernel for name in ("sage", "flash")):
            raise InputError(
                "This network uses the attention that ComfyUI was started with, which cannot be "
                "trained through: start ComfyUI without --use-sage-attention and "
                "--use-flash-attention."
            )


class OutOfPlace(Tensor):
    """A tensor whose `+=` and the like make a new one.

    The host's encoder layers write `x += ...`, which overwrites what autograd has saved.
    This type spreads through everything computed from it.
    """

    __iadd__ = Tensor.__add__
    __isub__ = Tensor.__sub__
    __imul__ = Tensor.__mul__
    __itruediv__ = Tensor.__truediv__
