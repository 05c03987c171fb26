"""Pictures of a word on nodes that make one, where a model is at hand."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..trainer.embeddings.embedding import Embedding
from ..trainer.errors import InputError
from ..trainer.files.thumbnails import with_thumbnail
from ..trainer.prompts import PLACEHOLDER
from ..trainer.runs.previews import draw_word
from .host.model import HostModel

PROMPT = f"a photo of {PLACEHOLDER}"
"""What is drawn if nothing else is asked for."""


def drawing_inputs() -> list[io.Input]:
    """The model to draw with, and what to draw."""
    return [
        io.Model.Input(
            "model",
            optional=True,
            tooltip="A model to draw with, to see the new word on this node. The picture goes into "
            "the word's notes. Needs clip and vae.",
        ),
        io.Vae.Input("vae", optional=True, tooltip="The VAE of the model to draw with."),
        io.String.Input(
            "prompt",
            default=PROMPT,
            optional=True,
            advanced=True,
            tooltip=f"What to draw; {PLACEHOLDER} stands for the word.",
        ),
        io.Int.Input(
            "resolution",
            default=512,
            min=64,
            max=2048,
            step=8,
            optional=True,
            advanced=True,
            tooltip="Height and width of the picture in pixels: those that the model draws best.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=2**32 - 1,
            optional=True,
            advanced=True,
            control_after_generate=False,
            tooltip="The noise that the picture is drawn from.",
        ),
    ]


def drawn(
    word: Embedding, model: Any, clip: Any, vae: Any, prompt: str, resolution: int, seed: int
) -> tuple[Embedding, Tensor | None]:
    """The word with a picture of what it draws in its notes, and the picture.

    Args:
        word: any.
        model: the host's; without one, the word stays as it is.
        clip: the host's, or None.
        vae: the host's, or None.
        prompt: see `draw_word`.
        resolution: height and width in pixels.
        seed: see `draw_word`.

    Returns:
        also float32 [1, height, width, 3], or None.

    Raises:
        InputError: something to draw with is missing, or the word is for other models.
    """
    if model is None:
        return word, None
    if clip is None or vae is None:
        raise InputError("Drawing needs clip and vae too: connect them, or disconnect model.")
    with torch.inference_mode(False), HostModel(model, clip, vae, resolution=resolution) as frozen:
        (picture,) = draw_word(frozen, word, prompt, side=resolution, seed=seed)
    return with_thumbnail(word, picture), picture[None]
