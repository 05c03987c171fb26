"""How a word reaches the host's text encoders.

The host's tokenizers ask `comfy.sd1_clip.load_embed` for the vectors behind
`embedding:name`. While `resolving` is open they ask us first: for a word held in
memory, or for the places that training keeps for vectors that still change.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import comfy.sd1_clip
import torch
from torch import Tensor

from ...trainer.embeddings.embedding import Embedding
from ...trainer.errors import InputError
from ...trainer.model import TextEncoder
from ...trainer.prompts import PLACEHOLDER
from .weights import alias_of, packing, unpacked

WORD = "textual-inversion-word"
"""What a word is called while we tokenise, whatever characters its own name has."""

Lookup = Callable[[str, str], Any]
"""(name of the embedding, key of the encoder) -> its rows, or None to look for a file."""


@dataclass(frozen=True)
class HostEncoder:
    """One of a CLIP's text encoders, with the tokenizer in front of it.

    Attributes:
        name: attribute of the tokenizer in the host (`clip_l`, `t5xxl`, ...).
        key: the name under which embedding files keep vectors for it.
        tokenizer: a `comfy.sd1_clip.SDTokenizer`.
        model: a `comfy.sd1_clip.SDClipModel`.
    """

    name: str
    key: str
    tokenizer: Any
    model: Any

    @property
    def vocabulary(self) -> Tensor:
        """The table of token vectors, [tokens, width], where the host keeps it."""
        look_up = self.model.transformer.get_input_embeddings()
        weight: Tensor = look_up.weight
        if packing(weight):
            # What is packed may call itself what it stands for, or the bytes that it consists of.
            dtype = weight.dtype if weight.is_floating_point() else torch.float32
            return unpacked(look_up, weight, weight.device, dtype)
        return weight

    @property
    def scale(self) -> float:
        """What the encoder multiplies a row of the table by when it looks up a token.

        Gemma's is the square root of the width; the others take rows as they are. A vector in
        the place of a word is never multiplied.
        """
        look_up = self.model.transformer.get_input_embeddings()
        few = slice(0, 64)
        with torch.inference_mode():
            rows = self.vocabulary[few].float()
            ids = torch.arange(len(rows), device=rows.device)[None]
            read = look_up(ids, out_dtype=torch.float32)[0].to(rows)
            ratio = float((read * rows).sum() / rows.square().sum().clamp_min(1e-12))
        # Only what a model means: rounding to its number format is no scale.
        return ratio if abs(ratio - 1) > 0.1 else 1.0

    def described(self) -> TextEncoder:
        """What the trainer needs to know of it; the table is where the host keeps it."""
        return TextEncoder(
            self.key,
            alias_of(self.vocabulary),
            self.token_ids,
            self.scale,
            self.word,
            padding=int(self.tokenizer.pad_token),
        )

    def token_ids(self, text: str) -> list[int]:
        """Ids of a text's tokens, without start and end."""
        ids: list[int] = self.tokenizer.tokenizer(text)["input_ids"]
        return ids[
            self.tokenizer.tokens_start : -1 if self.tokenizer.tokenizer_adds_end_token else None
        ]

    def word(self, token_id: int) -> str:
        """The text of one token, as its tokenizer spells it; its number where it cannot."""
        try:
            return str(self.tokenizer.tokenizer.decode([token_id]))
        except (AttributeError, LookupError, TypeError, ValueError):
            # Some tables have more rows than their tokenizer has tokens.
            return f"#{token_id}"

    def tokens_of(self, prompt: Mapping[str, Any]) -> list[list[tuple[Any, ...]]]:
        """This encoder's chunks in what the host's tokenizer returned for a prompt."""
        short = _short(self.name)
        chunks: list[list[tuple[Any, ...]]] = prompt[short if short in prompt else self.name]
        return chunks


def text_encoders(clip: Any) -> list[HostEncoder]:
    """The encoders of a host's CLIP that read token vectors, in the host's order.

    Raises:
        InputError: there is none.
    """
    encoders = []
    for name, tokenizer in _inner_tokenizers(clip.tokenizer).items():
        # The host calls the tokenizer of T5 in PixArt `clip_t5xxl`, but its model `t5xxl`.
        models = (getattr(clip.cond_stage_model, n, None) for n in (name, _short(name)))
        model = next((m for m in models if m is not None), None)
        if hasattr(model, "process_tokens"):
            encoders.append(HostEncoder(name, tokenizer.embedding_key, tokenizer, model))
    if not encoders:
        raise InputError(
            f"The text encoder {type(clip.cond_stage_model).__name__} does not support embeddings: "
            "load a model whose text encoder ComfyUI builds on its SDClipModel, such as SD1, SD2 "
            "or SDXL."
        )
    return encoders


