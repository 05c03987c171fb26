"""The host's text encoders: which of them read vectors in place of words, and CLIPs that do."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...trainer.embeddings.embedding import Embedding
from ...trainer.errors import InputError
from ...trainer.model import TextEncoder
from .places import (
    IN_PROMPTS,
    WORD,
    Placeholders,
    TokenVector,
    asking,
    inner_tokenizers,
    resolving,
)
from .weights import alias_of, packing, unpacked


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

    def ids_of(self, prompt: Mapping[str, Any]) -> list[Any]:
        """The tokens of all chunks: ids, and what stands in the places of a word."""
        return [token[0] for chunk in self.tokens_of(prompt) for token in chunk]


def text_encoders(clip: Any) -> list[HostEncoder]:
    """The encoders of a host's CLIP that read token vectors, in the host's order.

    A tokenizer without an encoder behind it (Anima's for T5) is none, and neither is an encoder
    whose tokenizer finds no words.

    Raises:
        InputError: there is none.
    """
    encoders = []
    reading = asking(clip.tokenizer, f" {IN_PROMPTS} ")
    for name, tokenizer in inner_tokenizers(clip.tokenizer).items():
        # The host calls the tokenizer of T5 in PixArt `clip_t5xxl`, but its model `t5xxl`.
        models = (getattr(clip.cond_stage_model, n, None) for n in (name, _short(name)))
        model = next((m for m in models if m is not None), None)
        if hasattr(model, "process_tokens") and tokenizer.embedding_key in reading:
            encoders.append(HostEncoder(name, tokenizer.embedding_key, tokenizer, model))
    if not encoders:
        raise InputError(
            f"The text encoder {type(clip.cond_stage_model).__name__} takes no vectors in "
            "place of words, so no word can be learned for it: load a model of another family, "
            "such as SDXL, Flux.1 or Z-Image."
        )
    return encoders


def widths(clip: Any) -> dict[str, int]:
    """Encoder key -> width of the token vectors that it reads."""
    tables = {e.key: e.model.transformer.get_input_embeddings() for e in text_encoders(clip)}
    return {key: int(table.weight.shape[1]) for key, table in tables.items()}


def with_words(clip: Any, words: Sequence[Embedding]) -> Any:
    """A CLIP in which `embedding:name` finds these words without a file.

    The given CLIP stays as it is; the result shares its weights, and stock text encoders
    further down the graph use it like any other. An encoder for which a word has no vectors
    reads the prompt without it. Of words of one name, one given here counts before one that the
    CLIP knows already.

    Raises:
        InputError: a word does not fit this CLIP's encoders.
    """
    rows = {
        word.name: {
            key: Placeholders([vector.as_subclass(TokenVector) for vector in vectors])
            for key, vectors in word.rows_for(widths(clip)).items()
        }
        for word in words
    }
    tokenizer, before = clip.tokenizer, clip.tokenizer.tokenize_with_weights
    if isinstance(before, _Knowing):
        tokenizer, rows = before.tokenizer, before.rows | rows
    clone = clip.clone()
    clone.tokenizer = copy.copy(tokenizer)
    clone.tokenizer.tokenize_with_weights = _Knowing(tokenizer, rows)
    return clone


@dataclass(frozen=True)
class _Knowing:
    """The `tokenize_with_weights` of a tokenizer that finds words without their files.

    Attributes:
        tokenizer: the one that does not.
        rows: name of a word -> encoder key -> its rows.
    """

    tokenizer: Any
    rows: dict[str, dict[str, Placeholders]]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with resolving(self.tokenizer, self._look_up):
            return self.tokenizer.tokenize_with_weights(*args, **kwargs)

    def _look_up(self, name: str, key: str) -> Placeholders | None:
        return self.rows[name].get(key, Placeholders([])) if name in self.rows else None


def tokenize_without(clip: Any, prompt: str) -> Any:
    """The host's tokens of a prompt from `as_host_prompt`, in which the word takes no place.

    Cutting the word out of the text would break the brackets around it.
    """
    with resolving(clip.tokenizer, lambda name, _key: Placeholders([]) if name == WORD else None):
        return clip.tokenize(prompt)


def _short(name: str) -> str:
    return name.removeprefix("clip_")
