"""Arithmetic on embeddings: every function makes a new word of given ones, encoder by encoder."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..model import TextEncoder
from .embedding import TRIGGER, Embedding
from .metadata import NEGATIVE

_MADE_FROM = "textual_inversion.made_from"
"""The note of how a word was made from others, down to those that were trained."""

_SHARED_NOTES = ("modelspec.architecture", "modelspec.prediction_type", NEGATIVE)
"""What a result inherits where all its parts agree."""


def weighted_sum(name: str, words: Sequence[Embedding], weights: Sequence[float]) -> Embedding:
    """Row i of the result is the sum of all rows i, each times the weight of its word.

    Args:
        name: of the result.
        words: with equal encoders, and equally many vectors for each.
        weights: one for each word; they need not sum to 1.

    Raises:
        InputError: encoders or numbers of vectors differ, or everything cancels out.
    """
    _check_same_rows(words)

    def add(rows: Sequence[Tensor]) -> Tensor:
        return sum((w * r for w, r in zip(weights, rows, strict=True)), torch.zeros(()))

    return _combined(name, words, add, f"sum of {', '.join(f'{w:g}' for w in weights)} times")


def slerp(name: str, start: Embedding, end: Embedding, amount: float) -> Embedding:
    """Turn each row of one word toward the same row of another, at even speed along the arc.

    Directions follow spherical linear interpolation (Shoemake, “Animating rotation with
    quaternion curves”, 1985); lengths go along a straight line. A straight line between the
    vectors themselves would make them too short on the way. Between opposite or zero vectors
    there is no such arc, and a straight line takes its place.

    Raises:
        InputError: encoders or numbers of vectors differ, or everything cancels out.
    """
    words = (start, end)
    _check_same_rows(words)

    def turn(rows: Sequence[Tensor]) -> Tensor:
        return _slerp(rows[0].double(), rows[1].double(), amount)

    return _combined(name, words, turn, f"slerp by {amount:g} between")


def concatenate(name: str, words: Sequence[Embedding]) -> Embedding:
    """All vectors of the first word, then those of the second, and so on.

    Raises:
        InputError: the words have vectors for different encoders.
    """
    _check_same_encoders(words)
    return _combined(name, words, lambda rows: torch.cat(list(rows)), "concatenation of")


def keep_vectors(name: str, word: Embedding, count: int) -> Embedding:
    """Say with fewer vectors as much as can be said of a word.

    For each encoder, principal component analysis without centring finds the `count`
    directions that hold most of the rows' squared length (Eckart and Young, “The
    approximation of one matrix by another of lower rank”, 1936). Bare components would be
    no tokens: their sign is arbitrary, and all but the first are contrasts between rows. So
    the `count` rows that span these directions best are kept, chosen by pivoting as in
    Boutsidis, Mahoney and Drineas (“An improved approximation algorithm for the column
    subset selection problem”, 2009), projected on the directions, in their old order and
    each as long as it was. An encoder with no more rows than that keeps them unchanged.

    Raises:
        InputError: `count` is below 1.
    """
    if count < 1:
        raise InputError(f"{count} vectors cannot be kept: keep at least 1.")
    return _combined(
        name, [word], lambda rows: _principal(rows[0], count), f"{count} principal vectors of"
    )


def from_text(name: str, encoders: Sequence[TextEncoder], text: str) -> Embedding:
    """The token vectors of a text, as a word that any prompt can carry.

    Raises:
        InputError: the text has no token, or asks for another embedding.
    """
    if "embedding:" in text:
        raise InputError(
            "The text mentions an embedding: write plain words, and join embeddings by "
            "concatenating them in Blend Embeddings."
        )
    vectors = {}
    for encoder in encoders:
        ids = encoder.token_ids(text)
        if not ids:
            raise InputError(f"The text “{text}” has no token: write one word or more.")
        vectors[encoder.key] = encoder.rows(ids)
    return Embedding(name, vectors, _notes(name, [], f"token vectors of “{text}”"))


def _combined(
    name: str,
    words: Sequence[Embedding],
    combine: Callable[[Sequence[Tensor]], Tensor],
    how: str,
) -> Embedding:
    vectors = {
        key: combine([word.vectors[key] for word in words]).float() for key in words[0].vectors
    }
    if not any(rows.any() for rows in vectors.values()):
        raise InputError(
            "Nothing is left: the vectors cancel each other out. Choose another amount, or words "
            "that differ."
        )
    return Embedding(name, vectors, _notes(name, words, how))


def _notes(name: str, words: Sequence[Embedding], how: str) -> dict[str, str]:
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


def _check_same_encoders(words: Sequence[Embedding]) -> None:
    for word in words[1:]:
        if word.vectors.keys() != words[0].vectors.keys():
            raise InputError(
                f"“{words[0].name}” is for {words[0].family}, “{word.name}” for {word.family}: "
                "blend words that are for the same family of models."
            )
        if word.widths != words[0].widths:
            raise InputError(
                f"The vectors of “{words[0].name}” are {_listed(words[0].widths)} wide, those of "
                f"“{word.name}” {_listed(word.widths)}: blend words made for the same model."
            )


def _check_same_rows(words: Sequence[Embedding]) -> None:
    _check_same_encoders(words)
    for word in words[1:]:
        for key, rows in word.vectors.items():
            counts = len(words[0].vectors[key]), len(rows)
            if counts[0] != counts[1]:
                raise InputError(
                    f"“{words[0].name}” has {counts[0]} vectors for {key} and “{word.name}” "
                    f"{counts[1]}: bring the longer one to {min(counts)} by keep_vectors first, "
                    "or concatenate them."
                )


def _listed(widths: Mapping[str, int]) -> str:
    return " and ".join(str(width) for width in widths.values())


def _slerp(start: Tensor, end: Tensor, amount: float) -> Tensor:
    """Along the last dimension."""
    straight = torch.lerp(start, end, amount)
    length, other = (rows.norm(dim=-1, keepdim=True) for rows in (start, end))
    tiny = torch.finfo(start.dtype).tiny
    unit, other_unit = start / length.clamp_min(tiny), end / other.clamp_min(tiny)
    angle = (unit * other_unit).sum(-1, keepdim=True).clamp(-1, 1).arccos()
    curved = ((1 - amount) * angle).sin() * unit + (amount * angle).sin() * other_unit
    curved = curved / angle.sin() * torch.lerp(length, other, amount)
    return torch.where((angle.sin() > 1e-6) & (length * other > 0), curved, straight)


def _principal(rows: Tensor, count: int) -> Tensor:
    if count >= len(rows):
        return rows
    directions = torch.linalg.svd(rows.double(), full_matrices=False).Vh[:count]
    coordinates = rows.double() @ directions.T
    chosen = _spanning(coordinates)
    kept = coordinates[chosen] @ directions
    lengths = rows[chosen].double().norm(dim=1, keepdim=True)
    scaled: Tensor = kept * (lengths / kept.norm(dim=1, keepdim=True).clamp_min(1e-30))
    return scaled


def _spanning(coordinates: Tensor) -> list[int]:
    """As many rows of [rows, count] as it has columns: each the farthest from those before."""
    rest = coordinates.clone()
    chosen: list[int] = []
    for _ in range(coordinates.shape[1]):
        distances = rest.norm(dim=1)
        distances[chosen] = -1  # rows that are all alike leave nothing but zeros to choose from
        chosen.append(int(distances.argmax()))
        axis = rest[chosen[-1]] / distances[chosen[-1]].clamp_min(1e-30)
        rest = rest - (rest @ axis)[:, None] * axis
    return sorted(chosen)
