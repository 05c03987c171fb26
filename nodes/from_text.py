"""The node that makes words of plain text."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..trainer.embeddings.names import new_name
from ..trainer.embeddings.text_vectors import from_text
from .host.text_encoders import text_encoders
from .inputs import CATEGORY, EmbeddingSocket, found_as, name_problem


class EmbeddingFromText(io.ComfyNode):
    """A prompt's token vectors -> EMBEDDING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host."""
        return io.Schema(
            node_id="TextualInversionFromText",
            display_name="Embedding from Text",
            category=CATEGORY,
            **found_as("text to embedding", "token vectors", "prompt to embedding"),
            description="Makes a word from plain text: the vectors of its tokens. Use it to start "
            "training from, to blend with other words, or to give a long description a short name.",
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder to take the vectors from."),
                io.String.Input(
                    "text",
                    default="",
                    multiline=True,
                    tooltip="Plain words. A weight, as in (word:1.2), multiplies the vectors of "
                    "what is in its brackets.",
                ),
                io.String.Input("name", default="from-text", tooltip="The new word."),
            ],
            outputs=[EmbeddingSocket.Output(display_name="embedding", tooltip="The new word.")],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        """Refuse an unusable name as soon as the graph is queued."""
        return name_problem(name)

    @classmethod
    def execute(cls, clip: Any, text: str, name: str) -> io.NodeOutput:
        """Take the vectors."""
        encoders = [encoder.described() for encoder in text_encoders(clip)]
        return io.NodeOutput(from_text(new_name(name), encoders, text))
