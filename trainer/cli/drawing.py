"""Pictures that a model draws with a word, for the command line."""

from __future__ import annotations

import argparse
from io import BytesIO

import torch
from PIL import Image

from ..embeddings.embedding import Embedding
from ..methods.sampler import sample
from ..prompts import PLACEHOLDER, with_placeholder
from ..settings import Settings
from .options import known_model, load_model


def draw_word(options: argparse.Namespace, word: Embedding) -> bytes:
    """Draw pictures with a word side by side.

    Args:
        options: the model, and how many pictures of what size of which prompt, see `blending`.
        word: the word; a prompt that does not mention it gets it at its end.

    Returns:
        a PNG file.

    Raises:
        InputError: the model cannot be loaded or does not fit the word, or the size is wrong.
    """
    known = known_model(options)
    size = options.resolution or (known.resolution if known else 512)
    settings = Settings(name="drawing", resolution=size, previews=options.draw)
    machine = {"device": None, "dtype": None}
    model = load_model(argparse.Namespace(**{**vars(options), **machine}), settings)
    rows = word.rows_for({encoder.key: encoder.width for encoder in model.text_encoders})
    latent_shape = tuple(model.encode_pictures(torch.zeros(1, size, size, 3)).shape[1:])
    prompt = with_placeholder(options.prompt, word.name)
    if PLACEHOLDER not in prompt:
        prompt = f"{prompt} {PLACEHOLDER}"
    pictures = [
        sample(model, prompt, rows, latent_shape=latent_shape, seed=options.seed + number).cpu()
        for number in range(options.draw)
    ]
    file = BytesIO()
    pixels = (torch.cat(pictures, dim=1) * 255).round().byte().numpy()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
