"""Pictures cut and scaled to what the model is trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError

EMPTY = 0.01
"""A mask that is nowhere above this has nothing to learn from under it."""


@dataclass(frozen=True)
class Picture:
    """One training picture.

    Attributes:
        pixels: float32 [height, width, 3 or 4] in 0..1, or uint8 in 0..255; a fourth channel is
            opacity.
        caption: words for it, or None to use templates.
        mask: [height, width] of the same kinds, 1 (or 255) where to learn and 0 where not, or
            None.
        source: what to call it in messages.
        unlike: whether it shows what the word does *not* mean.
    """

    pixels: Tensor
    caption: str | None = None
    mask: Tensor | None = None
    source: str = "a picture"
    unlike: bool = False


def meant(pictures: Sequence[Picture]) -> list[Picture]:
    """Those that show what the word means."""
    return [picture for picture in pictures if not picture.unlike]


def as_unlike(picture: Picture) -> Picture:
    """The same picture as one of what the word does not mean."""
    return replace(picture, source=f"unlike {picture.source}", unlike=True)


def fit(
    picture: Picture, size: tuple[int, int], alpha: str = "flatten"
) -> tuple[Tensor, Tensor | None]:
    """Scale a picture to cover a rectangle and crop its middle.

    Args:
        picture: of any size.
        size: height and width of the rectangle in pixels.
        alpha: `flatten` or `mask`, see `Settings.alpha`.

    Returns:
        pixels [height, width, 3] in 0..1 and the mask [height, width] or None.

    Raises:
        InputError: no picture, or nothing of it is left to learn from under its mask.
    """
    flat = flatten(picture, alpha)
    pixels = _cover(flat.pixels.movedim(-1, 0), size, "bicubic").movedim(0, -1).contiguous()
    if flat.mask is None:
        return pixels, None
    mask = _cover(flat.mask[None], size, "bilinear")[0]
    if mask.max() <= EMPTY:
        raise InputError(
            f"The mask of {picture.source} is empty, so there is nothing to learn: white must "
            "cover what is to be learned (Load Image outputs transparent areas as white: put "
            "Invert Mask after it)."
        )
    return pixels, mask


def refuse_unusable(picture: Picture, size: tuple[int, int], alpha: str) -> None:
    """Find out what `fit` would find wrong with a picture; see there."""
    if picture.mask is not None or picture.pixels.shape[-1] != 3:
        fit(picture, size, alpha)
    else:
        flatten(picture, alpha)


def flatten(picture: Picture, alpha: str) -> Picture:
    """The picture with three channels, transparency on white, and a mask of its own size.

    Raises:
        InputError: not the shape of a picture.
    """
    pixels, mask = in_floats(picture.pixels), picture.mask
    if pixels.ndim != 3 or pixels.shape[-1] not in (3, 4) or not pixels.numel():
        raise InputError(
            f"{picture.source} has the shape {list(pixels.shape)}: pictures must be "
            "[height, width, 3 or 4 channels]."
        )
    size = pixels.shape[:2]
    if mask is not None:
        mask = in_floats(mask)
        if mask.shape != size:
            mask = F.interpolate(mask[None, None], tuple(size), mode="bilinear")[0, 0]
    if pixels.shape[-1] == 4:
        opacity = pixels[..., 3:]
        pixels = pixels[..., :3] * opacity + (1 - opacity)
        if alpha == "mask":
            mask = opacity[..., 0] if mask is None else mask * opacity[..., 0]
    return replace(picture, pixels=pixels, mask=mask)


def in_floats(plane: Tensor) -> Tensor:
    """Pixels or a mask as float32 in 0..1."""
    return plane.float() / 255 if plane.dtype == torch.uint8 else plane.float()


def covering(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
    """The height and width of a picture of some size, scaled so that it just covers another."""
    height, width = size
    scale = max(wanted[0] / height, wanted[1] / width)
    return max(wanted[0], round(height * scale)), max(wanted[1], round(width * scale))


def _cover(planes: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    height, width = planes.shape[-2:]
    cover = covering((height, width), size)
    scaled = planes[None]
    if cover != (height, width):
        scaled = F.interpolate(scaled, cover, mode=mode, antialias=True)
    top, left = (cover[0] - size[0]) // 2, (cover[1] - size[1]) // 2
    return scaled[0, :, top : top + size[0], left : left + size[1]].clamp(0, 1)


def pictures_fingerprint(pictures: Sequence[Picture]) -> str:
    """SHA-256 over pixels (in steps of 1/255), masks, captions and sides, in their order."""
    digest = hashlib.sha256()
    for picture in pictures:
        for plane in (picture.pixels, picture.mask):
            if plane is not None:
                digest.update(str(tuple(plane.shape)).encode())
                digest.update((in_floats(plane) * 255).round().byte().cpu().numpy().tobytes())
        digest.update(b"\0" if picture.caption is None else picture.caption.strip().encode())
        if picture.unlike:
            digest.update(b"unlike")
    return digest.hexdigest()
