"""How a setting is declared: its default, its words and its limits, in one place."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError


@dataclass(frozen=True)
class Choice:
    """What surfaces (node, command line) need to know about one setting.

    `advanced` says of one that is rarely needed what it is about: learning, pictures, prompts,
    saving or checks; "" of an everyday one.
    `place` is where graphs keep its value, which go by places: `front` or `end` where that is not
    what `advanced` says, because a setting was not always as rarely needed, or came later.
    """

    help: str
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    options: Sequence[str] | None = None
    advanced: str = ""
    multiline: bool = False
    place: str = ""


def setting(default: Any, help_text: str, **constraints: Any) -> Any:
    """A field with its words and limits (see `Choice`)."""
    return dataclasses.field(default=default, metadata={"choice": Choice(help_text, **constraints)})


def described_fields(kind: Any) -> list[tuple[dataclasses.Field[Any], Choice]]:
    """Each field of a kind of settings, or of such settings, with its description, in order.

    Those that the kind has no use for, its `unused`, are left out.
    """
    unused = getattr(kind, "unused", {})
    return [(f, f.metadata["choice"]) for f in dataclasses.fields(kind) if f.name not in unused]


def check_limits(settings: Any) -> None:
    """Compare each value with what its declaration allows.

    Raises:
        InputError: a value outside its range, in one sentence that names the setting.
    """
    for field, choice in described_fields(settings):
        value = getattr(settings, field.name)
        if choice.options and value not in choice.options:
            raise InputError(
                f"{field.name} is “{value}”: choose one of {', '.join(choice.options)}."
            )
        # So written, it refuses NaN too, which is neither below nor above anything.
        if choice.minimum is not None and not value >= choice.minimum:
            raise InputError(f"{field.name} is {value}: it must be at least {choice.minimum}.")
        if choice.maximum is not None and value > choice.maximum:
            raise InputError(f"{field.name} is {value}: it must be at most {choice.maximum}.")


def check_together(settings: Any) -> None:
    """Compare values with each other.

    Raises:
        InputError: some of them cannot be used together, in one sentence that names them.
    """
    if settings.resolution % 8:
        raise InputError(f"resolution is {settings.resolution}: it must be a multiple of 8.")
    if settings.keep == "best" and not settings.evaluations:
        raise InputError(
            "keep is “best” but evaluations is 0, so the best is not known: set "
            "evaluations to 20, or keep to “last”."
        )
    if settings.stop_early and not settings.evaluations:
        raise InputError("stop_early is on but evaluations is 0: it would never stop.")
    if settings.initialization == "cross" and settings.fixed_length:
        raise InputError(
            "initialization “cross” starts from long vectors, which renorm and the optimizer "
            "sphere would shorten: choose the optimizer adamw without renorm."
        )
