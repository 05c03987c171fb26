"""The vectors before the first step."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ..embeddings.embedding import Embedding, Rows, row_count
from ..errors import InputError
from ..model import FrozenModel, TextEncoder
from ..prompts import PLACEHOLDER, with_placeholder
from ..settings import Settings

TRIED = 16
"""As many words of the captions are tried; each costs one evaluation."""

_TOO_COMMON = {"an", "and", "at", "by", "for", "from", "in", "is", "of", "on", "the", "to", "with"}


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
    return encoder.rows(chosen)


def from_vocabulary_mean(encoder: TextEncoder, num_vectors: int) -> Tensor:
    """The mean of all token vectors, once for each vector; float32 [vectors, width]."""
    mean = encoder.vocabulary.detach().float().mean(0, keepdim=True) * encoder.scale
    return mean.cpu().repeat(num_vectors, 1)


def initial_vectors(
    encoders: Sequence[TextEncoder],
    init_words: str,
    num_vectors: int,
    start: Embedding | None = None,
) -> dict[str, Tensor]:
    """Where learning starts, for every encoder: an embedding, else words, else the mean.

    Encoders for which the embedding has nothing start from the words or the mean.

    Raises:
        InputError: the embedding does not fit the model, or the words have no token.
    """
    started: dict[str, Tensor] = {}
    if start is not None:
        started = start.rows_for({e.key: e.width for e in encoders})
        num_vectors = start.num_vectors
    missing = [e for e in encoders if e.key not in started]
    if init_words.strip():
        words = {e.key: from_words(e, init_words, num_vectors) for e in missing}
    else:
        words = {e.key: from_vocabulary_mean(e, num_vectors) for e in missing}
    return {**started, **words}


def learning_encoders(encoders: Sequence[TextEncoder], wanted: str) -> dict[str, TextEncoder]:
    """The encoders whose vectors are trained, by key.

    Args:
        encoders: the model's.
        wanted: keys with commas between them; empty for all.

    Raises:
        InputError: a key that the model does not have.
    """
    by_key = {e.key: e for e in encoders}
    keys = [key.strip() for key in wanted.split(",") if key.strip()] or list(by_key)
    for key in keys:
        if key not in by_key:
            raise InputError(
                f"The model has no text encoder “{key}”: set encoders to one or more of "
                f"{', '.join(by_key)}, or leave it empty for all."
            )
    return {key: by_key[key] for key in keys}


def prepared(model: FrozenModel, settings: Settings, vectors: Rows) -> dict[str, Tensor]:
    """What the settings make of the vectors of words: crossed, or as long as usual words.

    Those of encoders that do not learn stay as they are.

    Args:
        model: the frozen model.
        settings: of the run.
        vectors: encoder key -> [vectors, width].

    Raises:
        InputError: as `crossed`, or as `learning_encoders`.
    """
    learning = learning_encoders(model.text_encoders, settings.encoders)
    changed: Rows = {}
    if settings.initialization == "cross":
        changed = crossed(model, vectors)
    elif settings.fixed_length:
        changed = _with_usual_lengths({key: (vectors[key], e) for key, e in learning.items()})
    return {**vectors, **{key: rows for key, rows in changed.items() if key in learning}}


@torch.no_grad()
def crossed(model: FrozenModel, vectors: Rows) -> dict[str, Tensor]:
    """Cross initialisation (arXiv 2312.15905): what the encoders make of vectors, as vectors.

    Learned vectors lie nearer to the outputs of the text encoder than to its inputs, so that far
    fewer steps are left to go. They are some seventy times as long as a word's.

    Args:
        model: the frozen model.
        vectors: encoder key -> [vectors, width], such as `initial_vectors` gives.

    Raises:
        InputError: outputs and inputs differ in width, or the encoders read other tokens.
    """
    count = row_count(vectors)
    on_device = {key: rows.to(model.device) for key, rows in vectors.items()}
    (encoded,) = model.text_states([model.tokenize(PLACEHOLDER, count)], on_device)
    widths = [encoder.width for encoder in model.text_encoders]
    if sum(widths) != encoded.states.shape[1]:
        raise InputError(
            "The outputs of this model's text encoder are not as wide as its inputs, so that "
            "initialization “cross” cannot be used: choose words."
        )
    parts = torch.split(encoded.states[encoded.is_word].cpu(), widths, dim=1)
    return {
        encoder.key: part.clone()
        for encoder, part in zip(model.text_encoders, parts, strict=True)
        if encoder.key in vectors
    }


def from_captions(
    model: FrozenModel,
    settings: Settings,
    captions: Sequence[str],
    measure: Callable[[Rows], Sequence[float]],
) -> dict[str, Tensor]:
    """Start from the words of the captions that come nearest to the pictures.

    Args:
        model: the frozen model.
        settings: of the run; each of its vectors takes one of the best words.
        captions: of the pictures.
        measure: vectors -> their losses on the fixed batch.

    Raises:
        InputError: the captions have no word that is a single token of every encoder.
    """
    encoders = model.text_encoders
    plain = (with_placeholder(caption, settings.name) for caption in captions)
    texts = [caption.replace(PLACEHOLDER, " ").lower() for caption in plain]
    found = Counter(word for text in texts for word in set(re.findall(r"[^\W\d_]{2,}", text)))
    # The commonest first, then by the alphabet, so that every run tries the same.
    ordered = sorted(found, key=lambda word: (-found[word], word))
    words = [
        word
        for word in ordered
        if word not in _TOO_COMMON and all(len(e.token_ids(word)) == 1 for e in encoders)
    ][:TRIED]
    if not words:
        raise InputError(
            "initialization is “captions”, but the captions have no common word to start from: "
            "connect captions that say what the pictures show, or set init_words."
        )

    def vectors_of(text: str) -> dict[str, Tensor]:
        vectors = {e.key: from_words(e, text, settings.num_vectors) for e in encoders}
        if not settings.fixed_length:
            return vectors
        return _with_usual_lengths({e.key: (vectors[e.key], e) for e in encoders})

    losses = {word: sum(measure(vectors_of(word))) for word in words}
    best = sorted(words, key=losses.__getitem__)[: settings.num_vectors]
    return vectors_of(" ".join(best))


def _with_usual_lengths(rows: Mapping[str, tuple[Tensor, TextEncoder]]) -> dict[str, Tensor]:
    """The same directions, each as long as its encoder's vectors are on average."""
    scaled = {}
    for key, (vectors, encoder) in rows.items():
        lengths = vectors.norm(dim=1, keepdim=True).clamp_min(1e-12)
        scaled[key] = vectors * (torch.tensor(encoder.usual_length) / lengths)
    return scaled
