"""The node that learns a word for a taste."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..trainer.settings import RatingSettings
from .host.execution import blocked
from .inputs import CATEGORY, EmbeddingSocket, found_as, setting_inputs
from .training import train_in_host
from .training_inputs import (
    HIDDEN,
    everyday_inputs,
    loss_output,
    model_inputs,
    name_allowed,
    report_output,
    start_input,
)

NO_POSITIVE = (
    "There is no word for the prompt: set word_for to “prompt” or “both”, or use the output "
    "negative."
)
NO_NEGATIVE = (
    "There is no word for the negative prompt: set word_for to another than “prompt”, or use the "
    "output positive."
)

_PICTURES = {
    "liked": "images",
    "disliked": "unlike_images",
    "liked_captions": "captions",
    "disliked_captions": "unlike_captions",
}
"""Inputs -> what all nodes that train call them."""


class TrainFromRatings(io.ComfyNode):
    """MODEL, CLIP, VAE, liked and disliked pictures -> a word for the prompt, or against it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host."""
        return io.Schema(
            node_id="TextualInversionTrainRatings",
            display_name="Train from Ratings",
            category=CATEGORY,
            **found_as(
                "train preferences",
                "learn my taste",
                "likes and dislikes",
                "DPO",
                "preference tuning",
                "textual inversion trainer",
            ),
            description="Learns a word that makes this model draw more of what you like, from "
            "liked and disliked pictures of the same prompts. The model itself does not change.",
            is_input_list=True,
            is_output_node=True,
            hidden=HIDDEN,
            inputs=[
                *model_inputs(),
                io.Image.Input(
                    "liked",
                    tooltip="Pictures that you like, drawn by this model, from Load Ratings. A "
                    "batch or a list.",
                ),
                io.Image.Input(
                    "disliked",
                    tooltip="Pictures of the same prompts that you dislike, likewise.",
                ),
                io.String.Input(
                    "liked_captions",
                    force_input=True,
                    tooltip="The prompts of the liked pictures: one for each, or one for all.",
                ),
                io.String.Input(
                    "disliked_captions",
                    force_input=True,
                    tooltip="The prompts of the disliked pictures, likewise.",
                ),
                *everyday_inputs(RatingSettings),
                *setting_inputs(RatingSettings, "middle"),
                *setting_inputs(RatingSettings, "end"),
                start_input(),
            ],
            outputs=[
                EmbeddingSocket.Output(
                    display_name="negative",
                    tooltip="The word for the negative prompt, for Apply Negative Embedding.",
                ),
                loss_output(),
                io.Image.Output(
                    display_name="preview",
                    tooltip="Liked pictures; what the model draws of their prompts without the "
                    "word; and the same with it.",
                ),
                io.String.Output(
                    display_name="prompt",
                    tooltip="embedding:NAME, ready for the prompt that the word is for.",
                ),
                EmbeddingSocket.Output(
                    display_name="positive",
                    tooltip="The word for the prompt, for Apply Embedding, where word_for asks for "
                    "one.",
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
        pictures = {name: inputs.pop(own) for own, name in _PICTURES.items()}
        done = train_in_host(RatingSettings, cls.hidden, **pictures, **inputs)
        first, last = done.words[0], done.words[-1]
        where = inputs["word_for"][0]
        negative = last if where != "prompt" else blocked(NO_NEGATIVE)
        positive = first if where in ("prompt", "both") else blocked(NO_POSITIVE)
        return io.NodeOutput(
            negative, done.losses, done.preview, done.prompt, positive, done.report, ui=done.shown
        )
