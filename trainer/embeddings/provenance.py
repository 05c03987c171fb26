"""What the notes of a word say of the words that it was made from."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from .embedding import TRIGGER, Embedding
from .metadata import NEGATIVE

_MADE_FROM = "textual_inversion.made_from"
"""The note of how a word was made from others, down to those that were trained."""

_EXPRESSION = "expression"
"""In that note: the expression that made it, where there was one."""

_SHARED_NOTES = ("modelspec.architecture", "modelspec.prediction_type", NEGATIVE)
"""What a result inherits where all its parts agree."""


def named(name: str, made: Embedding, words: Sequence[Embedding], expression: str) -> Embedding:
    """A word with notes that say by which expression of which words it was made."""
    notes = made_notes(name, words, expression)
    notes[_MADE_FROM] = json.dumps(
        {**json.loads(notes[_MADE_FROM]), _EXPRESSION: expression}, ensure_ascii=False
    )
    return Embedding(name, made.vectors, notes)


def expression_of(metadata: Mapping[str, str]) -> str | None:
    """The expression that made a word, as far as its notes say."""
    with contextlib.suppress(KeyError, ValueError, TypeError, RecursionError):
        found = json.loads(metadata[_MADE_FROM])[_EXPRESSION]
        return found if isinstance(found, str) else None
    return None


def made_notes(name: str, words: Sequence[Embedding], how: str) -> dict[str, str]:
    """The notes of a word that was made from others; what these agree on is inherited."""
    notes: Mapping[str, str] = words[0].metadata if words else {}
    shared = {
        key: notes[key]
        for key in _SHARED_NOTES
        if key in notes and all(word.metadata.get(key) == notes[key] for word in words)
    }
    made = {"how": how, "words": {word.name: _origin(word) for word in words}}
    return {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.title": name,
        TRIGGER: name,
        "modelspec.implementation": "textual-inversion",
        **shared,
        _MADE_FROM: json.dumps(made, ensure_ascii=False),
    }


def _origin(word: Embedding) -> Any:
    """How a word was made, if it is a blend itself; else the beginning of its fingerprint."""
    with contextlib.suppress(KeyError, ValueError, RecursionError):
        return json.loads(word.metadata[_MADE_FROM])
    return word.fingerprint[:16]
