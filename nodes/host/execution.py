"""What a node asks of the host while it executes."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.utils
import comfy_execution.graph_utils


def progress_bar(steps: int) -> Any:
    """The bar on the node; `update_absolute(step)` moves it."""
    return comfy.utils.ProgressBar(steps)


def raise_if_cancelled() -> None:
    """Raise what the host raises where the user has cancelled; only once, the host forgets it."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def blocked(sentence: str) -> Any:
    """An output that keeps what is connected from running, and says why."""
    return comfy_execution.graph_utils.ExecutionBlocker(sentence)
