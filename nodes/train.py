"""The node that trains a word."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..trainer.settings import Settings
from .inputs import CATEGORY, EmbeddingSocket, found_as
from .training import train_in_host
from .training_inputs import HIDDEN, loss_output, name_allowed, report_output, training_inputs


class TrainTextualInversion(io.ComfyNode):
    """MODEL, CLIP, VAE and pictures -> a new word."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host."""
        return io.Schema(
            node_id="TextualInversionTrain",
            display_name="Train Textual Inversion",
            category=CATEGORY,
            **found_as(
                "train embedding",
                "train concept",
                "train style",
                "train TI",
                "textual inversion trainer",
                "learn a word",
                "finetune",
                "DreamBooth alternative",
                "LoRA alternative",
            ),
            description="Learns a new word from a few pictures with the model that the graph has "
            "loaded. The model itself does not change.",
            is_input_list=True,
            is_output_node=True,
            hidden=HIDDEN,
            inputs=training_inputs(
                Settings,
                images="3 to 10 pictures of the same thing or style, as a batch or a list.",
                captions="A list of texts, one per picture, with [name] where the picture shows "
                "the thing. Without captions, the prompts for object or style are used.",
            ),
            outputs=[
                EmbeddingSocket.Output(
                    display_name="embedding", tooltip="The word, for Apply or Save Embedding."
                ),
                loss_output(),
                io.Image.Output(
                    display_name="preview",
                    tooltip="The training pictures, and what the model draws with the word.",
                ),
                io.String.Output(
                    display_name="prompt", tooltip="embedding:NAME, ready for a prompt."
                ),
                report_output(),
            ],
        )

    @classmethod
    def validate_inputs(cls, name: list[str] | None = None) -> bool | str:
        """Refuse an unusable name as soon as the graph is queued."""
        return name_allowed(name)

    @classmethod
    def execute(cls, **inputs: list[Any]) -> io.NodeOutput:
        """Train, draw previews and save; what was learned survives an interrupt or an error."""
        done = train_in_host(Settings, cls.hidden, **inputs)
        (word,) = done.words
        return io.NodeOutput(
            word, done.losses, done.preview, done.prompt, done.report, ui=done.shown
        )
