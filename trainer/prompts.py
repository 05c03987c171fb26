"""Where the word stands in a prompt, and the prompts that training draws from."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .errors import InputError

PLACEHOLDER = "[name]"
"""Stands for the word in templates, captions and prompts (the notation of A1111)."""

OBJECT_TEMPLATES: Sequence[str] = (
    "a photo of a [name]",
    "a rendering of a [name]",
    "a cropped photo of the [name]",
    "the photo of a [name]",
    "a photo of a clean [name]",
    "a photo of a dirty [name]",
    "a dark photo of the [name]",
    "a photo of my [name]",
    "a photo of the cool [name]",
    "a close-up photo of a [name]",
    "a bright photo of the [name]",
    "a cropped photo of a [name]",
    "a photo of the [name]",
    "a good photo of the [name]",
    "a photo of one [name]",
    "a close-up photo of the [name]",
    "a rendition of the [name]",
    "a photo of the clean [name]",
    "a rendition of a [name]",
    "a photo of a nice [name]",
    "a good photo of a [name]",
    "a photo of the nice [name]",
    "a photo of the small [name]",
    "a photo of the weird [name]",
    "a photo of the large [name]",
    "a photo of a cool [name]",
    "a photo of a small [name]",
)
"""Neutral contexts for an object (textual inversion paper, arXiv 2208.01618, section 3)."""

STYLE_TEMPLATES: Sequence[str] = tuple(
    f"{kind} in the style of [name]"
    for kind in (
        "a painting",
        "a rendering",
        "a cropped painting",
        "the painting",
        "a clean painting",
        "a dirty painting",
        "a dark painting",
        "a picture",
        "a cool painting",
        "a close-up painting",
        "a bright painting",
        "a good painting",
        "a rendition",
        "a nice painting",
        "a small painting",
        "a weird painting",
        "a large painting",
    )
)
"""Neutral contexts for a style (same source)."""

TEMPLATES = {"object": OBJECT_TEMPLATES, "style": STYLE_TEMPLATES}


def with_placeholder(text: str, name: str) -> str:
    """Write every mention of the word as the placeholder.

    The word may be given as `[name]`, as `embedding:NAME` or as the bare name standing
    alone, so that captions and prompts made for other tools work unchanged.
    """
    word = re.escape(name)
    pattern = rf"(?:embedding:|(?<![\w:.-])){word}(?![\w-]|\.\w)"
    return re.sub(pattern, PLACEHOLDER, text)


def caption_prompt(caption: str, name: str) -> str:
    """A caption made ready for training.

    Raises:
        InputError: the word does not occur in it, so that nothing could be learned.
    """
    prompt = with_placeholder(" ".join(caption.split()), name)
    if PLACEHOLDER not in prompt:
        raise InputError(
            f"The caption “{caption.strip()}” does not contain the word: write {PLACEHOLDER} (or "
            f"“{name}”) where the picture shows what is to be learned."
        )
    return prompt
