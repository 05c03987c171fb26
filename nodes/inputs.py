"""What several nodes share: socket types, and inputs made from the trainer's settings."""

from __future__ import annotations

import inspect
from typing import Any

from comfy_api.latest import io

from ..trainer.settings import Choice, Settings, described_fields

CATEGORY = "textual inversion"

EmbeddingSocket = io.Custom("EMBEDDING")
"""Carries a `trainer.embedding.Embedding`."""

LossMapSocket = io.Custom("LOSS_MAP")
"""The host's own type for a list of losses, as its Plot Loss Graph takes it."""


def setting_inputs(kind: type[Settings], *, advanced: bool, later: bool = False) -> list[io.Input]:
    """Inputs for the trainer's everyday or rarely used settings, their words as tooltips.

    Args:
        kind: of settings.
        advanced: whether the rarely used ones are meant.
        later: whether those are meant that came when graphs had been saved without them.
    """
    return [
        _input(field.name, field.default, choice)
        for field, choice in described_fields(kind)
        if (choice.advanced, choice.later) == (advanced, later)
    ]


def _input(name: str, default: Any, choice: Choice) -> io.Input:
    common: dict[str, Any] = {"default": default, "tooltip": choice.help}
    kind = _kind(default, choice)
    if choice.advanced and "advanced" in inspect.signature(kind).parameters:
        common["advanced"] = True
    if choice.later:
        common["optional"] = True
    if choice.options:
        return kind(name, options=list(choice.options), **common)
    if choice.multiline:
        common["multiline"] = True
    if isinstance(default, bool | str):
        return kind(name, **common)
    if name == "seed":
        common["control_after_generate"] = False
    limits = {"min": choice.minimum, "max": choice.maximum, "step": choice.step or 1}
    return kind(name, **limits, **common)


def _kind(default: Any, choice: Choice) -> Any:
    if choice.options:
        return io.Combo.Input
    if isinstance(default, bool):
        return io.Boolean.Input
    if isinstance(default, str):
        return io.String.Input
    return io.Float.Input if isinstance(default, float) else io.Int.Input
