"""Pictures that a model draws with a word, for the command line."""

from __future__ import annotations

import argparse

import torch

from ..embeddings.embedding import Embedding
from ..files.thumbnails import png
from ..runs.previews import draw_word as draw_pictures
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
        InputError: the model cannot be loaded or does not fit the word, or size or seed are wrong.
    """
    known = known_model(options)
    size = options.resolution or (known.resolution if known else 512)
    settings = Settings(name="drawing", resolution=size, seed=options.seed)
    machine = {"device": None, "dtype": None}
    model = load_model(argparse.Namespace(**{**vars(options), **machine}), settings)
    pictures = draw_pictures(
        model, word, options.prompt, side=size, seed=options.seed, count=options.draw
    )
    return png(torch.cat(pictures, dim=1))
