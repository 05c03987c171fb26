"""Nodes that put a word into a conditioning."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..trainer.embedding import Embedding
from ..trainer.errors import InputError
from ..trainer.prompts import PLACEHOLDER, with_placeholder
from .common import CATEGORY, EmbeddingSocket
from .residency import alias_of
from .words import WORD, as_host_prompt, text_encoders, widths, with_words

STRENGTH_HELP = (
    "How much of the word reaches the prompt: 1 is the word as it was learned, 0 an empty token, "
    "0.5 half-way between; above 1 exaggerates. Unlike (word:1.2), this moves the vectors "
    "themselves before they are encoded."
)


class ApplyEmbedding(io.ComfyNode):
    """Prompt with a word held in memory -> CONDITIONING and CLIP."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host."""
        return io.Schema(
            node_id="TextualInversionApply",
            display_name="Apply Embedding",
            category=CATEGORY,
            description="Encodes a prompt with a word, saved or not. The CLIP output knows the "
            "word too: any text encoder behind it understands embedding:NAME.",
            inputs=_inputs(
                f"a photo of {PLACEHOLDER}",
                f"The prompt. {PLACEHOLDER}, embedding:NAME or the name itself is the word.",
            ),
            outputs=[io.Conditioning.Output(), io.Clip.Output()],
        )

    @classmethod
    def execute(cls, clip: Any, embedding: Embedding, text: str, strength: float) -> io.NodeOutput:
        """Encode the prompt."""
        prompt = with_placeholder(text, embedding.name)
        if PLACEHOLDER not in prompt:
            raise InputError(
                f"The text does not contain the word: write {PLACEHOLDER} where “{embedding.name}” "
                "should go."
            )
        return _encode(clip, embedding, prompt, strength)


class ApplyNegativeEmbedding(io.ComfyNode):
    """Negative prompt with a word -> CONDITIONING for the negative socket, and CLIP."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host."""
        return io.Schema(
            node_id="TextualInversionApplyNegative",
            display_name="Apply Negative Embedding",
            category=CATEGORY,
            description="Encodes a negative prompt with a word made for it, such as EasyNegative. "
            "Connect the result to the sampler's negative input.",
            inputs=_inputs(
                PLACEHOLDER,
                f"The negative prompt. {PLACEHOLDER}, embedding:NAME or the name itself is the "
                "word; if none of them occurs, the word comes first.",
            ),
            outputs=[io.Conditioning.Output(display_name="negative"), io.Clip.Output()],
        )

    @classmethod
    def execute(cls, clip: Any, embedding: Embedding, text: str, strength: float) -> io.NodeOutput:
        """Encode the negative prompt."""
        prompt = with_placeholder(text, embedding.name)
        if PLACEHOLDER not in prompt:
            prompt = f"{PLACEHOLDER}, {prompt}" if prompt.strip() else PLACEHOLDER
        return _encode(clip, embedding, prompt, strength)


def _inputs(default_text: str, text_help: str) -> list[io.Input]:
    return [
        io.Clip.Input("clip", tooltip="The text encoder, from the checkpoint loader."),
        EmbeddingSocket.Input("embedding", tooltip="The word, from Train or Load Embedding."),
        io.String.Input("text", default=default_text, multiline=True, tooltip=text_help),
        io.Float.Input("strength", default=1.0, min=0.0, max=2.0, step=0.05, tooltip=STRENGTH_HELP),
    ]


def _encode(clip: Any, embedding: Embedding, prompt: str, strength: float) -> io.NodeOutput:
    word = at_strength(clip, embedding, strength)
    tokens = with_words(clip, [word.renamed(WORD)]).tokenize(as_host_prompt(prompt))
    return io.NodeOutput(clip.encode_from_tokens_scheduled(tokens), with_words(clip, [word]))


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
                table = alias_of(encoder.vocabulary)
                empty = table[encoder.tokenizer.pad_token].float().cpu()
            moved[encoder.key] = empty + strength * (rows[encoder.key] - empty)
    return Embedding(embedding.name, moved, embedding.metadata)
