"""A picture of an embedding: its values as coloured strips, its lengths as bars."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from .embedding import Embedding
from .inspection import EncoderReport, Report

WIDTH = 768
ROW, GAP, HEAD = 18, 4, 26
LABEL, STRIP, BAR = 36, 512, 150
MAX_ROWS = 75
"""As many vectors as a prompt takes; a picture of more would be too high to look at."""

INK, PAPER, FAINT, BAND = (40, 40, 44), (255, 255, 255), (226, 226, 230), (120, 190, 120)
LESS, MORE = (33, 90, 168), (190, 48, 40)


def draw_embedding(embedding: Embedding, report: Report) -> Tensor:
    """Draw an embedding.

    Each vector is a strip of its values, blue below zero, red above, and a bar for its length.
    The green band is where most words of the vocabulary end, if the report knows it.

    Args:
        embedding: the word.
        report: from `inspect` for the same word.

    Returns:
        float32 [height, width, 3] in 0..1.
    """
    shown = [(e, embedding.vectors[e.key][:MAX_ROWS]) for e in report.encoders]
    height = sum(HEAD + len(rows) * (ROW + GAP) for _, rows in shown) + GAP
    image = Image.new("RGB", (WIDTH, height), PAPER)
    draw = ImageDraw.Draw(image)
    top = 0
    for encoder, rows in shown:
        more = f", the first {len(rows)}" if len(rows) < len(encoder.rows) else ""
        text = f"{encoder.key}   {len(encoder.rows)} x {encoder.width}{more}"
        draw.text((GAP, top + 7), text, fill=INK)
        draw.text((LABEL + STRIP + 2 * GAP, top + 7), "length", fill=INK)
        top += HEAD
        strips = _strips(rows)
        longest = _longest(encoder)
        for number, strip in enumerate(strips, 1):
            draw.text((GAP, top + 3), str(number), fill=INK)
            image.paste(Image.fromarray(strip), (LABEL, top))
            _bar(draw, top, encoder, encoder.rows[number - 1].length, longest)
            top += ROW + GAP
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)


def _strips(rows: Tensor) -> Sequence[NDArray[np.uint8]]:
    """Every row's values as colours, [ROW, STRIP, 3], full from three deviations of it on."""
    scale = 3 * rows.square().mean(dim=1, keepdim=True).sqrt().clamp_min(1e-12)
    places = torch.arange(STRIP) * rows.shape[1] // STRIP
    values = (rows[:, places] / scale).clamp(-1, 1)[..., None].numpy()
    ends = np.where(values < 0, np.array(LESS), np.array(MORE))
    colours = np.array(PAPER) + np.abs(values) * (ends - np.array(PAPER))
    return [np.repeat(line[None], ROW, 0) for line in colours.round().astype(np.uint8)]


def _longest(encoder: EncoderReport) -> float:
    lengths = [row.length for row in encoder.rows[:MAX_ROWS]]
    return 1.05 * max(*lengths, encoder.usual.high if encoder.usual else 0.0, 1e-6)


def _bar(
    draw: ImageDraw.ImageDraw, top: int, encoder: EncoderReport, length: float, longest: float
) -> None:
    left, room = LABEL + STRIP + 2 * GAP, BAR
    draw.rectangle((left, top, left + room, top + ROW - 1), fill=FAINT)
    if encoder.usual:
        low, high = (left + room * v / longest for v in (encoder.usual.low, encoder.usual.high))
        draw.rectangle((low, top, max(high, low + 1), top + ROW - 1), fill=BAND)
    end = left + room * length / longest
    draw.rectangle((left, top + 6, max(end, left + 1), top + ROW - 7), fill=INK)
    draw.text((left + room + GAP, top + 3), f"{length:.2f}", fill=INK)
