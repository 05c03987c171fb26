"""What several nodes share: socket types, and inputs made from the trainer's settings."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from comfy_api.latest import io

from ..trainer.embeddings.names import new_name
from ..trainer.errors import InputError
from ..trainer.settings import (
    Choice,
    NegativeSettings,
    RatingSettings,
    Settings,
    described_fields,
)

CATEGORY = "textual inversion"

EmbeddingSocket = io.Custom("EMBEDDING")
"""Carries a `trainer.embedding.Embedding`."""

LossMapSocket = io.Custom("LOSS_MAP")
"""The host's own type for a list of losses, as its Plot Loss Graph takes it."""


TRAINING_NODES: Mapping[str, type[Settings]] = {
    "TextualInversionTrain": Settings,
    "TextualInversionTrainNegative": NegativeSettings,
    "TextualInversionTrainRatings": RatingSettings,
}
"""The nodes that train, by their ids, and the kind of their settings."""


def found_as(*words: str) -> dict[str, list[str]]:
    """What the page's search finds a node by besides its name, for a schema that knows of it."""
    known = any(field.name == "search_aliases" for field in dataclasses.fields(io.Schema))
    return {"search_aliases": list(words)} if known else {}


def setting_inputs(kind: type[Settings], place: str) -> list[io.Input]:
    """Inputs for some of the trainer's settings, their words as tooltips.

    Args:
        kind: of settings.
        place: `front` for the everyday ones, `middle` for those that are rarely needed, `end` for
            those that graphs of the first versions lack; see `Choice`.
    """
    return [
        _input(field.name, field.default, choice)
        for field, choice in described_fields(kind)
        if (choice.place or ("middle" if choice.advanced else "front")) == place
    ]


def _input(name: str, default: Any, choice: Choice) -> io.Input:
    common: dict[str, Any] = {"default": default, "tooltip": choice.help}
    if choice.place == "end":
        common["optional"] = True  # also where a graph for the API lacks it
    kind = _kind(default, choice)
    if choice.advanced:
        common["extra_dict"] = {"group": choice.advanced}  # for the page, see advanced_inputs.js
        if "advanced" in inspect.signature(kind).parameters:
            common["advanced"] = True
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


def name_problem(name: str | None) -> bool | str:
    """True, or why a name cannot be used; one that comes through a link is not known yet."""
    try:
        new_name("connected" if name is None else name)
    except InputError as error:
        return str(error)
    return True


def one_each(what: str, values: Sequence[Any], count: int) -> list[Any]:
    """One value for each picture, of as many or of one for all of them.

    Raises:
        InputError: another number of values.
    """
    if len(values) == 1:
        return [*values] * count
    if len(values) != count:
        raise InputError(
            f"{what} must match the pictures: there are {count} pictures but {len(values)} {what}. "
            "Connect one for each picture, or one for all."
        )
    return list(values)
