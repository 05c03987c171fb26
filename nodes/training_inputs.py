"""The inputs and outputs that the nodes that train have in common."""

from __future__ import annotations

from comfy_api.latest import io

from ..trainer.presets import HELP as PRESET_HELP
from ..trainer.presets import NONE, PRESETS
from ..trainer.settings import Settings
from .inputs import EmbeddingSocket, LossMapSocket, name_problem, setting_inputs

HIDDEN = [io.Hidden.unique_id, io.Hidden.extra_pnginfo, io.Hidden.prompt]
"""What they ask the host about themselves and their graph."""


def training_inputs(kind: type[Settings], *, images: str, captions: str) -> list[io.Input]:
    """The inputs of a node that trains on pictures.

    Args:
        kind: of its settings.
        images: tooltip of the pictures.
        captions: tooltip of their captions.
    """
    return [
        *model_inputs(),
        io.Image.Input(
            "images",
            tooltip=images,
        ),
        *everyday_inputs(kind),
        *setting_inputs(kind, "middle"),
        io.Combo.Input("preset", options=[NONE, *PRESETS], default=NONE, tooltip=PRESET_HELP),
        *setting_inputs(kind, "end"),
        io.String.Input(
            "captions",
            optional=True,
            force_input=True,
            tooltip=captions,
        ),
        io.Mask.Input(
            "masks",
            optional=True,
            tooltip="Learn only where the mask is white; one per picture. Load Image outputs "
            "transparent areas as white: put Invert Mask after it.",
        ),
        start_input(),
        io.Image.Input(
            "unlike_images",
            optional=True,
            tooltip="Pictures of what the word does not mean, such as other things of the same "
            "kind or the same places without it: what they have in common with images is not "
            "learned.",
        ),
    ]


def model_inputs() -> list[io.Input]:
    """The model to train with."""
    return [
        io.Model.Input(
            "model", tooltip="The model to train with, including any LoRAs applied to it."
        ),
        io.Clip.Input("clip", tooltip="The model's text encoder, including clip skip."),
        io.Vae.Input("vae", tooltip="The model's VAE."),
    ]


def everyday_inputs(kind: type[Settings]) -> list[io.Input]:
    """The settings that a user meets first, and what becomes of the word."""
    return [
        *setting_inputs(kind, "front"),
        io.Boolean.Input(
            "save",
            default=True,
            tooltip="Save the finished word to the embeddings folder, where every prompt can use "
            "it. Off: it exists only in this graph until Save Embedding writes it.",
        ),
        io.Boolean.Input(
            "overwrite",
            default=False,
            tooltip="Replace an existing embedding of the same name. Off: one learned from the "
            "same pictures with the same settings is used; any other is refused before training "
            "starts.",
        ),
    ]


def start_input() -> io.Input:
    """A word to go on from."""
    return EmbeddingSocket.Input(
        "start_from",
        optional=True,
        tooltip="Continue from this word instead of init_words; it keeps its number of vectors.",
    )


def loss_output() -> io.Output:
    """The output of the losses of all steps."""
    return LossMapSocket.Output(
        display_name="loss", tooltip="The loss of every step, for Plot Loss Graph."
    )


def report_output() -> io.Output:
    """The output of what is known of the word."""
    return io.String.Output(
        display_name="report",
        tooltip="A report on the word: how far it has come, loss by noise level, lengths, nearest "
        "words, similarity to the start, and anything unusual. For Preview as Text.",
    )


def name_allowed(name: list[str] | None) -> bool | str:
    """Whether a word can be called so, as soon as the graph is queued; if not, why."""
    return name_problem(name[0] if name else None)
