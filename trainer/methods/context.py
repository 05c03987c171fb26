"""A word that leaves the words around it as they are (CoRe, arXiv 2408.15914)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..embeddings.embedding import Rows, row_count
from ..model import FrozenModel
from ..prompts import PLACEHOLDER

SETTINGS: Sequence[str] = (
    "in the desert",
    "on the beach",
    "in the snow",
    "on a wooden table",
    "in front of a castle",
    "under a tree",
    "in a city street",
    "next to a blue door",
)
"""Put behind a prompt that ends with the word: encoders read from left to right, so that the word
only changes what stands after it."""


def with_context(prompt: str, number: int) -> str:
    """A prompt with words after the word; `number` chooses them where they are missing."""
    behind = prompt.rpartition(PLACEHOLDER)[2]
    return prompt if behind.strip(" .,;:!?)") else f"{prompt} {SETTINGS[number % len(SETTINGS)]}"


def context_loss(
    model: FrozenModel,
    prompts: Sequence[str],
    vectors: Rows,
    anchors: Rows,
) -> Tensor:
    """How much the word changes what the text encoders make of the words around it.

    Each prompt is encoded twice, with the word and with the words that it began as: the mean over
    the other words of 1 minus the cosine between the two states. It costs two passes through the
    text encoders; the network that draws is not asked.

    Args:
        model: the frozen model.
        prompts: texts with `prompts.PLACEHOLDER`.
        vectors: encoder key -> [vectors, width], to be learned.
        anchors: what the word began as; of more vectors than there are now, the first count.

    Returns:
        a scalar from 0 to 2, with a gradient in `vectors`.
    """
    count = row_count(vectors)
    tokenized = [model.tokenize(prompt, count) for prompt in prompts]
    with torch.no_grad():
        began = {key: anchors[key][: len(rows)] for key, rows in vectors.items()}
        wanted = model.text_states(tokenized, began)
    losses = []
    for now, then in zip(model.text_states(tokenized, vectors), wanted, strict=True):
        changes = 1 - F.cosine_similarity(now.states, then.states, dim=-1)
        losses.append((changes * now.is_text).sum() / now.is_text.sum().clamp_min(1))
    return torch.stack(losses).mean()
