"""Textual inversion for ComfyUI: learn a new word from a few pictures.

This folder is both the node pack that ComfyUI loads and the Python package
`textual_inversion`. Nothing of the host, of torch or of the trainer is imported
until it is needed, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .trainer.version import VERSION as __version__

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension

__all__ = ["WEB_DIRECTORY", "__version__", "comfy_entrypoint"]

WEB_DIRECTORY = "./js"


async def comfy_entrypoint() -> ComfyExtension:
    """The hook by which ComfyUI (V3 schema) asks a pack for its nodes."""
    from .nodes import TextualInversionExtension

    return TextualInversionExtension()
