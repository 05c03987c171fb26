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


def show_text(text: str, node_id: Any) -> None:
    """Show a text on a node, which the page does without any script of ours.

    Pages of earlier hosts take it for HTML, and later ones leave out what looks like a tag; it may
    come from a file of anyone's. So no tag begins in it.
    """
    from server import PromptServer

    PromptServer.instance.send_progress_text(text.replace("<", "\u2039"), node_id)


def blocked(sentence: str) -> Any:
    """An output that keeps what is connected from running, and says why."""
    return comfy_execution.graph_utils.ExecutionBlocker(sentence)
