"""Captions: what a picture's own words become in the prompts that training draws from."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..prompts import (
    CAPTION_TEMPLATES,
    FILEWORDS,
    PLACEHOLDER,
    TEMPLATES,
    parse_templates,
    with_placeholder,
)
from ..settings import Settings
from .randomness import Stream, generator

VARIANTS = 32
"""Prompts drawn for a picture whose tags are shuffled or left out."""


def words_of_file_name(stem: str) -> str | None:
    """A caption from the name of a file without suffix, or None where it holds no words.

    Numbers in front and at the end count files and are dropped; underscores are spaces,
    unless there are real ones.
    """
    words = re.sub(r"^[-_\s\d]+|[-_\s]*(\d+|\(\d+\))$", "", stem)
    if " " not in words:
        words = words.replace("_", " ")
    return words.strip() if re.search(r"[^\W\d_]", words) else None


def clean_caption(caption: str | None, name: str) -> str:
    """A caption on one line, with the placeholder for the word; empty where there is none."""
    return with_placeholder(" ".join((caption or "").split()), name)


PromptsOf = Callable[[str | None, Settings, int], Sequence[str]]
"""Like `prompts_of`: caption, settings and number of a picture -> its prompts."""


@dataclass(frozen=True)
class Templates:
    """What is filled where the settings have no templates.

    Attributes:
        alone: for pictures without a caption.
        captioned: for captions that do not say where the word stands.
    """

    alone: Sequence[str]
    captioned: Sequence[str]


def prompts_of(
    caption: str | None, settings: Settings, number: int, defaults: Templates | None = None
) -> list[str]:
    """The prompts to draw from for one picture; each contains the word.

    Args:
        caption: its words, or None.
        settings: whose templates are filled; without any, a caption that contains the word
            is the prompt itself.
        number: of the picture, for the random numbers.
        defaults: if not those for what `settings.learn` says.
    """
    text = clean_caption(caption, settings.name)
    if defaults is None:
        defaults = Templates(TEMPLATES[settings.learn], CAPTION_TEMPLATES[settings.learn])
    return filled(_templates_for(text, settings, defaults), text, settings, number)


def filled(templates: Sequence[str], text: str, settings: Settings, number: int) -> list[str]:
    """Templates with a caption in them, in variations where tags are shuffled or left out.

    Args:
        templates: at least one.
        text: from `clean_caption`.
        settings: which variations.
        number: of the picture, for the random numbers.
    """
    if not text or not (settings.shuffle_tags or settings.drop_tags):
        return [fill(template, text) for template in templates]
    rng = generator(settings.seed, Stream.CAPTIONS, number)
    # A fixed number of them, so that all prompts are known, and read once, before the first step.
    return [
        fill(templates[i % len(templates)], vary_tags(text, settings, rng))
        for i in range(max(VARIANTS, len(templates)))
    ]


def fill(template: str, caption: str) -> str:
    """Put a caption into a template, without the commas that an empty one would leave."""
    prompt = " ".join(template.replace(FILEWORDS, caption).split())
    return re.sub(r"\s*,(\s*,)+", ",", prompt).strip(" ,")


def vary_tags(caption: str, settings: Settings, rng: torch.Generator) -> str:
    """Leave out and shuffle parts between commas; one with the word stays where it is."""
    tags = [tag.strip() for tag in caption.split(",") if tag.strip()]
    kept = [
        tag
        for tag, drawn in zip(tags, torch.rand(len(tags), generator=rng), strict=True)
        if PLACEHOLDER in tag or drawn >= settings.drop_tags
    ]
    others = [tag for tag in kept if PLACEHOLDER not in tag]
    if settings.shuffle_tags:
        others = [others[i] for i in torch.randperm(len(others), generator=rng)]
    rest = iter(others)
    return ", ".join(tag if PLACEHOLDER in tag else next(rest) for tag in kept)


def usable_templates(text: str, settings: Settings) -> list[str]:
    """Those of the settings' templates that, filled with this cleaned caption, have the word."""
    return [
        template
        for template in parse_templates(settings.templates, settings.name)
        if (text or FILEWORDS not in template) and PLACEHOLDER in fill(template, text)
    ]


def _templates_for(text: str, settings: Settings, defaults: Templates) -> Sequence[str]:
    if own := usable_templates(text, settings):
        return own
    if not text:
        return defaults.alone
    return (FILEWORDS,) if PLACEHOLDER in text else defaults.captioned
