"""From the pictures and captions that a user has to what a step draws from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..model import FrozenModel
from ..settings import Settings
from .buckets import bucket_size
from .captions import PromptsOf, prompts_of
from .pictures import Picture, fit, flatten, refuse_unusable
from .randomness import Stream, generator
from .zoom import FAR, NEAR, farther, nearer

ZOOMS = 2
"""How many nearer pictures are made of each, and how many farther ones."""


@dataclass(frozen=True)
class View:
    """One way in which a picture is trained on: as it is, mirrored, nearer, farther.

    Attributes:
        latents: [channels, h, w], encoded once.
        mask: weight of each place, [1, h, w], or None.
        prompts: from which one is drawn at each step.
        weight: how often it is drawn, relative to the picture's other views.
    """

    latents: Tensor
    mask: Tensor | None
    prompts: Sequence[str]
    weight: float


@dataclass(frozen=True)
class TrainingSet:
    """Pictures as the loop uses them: for each its views, all of one shape, the plain one first."""

    pictures: Sequence[Sequence[View]]

    @property
    def prompts(self) -> list[list[str]]:
        """For each picture, all prompts that can be drawn."""
        return [
            list(dict.fromkeys(prompt for view in views for prompt in view.prompts))
            for views in self.pictures
        ]

    @property
    def buckets(self) -> list[list[int]]:
        """The numbers of the pictures of each shape."""
        found: dict[torch.Size, list[int]] = {}
        for number, views in enumerate(self.pictures):
            found.setdefault(views[0].latents.shape, []).append(number)
        return list(found.values())


def encode(
    model: FrozenModel,
    pictures: Sequence[Picture],
    settings: Settings,
    prompts_of: PromptsOf = prompts_of,
) -> TrainingSet:
    """Make pictures ready for the loop: fitted, encoded once, each with its prompts.

    Raises:
        InputError: no pictures, an empty mask, or a caption that cannot be learned from.
    """
    if not pictures:
        raise InputError("There are no pictures to learn from: connect 3 to 10 of them.")
    # All of them before the first is encoded, so that a bad one costs no time.
    prompts = [prompts_of(p.caption, settings, number) for number, p in enumerate(pictures)]
    for picture in pictures:
        refuse_unusable(picture, size_of(picture, settings), settings.alpha)
    kept = _Shelves(len(pictures))
    return TrainingSet(
        [
            [kept.put(_encode(model, view)) for view in _views(picture, said, settings, number)]
            for number, (picture, said) in enumerate(zip(pictures, prompts, strict=True))
        ]
    )


class _Shelves:
    """Latents of one shape side by side, in memory that is asked for some pictures at a time.

    Pixels in float32 take far more of it, one picture after the other. Latents made among them
    would leave gaps, into which the pixels of the next picture do not fit.

    Args:
        size: of a shelf, in latents.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._free: dict[torch.Size, list[Tensor]] = {}

    def put(self, view: View) -> View:
        """The same view, with its latents on a shelf."""
        shape = view.latents.shape
        if not self._free.get(shape):
            self._free[shape] = list(view.latents.new_empty(self._size, *shape))
        return replace(view, latents=self._free[shape].pop().copy_(view.latents))


@dataclass(frozen=True)
class _Drawn:
    """A view before it is encoded: pixels [height, width, 3], mask [height, width] or None."""

    pixels: Tensor
    mask: Tensor | None
    prompts: Sequence[str]
    weight: float


def size_of(picture: Picture, settings: Settings) -> tuple[int, int]:
    """The height and width in pixels with which a picture is trained on."""
    height, width = picture.pixels.shape[:2]
    return size_for((height, width), settings)


def size_for(size: tuple[int, int], settings: Settings) -> tuple[int, int]:
    """The height and width in pixels with which a picture of this size is trained on."""
    if settings.buckets:
        return bucket_size(*size, settings.resolution)
    return settings.resolution, settings.resolution


def _views(
    original: Picture, prompts: Sequence[str], settings: Settings, number: int
) -> Iterator[_Drawn]:
    """The plain view, then mirrored, nearer and farther, as far as asked for."""
    picture = flatten(original, settings.alpha)
    size = size_of(picture, settings)
    plain = _Drawn(*fit(picture, size), prompts, 1 - settings.zoom)
    yield from _mirrored(plain, settings)
    if not settings.zoom:
        return
    rng = generator(settings.seed, Stream.ZOOM, number)
    for words, draw in [(NEAR, nearer), (FAR, farther)] * ZOOMS:
        fitted = draw(picture, size, rng)
        if fitted is not None:
            said = [f"{prompt}, {words}" for prompt in plain.prompts]
            yield from _mirrored(_Drawn(*fitted, said, settings.zoom / (2 * ZOOMS)), settings)


def _mirrored(one: _Drawn, settings: Settings) -> Iterator[_Drawn]:
    if not settings.flip:
        yield one
        return
    weight = one.weight / 2
    mask = None if one.mask is None else one.mask.flip(1)
    yield _Drawn(one.pixels, one.mask, one.prompts, weight)
    yield _Drawn(one.pixels.flip(1), mask, one.prompts, weight)


def _encode(model: FrozenModel, one: _Drawn) -> View:
    # One by one: the encoder needs far more memory for a picture than the result takes.
    latents = model.encode_pictures(one.pixels[None]).float()
    mask = one.mask
    if mask is not None:
        mask = F.interpolate(mask[None, None], latents.shape[-2:], mode="area")[0]
    return View(latents[0], mask, one.prompts, one.weight)
