"""The node that tells what an embedding is."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..trainer.embeddings.comparison import compare
from ..trainer.embeddings.drawing import draw_embedding
from ..trainer.embeddings.embedding import Embedding
from ..trainer.embeddings.inspection import inspect
from .host.execution import show_text
from .host.text_encoders import text_encoders
from .inputs import CATEGORY, EmbeddingSocket, found_as


class InspectEmbedding(io.ComfyNode):
    """EMBEDDING -> what it is, as text and as a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host."""
        return io.Schema(
            node_id="TextualInversionInspect",
            display_name="Inspect Embedding",
            category=CATEGORY,
            **found_as(
                "embedding info",
                "embedding metadata",
                "nearest words",
                "compare embeddings",
                "TI info",
            ),
            description="Shows what a word is: which models it is for, how many vectors it has, "
            "how long they are, the nearest words, how similar its vectors are, and the notes in "
            "its file.",
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                EmbeddingSocket.Input("embedding", tooltip="The word to look at."),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="A text encoder to compare with: adds the nearest words, and how long "
                    "its own words are.",
                ),
                EmbeddingSocket.Input(
                    "other",
                    optional=True,
                    tooltip="Another word: shows how similar the two are, vector by vector.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="text", tooltip="What is shown on the node."),
                io.Image.Output(
                    display_name="picture",
                    tooltip="Each vector's values as a strip and its length as a bar.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, embedding: Embedding, clip: Any = None, other: Embedding | None = None
    ) -> io.NodeOutput:
        """Look at the word."""
        report = inspect(embedding, [e.described() for e in text_encoders(clip)] if clip else [])
        parts = [str(report)] if other is None else [str(report), str(compare(embedding, other))]
        text, picture = "\n\n".join(parts), draw_embedding(embedding, report)[None]
        show_text(text, cls.hidden.unique_id)
        shown = ui.PreviewImage(picture, cls=cls).as_dict() | {"text": [text]}
        return io.NodeOutput(text, picture, ui=shown)