def widths(clip: Any) -> dict[str, int]:
    """Encoder key -> width of the token vectors that it reads."""
    tables = {e.key: e.model.transformer.get_input_embeddings() for e in text_encoders(clip)}
    return {key: int(table.weight.shape[1]) for key, table in tables.items()}


class Placeholders:
    """Stands in for an embedding's tensor while the host tokenises: any objects, in order."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self._rows = rows
        self.shape = (len(rows), 0)

    def __getitem__(self, index: int) -> Any:
        return self._rows[index]


@contextmanager
def resolving(tokenizer: Any, lookup: Lookup) -> Iterator[None]:
    """Let the host's tokenizers ask `lookup` before they look for an embedding file."""
    original = comfy.sd1_clip.load_embed

    def load_embed(name: str, directory: Any, size: int, key: str | None = None) -> Any:
        found = lookup(name, key or "")
        return original(name, directory, size, key) if found is None else found

    # A tokenizer without embedding folders would not even ask.
    without_folders = [
        inner
        for inner in _inner_tokenizers(tokenizer).values()
        if inner.embedding_directory is None
    ]
    try:
        comfy.sd1_clip.load_embed = load_embed
        for inner in without_folders:
            inner.embedding_directory = []
        yield
    finally:
        comfy.sd1_clip.load_embed = original
        for inner in without_folders:
            inner.embedding_directory = None


def with_words(clip: Any, words: Sequence[Embedding]) -> Any:
    """A CLIP in which `embedding:name` finds these words without a file.

    The given CLIP stays as it is; the result shares its weights, and stock text encoders
    further down the graph use it like any other. An encoder for which a word has no vectors
    reads the prompt without it.

    Raises:
        InputError: a word does not fit this CLIP's encoders.
    """
    rows = {
        word.name: {
            key: Placeholders([_Place(vector) for vector in vectors])
            for key, vectors in word.rows_for(widths(clip)).items()
        }
        for word in words
    }
    tokenize = clip.tokenizer.tokenize_with_weights

    def look_up(name: str, key: str) -> Placeholders | None:
        return rows[name].get(key, Placeholders([])) if name in rows else None

    def tokenize_with_weights(*args: Any, **kwargs: Any) -> Any:
        with resolving(clip.tokenizer, look_up):
            tokens = tokenize(*args, **kwargs)
        _fill_places(tokens)
        return tokens

    clone = clip.clone()
    clone.tokenizer = copy.copy(clip.tokenizer)
    clone.tokenizer.tokenize_with_weights = tokenize_with_weights
    return clone


def tokenize_without(clip: Any, prompt: str) -> Any:
    """The host's tokens of a prompt from `as_host_prompt`, in which the word takes no place.

    Cutting the word out of the text would break the brackets around it.
    """
    with resolving(clip.tokenizer, lambda name, _key: Placeholders([]) if name == WORD else None):
        return clip.tokenize(prompt)


def as_host_prompt(prompt: str) -> str:
    """Write the placeholder in the host's notation, under the name `WORD`.

    The host reads `embedding:` only after white space, and takes all up to the next white
    space for the name: at the end of a prompt too, where templates of language models go on.
    No space is added where there is one: some tokenizers count them.
    """
    word = re.escape(PLACEHOLDER)
    spaced = re.sub(rf"(?<=\S){word}", f" {PLACEHOLDER}", prompt)
    spaced = re.sub(rf"{word}(?!\s)", f"{PLACEHOLDER} ", spaced)
    return spaced.replace(PLACEHOLDER, f"embedding:{WORD}")


@dataclass(frozen=True, eq=False)
class _Place:
    """Keeps the place of a vector while the host tokenises.

    Some of its tokenizers (Qwen-Image) compare every token with a number, which a tensor
    cannot answer with yes or no.
    """

    vector: Tensor


def _fill_places(tokens: Any) -> None:
    """Put the vectors into what the host's tokenizer returned."""
    for chunks in tokens.values():
        for chunk in chunks if isinstance(chunks, list) else ():
            for i, token in enumerate(chunk if isinstance(chunk, list) else ()):
                if isinstance(token, tuple) and isinstance(token[0], _Place):
                    chunk[i] = (token[0].vector, *token[1:])


def _short(name: str) -> str:
    return name.removeprefix("clip_")


def _inner_tokenizers(tokenizer: Any) -> dict[str, Any]:
    return {n: t for n, t in vars(tokenizer).items() if hasattr(t, "embedding_key")}
