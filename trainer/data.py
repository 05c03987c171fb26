"""Pictures, masks and captions: from what a user has to what a step draws from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from .errors import InputError
from .model import FrozenModel
from .prompts import TEMPLATES, caption_prompt
from .settings import Settings

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})


@dataclass(frozen=True)
class Picture:
    """One training picture.

    Attributes:
        pixels: float32 [height, width, 3 or 4] in 0..1; a fourth channel is opacity.
        caption: a prompt for it that contains the word, or None to use templates.
        mask: float32 [height, width], 1 where to learn and 0 where not, or None.
        source: what to call it in messages.
    """

    pixels: Tensor
    caption: str | None = None
    mask: Tensor | None = None
    source: str = "a picture"


@dataclass(frozen=True)
class TrainingSet:
    """Pictures as the loop uses them, encoded once.

    Attributes:
        latents: [pictures, channels, h, w]; where mirrored pictures are trained on too,
            they follow the plain ones, in the same order.
        masks: [pictures, 1, h, w] in the order of the latents, or None.
        prompts: for each plain picture, the prompts to draw from.
    """

    latents: Tensor
    masks: Tensor | None
    prompts: Sequence[Sequence[str]]

    @property
    def num_pictures(self) -> int:
        """How many pictures there are, mirrored ones not counted."""
        return len(self.prompts)


def read_picture(path: Path) -> Picture:
    """Read a picture as people see it: turned as its EXIF data says, with its alpha.

    A caption is taken from a text file of the same name beside it.

    Raises:
        InputError: not a picture that Pillow can read.
    """
    try:
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened)
            if upright.mode.startswith("I"):
                # 16 bits of grey: `convert` would cut off all but the darkest 256 levels.
                upright = Image.fromarray((np.asarray(upright) / 257).astype(np.uint8))
            mode = "RGBA" if upright.has_transparency_data else "RGB"
            array = np.asarray(upright.convert(mode), dtype=np.float32) / 255
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"“{path.name}” cannot be read as a picture ({error}): replace it or take it out."
        ) from error
    note = path.with_suffix(".txt")
    caption = note.read_text(encoding="utf-8", errors="replace") if note.is_file() else None
    return Picture(torch.from_numpy(array), caption, source=path.name)


def read_folder(folder: Path) -> list[Picture]:
    """Read all pictures of a folder in the order of their names; sub-folders are not read.

    Raises:
        InputError: no such folder, no pictures in it, or one that cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder “{folder}”: give a folder with 3 to 10 pictures.")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
    if not paths:
        raise InputError(f"The folder “{folder}” holds no pictures: put 3 to 10 into it.")
    return [read_picture(path) for path in paths]


def fit(picture: Picture, resolution: int, alpha: str) -> tuple[Tensor, Tensor | None]:
    """Scale a picture to cover a square and crop its middle.

    Args:
        picture: of any size.
        resolution: side of the square in pixels.
        alpha: `flatten` or `mask`, see `Settings.alpha`.

    Returns:
        pixels [resolution, resolution, 3] in 0..1 and the mask [resolution, resolution] or None.

    Raises:
        InputError: nothing of the picture is left to learn from under its mask.
    """
    pixels, mask = picture.pixels.float(), picture.mask
    if pixels.ndim != 3 or pixels.shape[-1] not in (3, 4) or not pixels.numel():
        raise InputError(
            f"{picture.source} has the shape {list(pixels.shape)}: pictures must be "
            "[height, width, 3 or 4 channels]."
        )
    if pixels.shape[-1] == 4:
        opacity = pixels[..., 3:]
        pixels = pixels[..., :3] * opacity + (1 - opacity)
        if alpha == "mask":
            mask = opacity[..., 0] if mask is None else mask * opacity[..., 0]
    square = _cover(pixels.movedim(-1, 0), resolution, "bicubic").movedim(0, -1)
    if mask is None:
        return square.contiguous(), None
    if mask.shape != picture.pixels.shape[:2]:
        height, width = picture.pixels.shape[:2]
        mask = F.interpolate(mask[None, None].float(), (height, width), mode="bilinear")[0, 0]
    mask = _cover(mask[None].float(), resolution, "bilinear")[0]
    if mask.max() <= 0.01:
        raise InputError(
            f"The mask of {picture.source} is empty, so there is nothing to learn: white must "
            "cover what is to be learned (Load Image gives transparent parts as white: put "
            "Invert Mask behind it)."
        )
    return square.contiguous(), mask


def _cover(planes: Tensor, side: int, mode: str) -> Tensor:
    height, width = planes.shape[-2:]
    scale = side / min(height, width)
    size = (max(side, round(height * scale)), max(side, round(width * scale)))
    scaled = planes[None]
    if size != (height, width):
        scaled = F.interpolate(scaled, size, mode=mode, antialias=True)
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    return scaled[0, :, top : top + side, left : left + side].clamp(0, 1)


def encode(model: FrozenModel, pictures: Sequence[Picture], settings: Settings) -> TrainingSet:
    """Make pictures ready for the loop: fitted, encoded once, each with its prompts.

    Raises:
        InputError: no pictures, a caption without the word, an empty mask.
    """
    if not pictures:
        raise InputError("There are no pictures to learn from: connect 3 to 10 of them.")
    templates = TEMPLATES[settings.learn]
    prompts = [
        templates if p.caption is None else [caption_prompt(p.caption, settings.name)]
        for p in pictures
    ]
    fitted = [fit(p, settings.resolution, settings.alpha) for p in pictures]
    masks: Tensor | None = None
    if any(mask is not None for _, mask in fitted):
        masks = torch.stack([torch.ones(p.shape[:2]) if m is None else m for p, m in fitted])
    pixels = torch.stack([p for p, _ in fitted])
    if settings.flip:
        pixels = torch.cat([pixels, pixels.flip(2)])
        masks = None if masks is None else torch.cat([masks, masks.flip(2)])
    # One by one: the encoder needs far more memory for a picture than the result takes.
    latents = torch.cat([model.encode_pictures(one[None]).float() for one in pixels])
    if masks is not None:
        masks = F.interpolate(masks[:, None], latents.shape[-2:], mode="area")
    return TrainingSet(latents, masks, prompts)
