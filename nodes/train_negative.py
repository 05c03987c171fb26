"""The node that trains a word for negative prompts."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..trainer.settings import NegativeSettings
from .host.execution import blocked
from .inputs import CATEGORY, EmbeddingSocket, found_as
from .training import train_in_host
from .training_inputs import HIDDEN, loss_output, name_allowed, report_output, training_inputs

NO_POSITIVE = "There is no positive word: only the objective “pair” learns one."


class TrainNegativeEmbedding(io.ComfyNode):
    """MODEL, CLIP, VAE and pictures -> a word for negative prompts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host."""
        return io.Schema(
            node_id="TextualInversionTrainNegative",
            display_name="Train Negative Embedding",
            category=CATEGORY,
            **found_as(
                "train negative embedding",
                "negative TI",
                "bad hands",
                "EasyNegative",
                "textual inversion trainer",
            ),
            description="Learns a word for negative prompts, like EasyNegative: from bad pictures, "
            "from good ones, or together with a word for the prompt. The model itself does not "
            "change.",
            is_input_list=True,
            is_output_node=True,
            hidden=HIDDEN,
            inputs=training_inputs(
                NegativeSettings,
                images="The pictures that the objective calls for: bad ones, good ones with "
                "captions, or pictures of the thing or style that a pair is for. A batch or a "
                "list.",
                captions="A list of texts, one per picture. Good pictures need them: what the "
                "picture shows, without the word. For the other objectives, [name] marks where the "
                "word goes.",
            ),
            outputs=[
                EmbeddingSocket.Output(
                    display_name="negative", tooltip="The word, for Apply Negative Embedding."
                ),
                loss_output(),
                io.Image.Output(
                    display_name="preview",
                    tooltip="The training pictures; what the model draws without the negative; and "
                    "the same with it.",
                ),
                io.String.Output(
                    display_name="prompt", tooltip="embedding:NAME, ready for a negative prompt."
                ),
                EmbeddingSocket.Output(
                    display_name="positive",
                    tooltip="For a pair only: the word for the prompt, for Apply Embedding.",
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
        done = train_in_host(NegativeSettings, cls.hidden, **inputs)
        *positive, negative = done.words
        other = positive[0] if positive else blocked(NO_POSITIVE)
        return io.NodeOutput(
            negative, done.losses, done.preview, done.prompt, other, done.report, ui=done.shown
        )
