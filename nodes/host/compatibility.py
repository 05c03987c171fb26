"""Whether the host still has what the pack takes from it, asked once, when the pack is loaded.

Users run versions of the host that nobody here has seen. What is gone, or takes other arguments,
switches off the nodes that need it; the others work as before.
"""

from __future__ import annotations

import dis
import importlib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Flag, auto
from typing import Any

from ...trainer.version import VERSION


class Part(Flag):
    """What can be missing while the rest goes on."""

    LIBRARY = auto()
    """The embeddings folder."""
    PROMPTS = auto()
    """Words in the host's text encoders."""
    MESSAGES = auto()
    """Text on a node."""
    TRAINING = auto()
    """Gradients through the host's networks, and runs."""
    DEMO = auto()
    """The tiny model."""
    PAGE = auto()
    """What the page asks over HTTP."""


@dataclass(frozen=True)
class Call:
    """How the pack calls something, or how the host calls what the pack has put in its place.

    Attributes:
        positional: number of arguments without a name, `self` not counted.
        keywords: names of the others.
    """

    positional: int
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True)
class Internal:
    """Something of the host.

    Attributes:
        module: where it is.
        name: what it is called there; after a dot, what objects of a class have.
        call: how it is called; None for what is only looked at, or handed on.
        since: the first version that has it.
        used_for: what the pack does with it.
        part: what does not work without it.
        can_be_absent: the pack does without it.
    """

    module: str
    name: str
    call: Call | None
    since: str
    used_for: str
    part: Part
    can_be_absent: bool = False

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


def host_version() -> str:
    """The host's version, as far as it tells."""
    try:
        from comfyui_version import __version__
    except ImportError:
        return "of an unknown version"
    return str(__version__)


def unfit(internals: Iterable[Internal]) -> dict[Internal, str]:
    """What the host at hand does not have as the pack takes it, and what is the matter with it."""
    found = {internal: _problem(internal) for internal in internals}
    return {internal: problem for internal, problem in found.items() if problem}


def told(problems: Mapping[Internal, str], left_out: Iterable[str]) -> str:
    """What is not there and what that costs, in one line for people.

    Args:
        problems: from `unfit`.
        left_out: what cannot be used, as the user knows it.
    """
    found = ", ".join(dict.fromkeys(f"{one} {problem}" for one, problem in problems.items()))
    return (
        f"Textual inversion {VERSION} does not fully fit ComfyUI {host_version()}: {found}. "
        f"Left out: {', '.join(left_out)}. Look for a newer version of the pack."
    )


def _problem(internal: Internal) -> str:
    try:
        found, is_method = _look_up(internal)
    except (ImportError, AttributeError):
        return "" if internal.can_be_absent else "is not there"
    if internal.call is None or not callable(found):
        return ""
    positional = [None] * (internal.call.positional + is_method)
    try:
        inspect.signature(found).bind(*positional, **dict.fromkeys(internal.call.keywords))
    except TypeError:
        return "takes other arguments"
    except ValueError:  # It does not say which.
        return ""
    return ""


def _look_up(internal: Internal) -> tuple[Any, bool]:
    """Something of the host, and whether it is called with an object of its class first."""
    owner: Any = importlib.import_module(internal.module)
    *classes, name = internal.name.split(".")
    for one in classes:
        owner = getattr(owner, one)
    found = inspect.getattr_static(owner, name, None)
    if found is None and classes and _gives_its_objects(owner, name):
        return None, False
    is_method = bool(classes) and inspect.isfunction(found)
    return getattr(owner, name), is_method


def _gives_its_objects(kind: type, name: str) -> bool:
    """Whether objects of a class get an attribute of this name when they are made."""
    codes = (getattr(vars(one).get("__init__"), "__code__", None) for one in kind.__mro__)
    steps = (step for code in codes if code for step in dis.get_instructions(code))
    return any(step.opname == "STORE_ATTR" and step.argval == name for step in steps)
