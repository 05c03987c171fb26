"""Where the word stands in a prompt."""

from __future__ import annotations

import re

PLACEHOLDER = "[name]"
"""Stands for the word in templates, captions and prompts (the notation of A1111)."""


def with_placeholder(text: str, name: str) -> str:
    """Write every mention of the word as the placeholder.

    The word may be given as `[name]`, as `embedding:NAME` or as the bare name standing
    alone, so that captions and prompts made for other tools work unchanged.
    """
    word = re.escape(name)
    pattern = rf"(?:embedding:|(?<![\w:.-])){word}(?![\w-]|\.\w)"
    return re.sub(pattern, PLACEHOLDER, text)
