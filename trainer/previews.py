"""One picture that shows what a word has learned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .data import Picture, fit
from .embedding import Embedding
from .model import FrozenModel
from .sampler import sample
from .settings import Settings

PROMPTS = {
    "object": (
        "a photo of a [name]",
        "a photo of a [name] on a beach",
        "an oil painting of a [name]",
        "a [name] made of wood",
    ),
    "style": (
        "a cat in the style of [name]",
        "a house in the style of [name]",
        "a portrait in the style of [name]",
        "a landscape in the style of [name]",
    ),
}
"""The word as it was trained, then in places where only a word that listens looks right."""

LARGEST_CELL = 512
GAP = 8


def preview_grid(
    model: FrozenModel, pictures: Sequence[Picture], settings: Settings, embedding: Embedding
) -> Tensor:
    """Training pictures in a first row, pictures drawn with the word in a second.

    Args:
        model: the model that the word was learned on.
        pictures: those it was learned from; as many are shown as are drawn.
        settings: those of the run. Where `previews` is 0, nothing is drawn and there is no
            second row.
        embedding: the word.

    Returns:
        float32 [height, width, 3] in 0..1.
    """
    places = settings.previews or min(len(pictures), len(PROMPTS[settings.learn]))
    shown = [fit(p, settings.resolution, settings.alpha)[0] for p in pictures[:places]]
    latent_shape = tuple(model.encode_pictures(shown[0][None]).shape[1:])
    vectors = embedding.rows_for({e.key: e.width for e in model.text_encoders})
    prompts = PROMPTS[settings.learn]
    drawn = [
        sample(
            model,
            prompts[i % len(prompts)],
            vectors,
            latent_shape=latent_shape,
            seed=settings.seed + i,
        ).cpu()
        for i in range(settings.previews)
    ]
    return torch.cat([_row(row, places) for row in (shown, drawn) if row])


def _row(squares: Sequence[Tensor], places: int) -> Tensor:
    """Squares side by side on white, at most `LARGEST_CELL` high."""
    planes = torch.stack(list(squares)).movedim(-1, 1)
    side = min(planes.shape[-1], LARGEST_CELL)
    if side != planes.shape[-1]:
        planes = F.interpolate(planes, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
    framed = F.pad(planes, (0, GAP, 0, GAP), value=1.0)
    row = torch.cat(list(framed), dim=-1)
    return F.pad(row, (0, (side + GAP) * places - row.shape[-1]), value=1.0).movedim(0, -1)
