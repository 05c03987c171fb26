"""The vectors before the first step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .embedding import Embedding
from .errors import InputError
from .model import TextEncoder


def from_words(encoder: TextEncoder, words: str, num_vectors: int) -> Tensor:
    """Spread the tokens of some words evenly over the vectors; float32 [vectors, width].

    Two tokens over four vectors give a, a, b, b; four over two give a, c.

    Raises:
        InputError: the words have no token.
    """
    ids = encoder.token_ids(words)
    if not ids:
        raise InputError(
            f"init_words “{words}” has no token that the text encoder knows: use common words."
        )
    chosen = [ids[i * len(ids) // num_vectors] for i in range(num_vectors)]
    return encoder.vocabulary[chosen].detach().to("cpu", torch.float32)


def from_vocabulary_mean(encoder: TextEncoder, num_vectors: int) -> Tensor:
    """The mean of all token vectors, once for each vector; float32 [vectors, width]."""
    return encoder.vocabulary.detach().float().mean(0, keepdim=True).cpu().repeat(num_vectors, 1)


def initial_vectors(
    encoders: Sequence[TextEncoder],
    init_words: str,
    num_vectors: int,
    start: Embedding | None = None,
) -> dict[str, Tensor]:
    """Where learning starts, for every encoder: an embedding, else words, else the mean.

    Raises:
        InputError: the embedding does not fit the model, or the words have no token.
    """
    if start is not None:
        return start.rows_for({e.key: e.width for e in encoders})
    if init_words.strip():
        return {e.key: from_words(e, init_words, num_vectors) for e in encoders}
    return {e.key: from_vocabulary_mean(e, num_vectors) for e in encoders}
