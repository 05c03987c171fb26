"""Nodes that make words of other words."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..trainer.embeddings.algebra import concatenate, from_text, keep_vectors, slerp, weighted_sum
from ..trainer.embeddings.embedding import Embedding
from ..trainer.embeddings.names import new_name
from ..trainer.errors import InputError
from .host.text_encoders import text_encoders
from .inputs import CATEGORY, EmbeddingSocket

MODES = {
    "weighted sum": "a straight line from the first word (amount 0) to the others' mean (1)",
    "slerp": "the same along an arc, which keeps the vectors' lengths (two words only)",
    "add": "the first plus amount times each other",
    "subtract": "the first minus amount times each other",
    "concatenate": "all vectors one after the other (amount has no effect)",
}
"""How words can be blended -> what that means."""

EMBEDDINGS_HELP = "Words for the same family of models."


class BlendEmbeddings(io.ComfyNode):
    """EMBEDDINGs -> a new one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host."""
        return io.Schema(
            node_id="TextualInversionBlend",
            display_name="Blend Embeddings",
            category=CATEGORY,
            description="Makes a new word from one or more others: mixes them, joins them, or "
            "reduces them to fewer vectors.",
            inputs=[
                io.Autogrow.Input(
                    "embeddings",
                    io.Autogrow.TemplatePrefix(
                        EmbeddingSocket.Input("embedding", tooltip=EMBEDDINGS_HELP),
                        prefix="embedding",
                        min=1,
                        max=20,
                    ),
                    tooltip=EMBEDDINGS_HELP,
                ),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default="weighted sum",
                    tooltip="; ".join(f"{mode}: {what}" for mode, what in MODES.items()) + ".",
                ),
                io.Float.Input(
                    "amount",
                    default=0.5,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="How much of the other words goes into the first.",
                ),
                io.Int.Input(
                    "keep_vectors",
                    default=0,
                    min=0,
                    max=75,
                    tooltip="Reduce the result to this many vectors: those that span its principal "
                    "components best. 0 keeps all.",
                ),
                io.String.Input("name", default="blend", tooltip="The new word."),
            ],
            outputs=[EmbeddingSocket.Output(display_name="embedding", tooltip="The new word.")],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None, embeddings: Any = None) -> bool | str:
        """Refuse an unusable name as soon as the graph is queued; the host hands in both."""
        return _name_problem(name)

    @classmethod
    def execute(
        cls,
        embeddings: dict[str, Embedding],
        mode: str,
        amount: float,
        keep_vectors: int,
        name: str,
    ) -> io.NodeOutput:
        """Blend the words."""
        words = [word for word in embeddings.values() if word is not None]
        return io.NodeOutput(blend(new_name(name), words, mode, amount, keep_vectors))


class EmbeddingFromText(io.ComfyNode):
    """A prompt's token vectors -> EMBEDDING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host."""
        return io.Schema(
            node_id="TextualInversionFromText",
            display_name="Embedding from Text",
            category=CATEGORY,
            description="Makes a word from plain text: the vectors of its tokens. Use it to start "
            "training from, to blend with other words, or to give a long description a short name.",
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder to take the vectors from."),
                io.String.Input(
                    "text",
                    default="",
                    multiline=True,
                    tooltip="Plain words; brackets and weights have no effect here.",
                ),
                io.String.Input("name", default="from-text", tooltip="The new word."),
            ],
            outputs=[EmbeddingSocket.Output(display_name="embedding", tooltip="The new word.")],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        """Refuse an unusable name as soon as the graph is queued."""
        return _name_problem(name)

    @classmethod
    def execute(cls, clip: Any, text: str, name: str) -> io.NodeOutput:
        """Take the vectors."""
        encoders = [encoder.described() for encoder in text_encoders(clip)]
        return io.NodeOutput(from_text(new_name(name), encoders, text))


def blend(name: str, words: list[Embedding], mode: str, amount: float, keep: int = 0) -> Embedding:
    """Blend words in one of `MODES`, then keep so many vectors if not 0.

    Raises:
        InputError: too few or too many words, or words that do not go together.
    """
    first, others = words[0], words[1:]
    if not others:
        if not keep:
            raise InputError(
                "Only one embedding is connected: connect another, or set keep_vectors to reduce "
                "it to fewer vectors."
            )
        blended = first
    elif mode == "weighted sum":
        share = amount / len(others)
        blended = weighted_sum(name, words, [1 - amount, *[share] * len(others)])
    elif mode == "slerp":
        if len(others) > 1:
            raise InputError("slerp blends exactly two words: chain two of these nodes.")
        blended = slerp(name, first, others[0], amount)
    elif mode in ("add", "subtract"):
        weight = amount if mode == "add" else -amount
        blended = weighted_sum(name, words, [1, *[weight] * len(others)])
    else:
        blended = concatenate(name, words)
    return keep_vectors(name, blended, keep) if keep else blended


def _name_problem(name: str | None) -> bool | str:
    """True, or why a name cannot be used; one that comes through a link is not known yet."""
    try:
        new_name("connected" if name is None else name)
    except InputError as error:
        return str(error)
    return True
