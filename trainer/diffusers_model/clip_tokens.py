"""Prompts as CLIP reads them: chunks of fixed length, with places kept for the word."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ..prompts import WeightedGroup

T = TypeVar("T")

WHOLE_BELOW = 8
"""Groups of fewer tokens are never split over two chunks (`max_word_length` of ComfyUI)."""


@dataclass(frozen=True)
class ChunkFormat:
    """How an encoder wants its tokens: ids around a text, and tokens in all."""

    start: int
    end: int
    pad: int
    length: int


def chunk_rows(
    groups: Iterable[Sequence[int] | None], num_vectors: int, form: ChunkFormat
) -> list[list[int]]:
    """Lay tokens out in as many chunks as they need, as ComfyUI's `SDTokenizer` does.

    The place kept for the word's vector i holds `~i`, a negative number.

    Returns:
        at least one row, each of `form.length` numbers.
    """
    word = [~i for i in range(num_vectors)]
    room = form.length - 2
    rows = _laid_out((word if group is None else group for group in groups), room)
    return [[form.start, *r, form.end, *[form.pad] * (room - len(r))] for r in rows]


def chunk_weights(
    groups: Iterable[WeightedGroup], num_vectors: int, form: ChunkFormat
) -> list[list[float]]:
    """How much each token of `chunk_rows` counts; start, end and padding count 1."""
    counted = (
        [weight] * (num_vectors if group is None else len(group)) for group, weight in groups
    )
    rows = _laid_out(counted, form.length - 2)
    return [[1.0, *r, *[1.0] * (form.length - 1 - len(r))] for r in rows]


def _laid_out(groups: Iterable[Sequence[T]], room: int) -> list[list[T]]:
    rows: list[list[T]] = [[]]
    for tokens in groups:
        if len(tokens) < WHOLE_BELOW and len(rows[-1]) + len(tokens) > room:
            rows.append([])
        for token in tokens:
            if len(rows[-1]) == room:
                rows.append([])
            rows[-1].append(token)
    return rows


def place_vectors(embedded: Tensor, tokens: Tensor, vectors: Tensor) -> Tensor:
    """Put the word's vectors into the places kept for them, differentiably.

    Args:
        embedded: the tokens as their rows of the vocabulary, [chunks, length, width].
        tokens: rows of `chunk_rows`, [chunks, length].
        vectors: [vectors, width], or [chunks, vectors, width], for each chunk its own.
    """
    kept = tokens < 0
    places = torch.where(kept, ~tokens, 0)
    if vectors.ndim == 3:
        rows = vectors.to(embedded)[
            torch.arange(len(tokens), device=tokens.device)[:, None], places
        ]
    else:
        rows = vectors.to(embedded)[places]
    return torch.where(kept[..., None], rows, embedded)
