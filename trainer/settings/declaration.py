"""How a setting is declared: its default, its words and its limits, in one place."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError


@dataclass(frozen=True)
class Choice:
    """What surfaces (node, command line) need to know about one setting."""

    help: str
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    options: Sequence[str] | None = None
    advanced: bool = False
    multiline: bool = False
    later: bool = False
    """Added when graphs had been saved: the node has it last, so that they keep their values."""


def setting(default: Any, help_text: str, **constraints: Any) -> Any:
    """A field with its words and limits (see `Choice`)."""
    return dataclasses.field(default=default, metadata={"choice": Choice(help_text, **constraints)})


def described_fields(kind: Any) -> list[tuple[dataclasses.Field[Any], Choice]]:
    """Each field of a kind of settings, or of such settings, with its description, in order."""
    return [(f, f.metadata["choice"]) for f in dataclasses.fields(kind)]


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
        if choice.minimum is not None and value < choice.minimum:
            raise InputError(f"{field.name} is {value}: it must be at least {choice.minimum}.")
        if choice.maximum is not None and value > choice.maximum:
            raise InputError(f"{field.name} is {value}: it must be at most {choice.maximum}.")
