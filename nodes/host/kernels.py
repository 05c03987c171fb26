"""The host's fused kernels, computed by PyTorch's own operations while training."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from .gradients import replaced

_FUSED = ("rope", "adaln")
"""What the names of those say that networks call: rotary positions, norms and modulation."""


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Let networks call formulas that have a gradient in place of comfy-kitchen's kernels.

    Its operators have none, not even on a CPU. The host's networks avoid them while training, but
    not all of them (Anima, Cosmos, JoyImage). The package has each kernel in plain PyTorch too.
    """
    fused = sys.modules.get("comfy_kitchen")
    plain = sys.modules.get("comfy_kitchen.backends.eager")
    with ExitStack() as stack:
        for name in dir(fused):
            # A name that ends so overwrites its arguments, which the host keeps for inference.
            is_called = any(kind in name for kind in _FUSED) and not name.endswith("_")
            if is_called and hasattr(plain, name):
                stack.enter_context(replaced(fused, name, getattr(plain, name)))
        yield
