"""Nodes that put a word into a conditioning."""

from __future__ import annotations

import logging
from typing import Any

import torch
from comfy_api.latest import io

from ..trainer.embeddings.embedding import Embedding
from ..trainer.embeddings.metadata import is_clearly_positive
from ..trainer.errors import InputError
from ..trainer.prompts import PLACEHOLDER, with_placeholder
from .host import library
from .host.execution import show_text
from .host.places import WORD, as_host_prompt
from .host.text_encoders import text_encoders, tokenize_without, widths, with_words
from .inputs import CATEGORY, found_as
from .word_inputs import CLIP_OUTPUT, CONNECTED, chosen, fingerprint, word_inputs


class ApplyEmbedding(io.ComfyNode):
    """Prompt with a word held in memory -> CONDITIONING and CLIP."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host."""
        return io.Schema(
            node_id="TextualInversionApply",
            display_name="Apply Embedding",
            category=CATEGORY,
            **found_as("use embedding", "prompt with embedding", "apply TI", "embedding strength"),
            description="Encodes a prompt with a word, saved or not. The CLIP output knows the "
            "word too: any text encoder after it understands embedding:NAME.",
            hidden=[io.Hidden.unique_id],
            inputs=[
                *word_inputs(
                    f"a photo of {PLACEHOLDER}",
                    f"The prompt. Write {PLACEHOLDER}, embedding:NAME or the name itself for the "
                    "word. Other words can stand beside it as embedding:NAME: those in the "
                    "embeddings folder, and those of the Apply nodes before this one.",
                    library.list_files(),
                    "",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    tooltip="The encoded prompt, for the sampler's positive input."
                ),
                CLIP_OUTPUT,
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str | None = CONNECTED, **_others: Any) -> str:
        """Notice a changed file under the same name."""
        return fingerprint(file)

    @classmethod
    def execute(
        cls,
        clip: Any,
        text: str,
        strength: float,
        embedding: Embedding | None = None,
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        file: str = CONNECTED,
    ) -> io.NodeOutput:
        """Encode the prompt."""
        word = chosen(embedding, file)
        prompt = with_placeholder(text, word.name)
        if PLACEHOLDER not in prompt:
            raise InputError(
                f"The text does not contain the word: write {PLACEHOLDER} where “{word.name}” "
                "should go."
            )
        _tell_what_does_not_count(clip, word, cls)
        return _encode(clip, word, prompt, strength, (start_percent, end_percent))


class ApplyNegativeEmbedding(io.ComfyNode):
    """Negative prompt with a word -> CONDITIONING for the negative socket, and CLIP."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host."""
        return io.Schema(
            node_id="TextualInversionApplyNegative",
            display_name="Apply Negative Embedding",
            category=CATEGORY,
            **found_as("negative TI", "EasyNegative", "bad hands", "use negative embedding"),
            description="Encodes a negative prompt with a word made for it, such as EasyNegative. "
            "Connect the result to the sampler's negative input.",
            hidden=[io.Hidden.unique_id],
            inputs=[
                *word_inputs(
                    PLACEHOLDER,
                    f"The negative prompt. Write {PLACEHOLDER}, embedding:NAME or the name itself "
                    "for the word; if the text has none of these, the word is put first.",
                    library.negatives_first(),
                    " Those known to be negatives come first.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="negative",
                    tooltip="The encoded prompt, for the sampler's negative input.",
                ),
                CLIP_OUTPUT,
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str | None = CONNECTED, **_others: Any) -> str:
        """Notice a changed file under the same name."""
        return fingerprint(file)

    @classmethod
    def execute(
        cls,
        clip: Any,
        text: str,
        strength: float,
        embedding: Embedding | None = None,
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        file: str = CONNECTED,
    ) -> io.NodeOutput:
        """Encode the negative prompt."""
        word = chosen(embedding, file)
        if is_clearly_positive(word.name, word.metadata):
            raise InputError(
                f"“{word.name}” was made to draw something, and as a negative would keep the model "
                "from drawing it: use Apply Embedding. If that is what you want, connect the "
                "CONDITIONING of Apply Embedding to the sampler's negative input."
            )
        prompt = with_placeholder(text, word.name)
        if PLACEHOLDER not in prompt:
            prompt = f"{PLACEHOLDER}, {prompt}" if prompt.strip() else PLACEHOLDER
        _tell_what_does_not_count(clip, word, cls)
        return _encode(clip, word, prompt, strength, (start_percent, end_percent))


def _tell_what_does_not_count(clip: Any, word: Embedding, node: type[io.ComfyNode]) -> None:
    """Say on the node and in the log if a word and this CLIP have only some encoders in common.

    Raises:
        InputError: they have none.
    """
    wanted = widths(clip)
    rows = word.rows_for(wanted)
    left_out = [
        f"its vectors for {key} ({part.shape[1]} wide) are left out"
        for key, part in word.vectors.items()
        if not any(part is used for used in rows.values())
    ]
    without = [
        f"the model's {key} ({width} wide) reads the prompt without it"
        for key, width in wanted.items()
        if key not in rows
    ]
    if left_out or without:
        text = (
            f"“{word.name}” is for {word.family} and works only in part here: "
            f"{'; '.join([*left_out, *without])}."
        )
        logging.getLogger(__name__).warning(text)
        show_text(text, node.hidden.unique_id)


def _encode(
    clip: Any, embedding: Embedding, prompt: str, strength: float, when: tuple[float, float]
) -> io.NodeOutput:
    """Conditioning with the word for a part of the sampling, without it for the rest.

    Entries are limited as the host's ConditioningSetTimestepRange does it.
    """
    start, end = when
    if start >= end:
        raise InputError(
            f"The word would never be used: start_percent ({start:g}) must be below end_percent "
            f"({end:g})."
        )
    word = at_strength(clip, embedding, strength)
    known = with_words(clip, [word])
    text = as_host_prompt(prompt, clip.tokenizer)
    tokens = with_words(clip, [word.renamed(WORD)]).tokenize(text)
    if when == (0, 1):
        return io.NodeOutput(clip.encode_from_tokens_scheduled(tokens), known)
    conditioning = _between(clip, tokens, start, end)
    without = tokenize_without(clip, text)
    for first, last in ((0.0, start), (end, 1.0)):
        if first < last:
            conditioning += _between(clip, without, first, last)
    return io.NodeOutput(conditioning, known)


def _between(clip: Any, tokens: Any, start: float, end: float) -> list[Any]:
    limits = {"start_percent": start, "end_percent": end}
    entries: list[Any] = clip.encode_from_tokens_scheduled(tokens, add_dict=limits)
    return entries


def at_strength(clip: Any, embedding: Embedding, strength: float) -> Embedding:
    """The word moved along the straight line between an empty token and itself.

    The empty token is the one with which the encoder's tokenizer fills up a prompt.

    Raises:
        InputError: the word does not fit this CLIP.
    """
    rows = embedding.rows_for(widths(clip))
    if strength == 1:
        return Embedding(embedding.name, rows, embedding.metadata)
    moved = {}
    for encoder in text_encoders(clip):
        if encoder.key in rows:
            with torch.inference_mode(False):
                described = encoder.described()
                empty = described.rows([described.padding])[0]
            moved[encoder.key] = empty + strength * (rows[encoder.key] - empty)
    return Embedding(embedding.name, moved, embedding.metadata)
