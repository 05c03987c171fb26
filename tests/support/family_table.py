"""The tables of families in docs/models.md, written from what the pack and the tests know.

cd tests && python -m support.family_table
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from .families import supported
from .package import use_checkout
from .paths import ROOT
from .small_families import FAMILIES as SMALL
from .small_families import HostFamily

if TYPE_CHECKING:
    from textual_inversion.nodes.host.families import Family

PAGE = ROOT / "docs" / "models.md"


def small_family(small: HostFamily) -> Family:
    """What the pack takes a small model for."""
    from textual_inversion.nodes.host.families import family_of

    family = family_of(SimpleNamespace(model=SimpleNamespace(model_config=supported(small))))
    assert family is not None
    return family


def trains() -> Iterator[str]:
    """A line for each family that the tests train with."""
    from textual_inversion.nodes.host.family import spanned

    predicts = {"v_prediction": "v"}
    for small in SMALL.values():
        family = small_family(small)
        guidance = spanned(family.guidance) if family.guidance else "–"
        if family.told:
            guidance = f"{family.told:g}, told"
        keys = ", ".join(f"`{key}`" for key in small.learns)
        kind = predicts.get(small.parameterization, small.parameterization)
        found = ("yes" if small.first else "not first") if small.stock else "no"
        yield (
            f"| {small.title} | {kind} | {keys} | {spanned(family.sides)} | {guidance} | {found} |"
        )


def refused(known: Mapping[str, Family]) -> Iterator[str]:
    """A line for each family that draws stills and is not trained with."""
    for family in sorted(known.values(), key=lambda family: family.title):
        if family.refused and family.stills:
            reason = family.refused[0].upper() + family.refused[1:]
            yield f"| {family.title} | {reason}. |"


def no_stills(known: Mapping[str, Family]) -> str:
    """The titles of those that draw no stills."""
    return ", ".join(sorted(family.title for family in known.values() if not family.stills))


def filled(page: str, known: Mapping[str, Family]) -> str:
    """The page with its tables brought up to date."""
    for head, rows in (
        (
            "| Family | Predicts | Encoders that learn | Made for | Guidance | `embedding:` |",
            trains(),
        ),
        ("| Family | Why, and what to do instead |", refused(known)),
    ):
        before, rest = page.split(f"{head}\n", 1)
        rule, rest = rest.split("\n", 1)
        after = rest[rest.index("\n\n") :] if not rest.startswith("\n") else rest
        page = "\n".join([f"{before}{head}", rule, *rows]) + after
    before, rest = page.split("draw no stills: ", 1)
    after = rest.split(".\n", 1)[1]
    return f"{before}draw no stills: {no_stills(known)}.\n{after}"


if __name__ == "__main__":
    from .comfyui import find_comfyui
    from .inprocess import use_comfyui

    with tempfile.TemporaryDirectory() as base:
        use_comfyui(find_comfyui(), Path(base))
        use_checkout()
        from textual_inversion.nodes.host.families import FAMILIES

        PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), FAMILIES), encoding="utf-8")
