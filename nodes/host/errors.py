"""What went wrong while training, told in a sentence where a user can do something about it."""

from __future__ import annotations

from collections.abc import Sequence

import comfy.model_management
import torch

from ...trainer.errors import InputError
from .compatibility import host_version

_INFERENCE = "Inference tensors cannot be saved"
"""What PyTorch says of values that were made where none may have a gradient."""

_NO_GRADIENT = ("modified by an inplace operation", _INFERENCE)
"""The same, and what it says of those that were overwritten."""


def explained(error: BaseException | None, left: Sequence[str] = ()) -> InputError | None:
    """The sentence for an error; None for those that speak for themselves.

    Args:
        error: what was raised while training.
        left: see `AtRest.left`.
    """
    if error is not None and is_out_of_memory(error):
        # What the host does, which looks for this error and gets ours.
        comfy.model_management.unload_all_models()
        comfy.model_management.soft_empty_cache()
        return InputError(
            "The GPU's memory is too small for this training: lower batch_size, turn on "
            "checkpointing, then lower resolution."
        )
    if left and isinstance(error, RuntimeError) and _INFERENCE in str(error):
        places = ", ".join(f"“{place}”" for place in left[:3])
        return InputError(
            f"ComfyUI {host_version()} keeps values of this model in {places}, where training "
            "cannot reach them: update this pack, or use another model."
        )
    if isinstance(error, RuntimeError) and any(text in str(error) for text in _NO_GRADIENT):
        return InputError(
            "A patch on this model (FreeU V2, a hypernetwork or similar) cannot be trained "
            "through: connect the model from before the patch."
        )
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """As the host tells it, which has learned of more such errors; old ones cannot be asked."""
    is_oom = getattr(comfy.model_management, "is_oom", None)
    return bool(is_oom(error)) if is_oom else isinstance(error, torch.cuda.OutOfMemoryError)
