"""What a user may want to know before the first step, or soon after; nothing here stops a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..embeddings.embedding import Embedding
from ..model import TextEncoder
from ..prompts import FILEWORDS, PLACEHOLDER, weighted_groups
from ..settings import Settings
from .captions import PromptsOf, clean_caption, prompts_of, usable_templates
from .pictures import Picture, fit, flatten, meant
from .training_set import size_of

WINDOW = 75
"""Tokens that CLIP reads at once, start and end not counted."""

ENLARGED = 1.2
"""Pictures that have to be enlarged more than this are too small."""

SHARP = 0.17
"""Below this a picture is blurred: at 512 pixels photos and paintings have 0.38 and more, with a
blur of 2 pixels (Gaussian) 0.14 to 0.18, of 3 pixels 0.11 to 0.14."""

FLAT = 0.04
"""Root mean square of the details of a picture that has none to judge."""

SMALL_MASK = 0.02
"""Share of the picture below which a mask shows little."""

SAME = 0.1
"""Difference of two pictures, relative to those within them, below which they are the same."""

SHOWN = 3
"""How many pictures a sentence names."""

_THUMBNAIL = 16


def checks(
    pictures: Sequence[Picture],
    settings: Settings,
    encoders: Sequence[TextEncoder] = (),
    start: Embedding | None = None,
    prompts: PromptsOf = prompts_of,
) -> list[str]:
    """Look at what a run is about to learn from.

    Args:
        pictures: those to learn from.
        settings: those of the run.
        encoders: of the model; without them the lengths of prompts are not looked at.
        start: an embedding that the run goes on from.
        prompts: what the objective makes of a caption.

    Returns:
        sentences, each of which says what is unusual and what can be done.

    Raises:
        InputError: a picture that is none, or a prompt with an impossible weight, as the run itself
            would.
    """
    count = start.num_vectors if start else settings.num_vectors
    return [
        *_captions(meant(pictures), settings, prompts),
        *_windows(meant(pictures), settings, encoders, count, prompts),
        *_doubles(pictures),
        *_pixels(pictures, settings),
        *_masks(pictures, settings),
    ]


def expectation(seconds: Sequence[float], steps: Sequence[int], device: torch.device) -> str:
    """What a run will take, from the pace of its first steps.

    Args:
        seconds: for all steps, at least and at most.
        steps: of the run, at least and at most.
        device: where it runs; of a GPU, the peak of the process so far is told.
    """
    clock = "a second" if seconds[1] < 1.5 else time_range(seconds[0], seconds[1])
    memory = ""
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) / 1e9
        memory = f" and at most {peak:.1f} GB of GPU memory"
    count = f"{steps[0]}" if steps[0] == steps[1] else f"{steps[0]} to {steps[1]}"
    return f"{count} steps take about {clock}{memory}."


def time_range(least: float, most: float, units: Sequence[str] = ("seconds", "minutes")) -> str:
    """Two durations in words, such as “40 seconds”, “2 to 7 minutes” or “8 seconds to 7 minutes”.

    Args:
        least: in seconds.
        most: in seconds; from a minute and a half on told in minutes.
        units: what seconds and minutes are called.
    """
    (first, one), (last, other) = (
        (round(seconds / (60 if seconds >= 90 else 1)), units[seconds >= 90])
        for seconds in (least, most)
    )
    if one != other:
        return f"{first} {one} to {last} {other}"
    return f"{last} {other}" if first == last else f"{first} to {last} {other}"


def _captions(pictures: Sequence[Picture], settings: Settings, prompts: PromptsOf) -> Iterator[str]:
    wordless, unfilled = [], []
    example = ""
    for number, picture in enumerate(pictures):
        text = clean_caption(picture.caption, settings.name)
        first = prompts(picture.caption, settings, number)[0]
        # Where the objective wants no word in the prompts, a caption needs none either.
        if usable_templates(text, settings) or PLACEHOLDER not in first:
            continue
        if settings.templates.strip():
            unfilled.append(picture.source)
        elif text and PLACEHOLDER not in text:
            wordless.append(picture.source)
            example = example or first
    if wordless:
        yield (
            f"Captions without the word: {_list(wordless)}. They are put into a standard prompt, "
            f"the first as “{example}”. If that does not fit, write {PLACEHOLDER} where the "
            "picture shows what is to be learned."
        )
    if unfilled:
        yield (
            f"Pictures for which no template gives a prompt with the word: {_list(unfilled)}. "
            f"Standard prompts are used for them. Add a template without {FILEWORDS}, or captions."
        )


def _windows(
    pictures: Sequence[Picture],
    settings: Settings,
    encoders: Sequence[TextEncoder],
    num_vectors: int,
    prompts: PromptsOf,
) -> Iterator[str]:
    # The encoders of CLIP split a text in the same way; others have no such window.
    clip = next((encoder for encoder in encoders if encoder.key.startswith("clip")), None)
    if clip is None:
        return
    too_long = []
    for number, picture in enumerate(pictures):
        longest = max(prompts(picture.caption, settings, number), key=len)
        groups = weighted_groups(longest, clip.token_ids)
        tokens = sum(num_vectors if group is None else len(group) for group, _ in groups)
        if tokens > WINDOW:
            too_long.append(f"{picture.source} ({tokens} tokens)")
    if too_long:
        yield (
            f"Prompts longer than the {WINDOW} tokens that the text encoder reads at once: "
            f"{_list(too_long)}. They are read in parts, and a part without the word teaches "
            "little. Shorten the captions."
        )


def _doubles(pictures: Sequence[Picture]) -> Iterator[str]:
    """Pairs of the same picture, also turned, mirrored or compressed anew."""
    if len(pictures) < 2:
        return
    size = (_THUMBNAIL, _THUMBNAIL)
    small = torch.stack([fit(replace(p, mask=None), size)[0] for p in pictures])
    # The differences that count are small against those within the picture.
    within = (small - small.mean((1, 2), keepdim=True)).square().mean((1, 2, 3)).sqrt()
    turned = torch.stack([t for k in range(4) for t in _with_mirrored(small.rot90(k, (1, 2)))])
    pairs = []
    for i in range(1, len(pictures)):
        apart = (turned[:, :i] - small[i]).square().mean((2, 3, 4)).sqrt().amin(0)
        if apart.min() < SAME * max(float(within[i]), FLAT):
            pairs.append(f"{pictures[int(apart.argmin())].source} = {pictures[i].source}")
    if pairs:
        yield (
            f"The same picture, or nearly, perhaps turned or mirrored: {_list(pairs)}. One of them "
            "is enough; another view would teach more."
        )


def _with_mirrored(small: Tensor) -> tuple[Tensor, Tensor]:
    return small, small.flip(2)


def _pixels(pictures: Sequence[Picture], settings: Settings) -> Iterator[str]:
    small, blurred = [], []
    for picture in pictures:
        size = size_of(picture, settings)
        height, width = picture.pixels.shape[:2]
        if max(size[0] / height, size[1] / width) > ENLARGED:
            small.append(f"{picture.source} ({width} x {height})")
        elif sharpness(fit(replace(picture, mask=None), size)[0]) < SHARP:
            blurred.append(picture.source)
    if small:
        yield (
            f"Smaller than the resolution of {settings.resolution}: {_list(small)}. Enlarged, "
            "they are blurred, and the word learns that. Use larger pictures or a lower resolution."
        )
    if blurred:
        yield (
            f"Blurred at the resolution of {settings.resolution}: {_list(blurred)}. The word will "
            "learn that too. Use sharper pictures, or say so in their captions."
        )


def sharpness(pixels: Tensor) -> float:
    """How much of the detail of a picture [height, width, 3] is fine, where there is most.

    The finest details (lost at half the size) against all smaller than eight pixels; 1 for a
    picture without details. What is out of focus behind something sharp does not count.
    """
    grey = pixels.mean(-1)[None, None]
    tile = max(8, grey.shape[-2] // 16)
    finest, smaller = (
        F.avg_pool2d((grey - _coarse(grey, scale)).square(), tile).flatten() for scale in (2, 8)
    )
    strongest = max(1, len(finest) // 20)
    fine, all_of_it = (float(e.topk(strongest).values.mean().sqrt()) for e in (finest, smaller))
    return fine / all_of_it if all_of_it > FLAT else 1.0


def _coarse(plane: Tensor, scale: int) -> Tensor:
    size = tuple(max(1, side // scale) for side in plane.shape[-2:])
    less = F.interpolate(plane, size, mode="bilinear", antialias=True)
    return F.interpolate(less, plane.shape[-2:], mode="bilinear")


def _masks(pictures: Sequence[Picture], settings: Settings) -> Iterator[str]:
    small = []
    for picture in pictures:
        mask = flatten(picture, settings.alpha).mask
        if mask is not None and mask.mean() < SMALL_MASK:
            small.append(f"{picture.source} ({float(mask.mean()):.1%})")
    if small:
        yield (
            f"Masks that leave little of the picture to learn from: {_list(small)}. Crop the "
            "pictures to what is to be learned."
        )


def _list(names: Sequence[str]) -> str:
    if len(names) > SHOWN:
        return f"{', '.join(names[:SHOWN])} and {len(names) - SHOWN} more"
    return ", ".join(names)
