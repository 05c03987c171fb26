"""Nodes that read and write embedding files."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import torch
from comfy_api.latest import io, ui
from PIL import Image

from ..trainer.embeddings.embedding import Embedding
from ..trainer.embeddings.names import new_name
from ..trainer.files.writing import FORMATS
from .host import library
from .inputs import CATEGORY, EmbeddingSocket, found_as, name_problem


class SaveEmbedding(io.ComfyNode):
    """EMBEDDING -> file in the embeddings folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host."""
        return io.Schema(
            node_id="TextualInversionSave",
            display_name="Save Embedding",
            category=CATEGORY,
            **found_as(
                "save TI", "export embedding", "write textual inversion", "convert embedding"
            ),
            description="Saves a word to the embeddings folder, where every prompt can use it as "
            "embedding:NAME.",
            is_output_node=True,
            inputs=[
                EmbeddingSocket.Input("embedding", tooltip="The word to save."),
                io.String.Input(
                    "name",
                    default="",
                    tooltip="The word, and the name of the file. Empty keeps the name that the "
                    "word was trained or loaded with.",
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default="safetensors",
                    tooltip="Which program will read the file. "
                    + " ".join(f"{key}: {form.help}." for key, form in FORMATS.items()),
                ),
                io.Boolean.Input(
                    "overwrite",
                    default=False,
                    tooltip="Replace an existing embedding of the same name. Off: saving is "
                    "refused, unless it is the same word.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="prompt", tooltip="embedding:NAME, ready for a prompt."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        """Refuse an unusable name as soon as the graph is queued; an empty one is the word's."""
        return name_problem(name) if name and name.strip() else True

    @classmethod
    def execute(
        cls, embedding: Embedding, name: str, format: str, overwrite: bool
    ) -> io.NodeOutput:
        """Write the file."""
        named = embedding.renamed(new_name(name)) if name.strip() else embedding
        path = library.save(named, format, overwrite=overwrite)
        return io.NodeOutput(f"embedding:{named.name}", ui={"text": [f"Saved {path.name}"]})


class LoadEmbedding(io.ComfyNode):
    """File in the embeddings folder -> EMBEDDING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host; the list of files is made anew each time."""
        return io.Schema(
            node_id="TextualInversionLoad",
            display_name="Load Embedding",
            category=CATEGORY,
            **found_as("load TI", "embedding loader", "load textual inversion", "open embedding"),
            description="Reads a word from the embeddings folder, whichever tool made it.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=library.list_files() or ["no embeddings yet"],
                    tooltip="A file in the embeddings folder or its subfolders. Press R to refresh "
                    "the list.",
                ),
                io.String.Input(
                    "word",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Which word to load if the file holds several, as a LoRA can. "
                    "Otherwise, a name of your own for the word. Usually empty.",
                ),
            ],
            outputs=[EmbeddingSocket.Output(display_name="embedding", tooltip="The word.")],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str | None, word: str | None = "") -> str:
        """Notice a changed file under the same name."""
        return library.fingerprint(file)

    @classmethod
    def execute(cls, file: str, word: str = "") -> io.NodeOutput:
        """Read the file, and show its preview picture on the node if there is one."""
        embedding, picture = library.read(file, word.strip()), library.preview(file)
        if picture is None:
            return io.NodeOutput(embedding)
        pixels = np.asarray(Image.open(BytesIO(picture)), dtype=np.float32) / 255
        shown = ui.PreviewImage(torch.from_numpy(pixels)[None], cls=cls)
        return io.NodeOutput(embedding, ui=shown)
