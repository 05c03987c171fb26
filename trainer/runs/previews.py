"""One picture that shows what a word has learned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.pictures import Picture, fit, meant
from ..embeddings.embedding import Embedding
from ..learning.chosen_objective import objective_of
from ..learning.objectives import PreviewPrompt
from ..methods.sampler import sample
from ..model import FrozenModel
from ..prompts import PLACEHOLDER, with_placeholder
from ..settings import Settings

WITHOUT_PREVIEWS = 4
"""How many training pictures are shown where nothing is drawn."""

LARGEST_CELL = 512
GAP = 8


def draw_previews(
    model: FrozenModel, pictures: Sequence[Picture], settings: Settings, embedding: Embedding
) -> list[list[Tensor]]:
    """Pictures drawn with what was learned, as many as `settings.previews` says.

    Args:
        model: the model that it was learned on.
        pictures: those it was learned from; they tell how large to draw.
        settings: those of the run.
        embedding: what the loop handed out.

    Returns:
        rows of pictures, float32 [resolution, resolution, 3] in 0..1 each, on the CPU: one row,
        and where there is something to compare with another before it, the same pictures without
        what was learned (of a pair, without the negative).
    """
    if not settings.previews:
        return []
    numbers = range(settings.previews)
    rows = [_draw(model, pictures, settings, embedding, numbers)]
    if _preview_prompts(pictures, settings)[0].plain is not None:
        rows.insert(0, _draw(model, pictures, settings, embedding, numbers, plain=True))
    return rows


def _draw(
    model: FrozenModel,
    pictures: Sequence[Picture],
    settings: Settings,
    embedding: Embedding,
    numbers: Sequence[int],
    *,
    plain: bool = False,
) -> list[Tensor]:
    first = fit(meant(pictures)[0], _square(settings), settings.alpha)[0]
    latent_shape = tuple(model.encode_pictures(first[None]).shape[1:])
    rows = embedding.rows_for({e.key: e.width for e in model.text_encoders})
    own, others = objective_of(settings).split(rows)
    prompts = _preview_prompts(pictures, settings)
    drawn = []
    for number in numbers:
        shown = prompts[number % len(prompts)]
        if plain:
            shown = PreviewPrompt(shown.plain or "")
        drawn.append(
            sample(
                model,
                shown.prompt,
                own,
                latent_shape=latent_shape,
                seed=settings.seed + number,
                negative=shown.negative,
                negative_vectors=others,
            ).cpu()
        )
    return drawn


def _preview_prompts(pictures: Sequence[Picture], settings: Settings) -> Sequence[PreviewPrompt]:
    captions = [picture.caption for picture in meant(pictures)]
    return objective_of(settings).preview_prompts(captions, settings)


def draw_word(
    model: FrozenModel, word: Embedding, prompt: str, *, side: int, seed: int, count: int = 1
) -> list[Tensor]:
    """Draw with a word that was not learned in a run, or long ago.

    Args:
        model: any.
        word: any; the model's encoders need not all have vectors in it.
        prompt: what to draw; one that does not mention the word gets it at its end.
        side: height and width in pixels.
        seed: of the first picture.
        count: how many.

    Returns:
        pictures, float32 [side, side, 3] in 0..1 each, on the CPU.

    Raises:
        InputError: the word is for other models.
    """
    rows = word.rows_for({encoder.key: encoder.width for encoder in model.text_encoders})
    latent_shape = tuple(model.encode_pictures(torch.zeros(1, side, side, 3)).shape[1:])
    prompt = with_placeholder(prompt, word.name)
    if PLACEHOLDER not in prompt:
        prompt = f"{prompt} {PLACEHOLDER}"
    return [
        sample(model, prompt, rows, latent_shape=latent_shape, seed=seed + number).cpu()
        for number in range(count)
    ]


def preview(
    model: FrozenModel, pictures: Sequence[Picture], settings: Settings, embedding: Embedding
) -> Tensor:
    """The first of `draw_previews` alone, at most `LARGEST_CELL` pixels wide and high.

    Always from the same noise, so that pictures of different steps can be compared.

    Returns:
        float32 [height, width, 3] in 0..1, on the CPU.
    """
    return as_preview(_draw(model, pictures, settings, embedding, [0])[0])


def example(pictures: Sequence[Picture], settings: Settings) -> Tensor:
    """The first picture to learn from, as training sees it, of the size of `preview`."""
    return as_preview(fit(meant(pictures)[0], _square(settings), settings.alpha)[0])


def as_preview(square: Tensor) -> Tensor:
    """A picture [side, side, 3], at most `LARGEST_CELL` pixels wide and high."""
    return _cells([square])[0].movedim(0, -1)


def preview_grid(
    pictures: Sequence[Picture], settings: Settings, rows: Sequence[Sequence[Tensor]]
) -> Tensor:
    """Training pictures in a first row, pictures drawn with what was learned below.

    Args:
        pictures: those it was learned from; as many are shown as are drawn.
        settings: those of the run.
        rows: from `draw_previews`.

    Returns:
        float32 [height, width, 3] in 0..1.
    """
    places = settings.previews or min(len(meant(pictures)), WITHOUT_PREVIEWS)
    shown = [fit(p, _square(settings), settings.alpha)[0] for p in meant(pictures)[:places]]
    return torch.cat([_row(row, places) for row in (shown, *rows)])


def _row(squares: Sequence[Tensor], places: int) -> Tensor:
    """Squares side by side on white, at most `LARGEST_CELL` high."""
    planes = _cells(squares)
    side = planes.shape[-1]
    framed = F.pad(planes, (0, GAP, 0, GAP), value=1.0)
    row = torch.cat(list(framed), dim=-1)
    return F.pad(row, (0, (side + GAP) * places - row.shape[-1]), value=1.0).movedim(0, -1)


def _square(settings: Settings) -> tuple[int, int]:
    return settings.resolution, settings.resolution


def _cells(squares: Sequence[Tensor]) -> Tensor:
    """Squares [side, side, 3] as planes [squares, 3, side, side], smaller where too large."""
    planes = torch.stack(list(squares)).movedim(-1, 1)
    if planes.shape[-1] <= LARGEST_CELL:
        return planes
    size = (LARGEST_CELL, LARGEST_CELL)
    return F.interpolate(planes, size, mode="bicubic", antialias=True).clamp(0, 1)
