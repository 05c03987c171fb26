"""Words made of plain text."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..errors import InputError
from ..model import TextEncoder
from ..prompts import weighted_texts
from .embedding import Embedding
from .provenance import made_notes


def from_text(name: str, encoders: Sequence[TextEncoder], text: str) -> Embedding:
    """The token vectors of a text, as a word that any prompt can carry.

    A weight, as in `(word:1.2)`, multiplies the vectors of what is in its brackets.

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
        rows = [
            encoder.rows(ids) * weight
            for part, weight in weighted_texts(text)
            if (ids := encoder.token_ids(part))
        ]
        if not rows:
            raise InputError(f"The text “{text}” has no token: write one word or more.")
        vectors[encoder.key] = torch.cat(rows)
    return Embedding(name, vectors, made_notes(name, [], f"token vectors of “{text}”"))
