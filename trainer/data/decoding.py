"""A picture file as people see it, no larger than training needs it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..errors import InputError
from ..picture_structure import LABORIOUS, is_laborious
from ..settings import Settings
from .pictures import covering
from .training_set import size_for
from .zoom import NEAR_PARTS

Size = tuple[int, int]
"""Height and width in pixels."""

READ_WHOLE = 1_500_000
"""Pixels up to which a picture is kept as it is. Larger ones, as cameras make them, are kept in the
size in which training shows them: in memory and in time, a folder of photos costs what they teach.
"""

MOST_SCANS = 20
"""Scans that a JPEG may have however large it is: progressive photos have some ten."""

NOT_PICTURES = frozenset({"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5", "FPX", "MIC", "IPTC"})
"""What Pillow only recognises, or has other programs draw."""

_TURNED = frozenset({5, 6, 7, 8})
"""EXIF orientations of pictures that lie on their sides."""


def formats() -> list[str]:
    """Pillow's names of the formats that can be read, with those of its plug-ins."""
    Image.init()
    return [name for name in Image.OPEN if name not in NOT_PICTURES]


def suffixes() -> frozenset[str]:
    """How the names of pictures that can be read end, in lower case."""
    known = set(formats())
    return frozenset(end for end, name in Image.registered_extensions().items() if name in known)


def size_to_keep(size: Size, settings: Settings) -> Size:
    """The size in which a picture is kept in memory.

    Args:
        size: its own.
        settings: of the run that it is read for.

    Returns:
        the picture's size, or where that is larger than `READ_WHOLE`, the smallest in which no
        step, preview or check would have to enlarge more than it has to now.
    """
    if size[0] * size[1] <= READ_WHOLE:
        return size
    # What is shown nearer is cut out of the picture first.
    part = NEAR_PARTS[0] if settings.zoom else 1
    shown = (size_for(size, settings), (settings.resolution, settings.resolution))
    needed = max(
        covering(size, (round(height / part), round(width / part))) for height, width in shown
    )
    return min(size, needed)


def read_pixels(path: Path, settings: Settings | None = None, *, has_mask: bool = False) -> Tensor:
    """Read a picture, turned as its EXIF data says.

    Args:
        path: of the picture.
        settings: of the run that it is read for; without them it keeps its size.
        has_mask: whether a mask says where in the picture to learn; then nothing is cut off.

    Returns:
        uint8 [height, width, 3], or [height, width, 4] if any of it is transparent.

    Raises:
        InputError: not a picture that Pillow can read, or one that is made to take long.
    """
    picture, size, whole = _open(path, lambda own: size_to_keep(own, settings) if settings else own)
    colours = "RGBA" if picture.has_transparency_data else "RGB"
    coloured = picture if picture.mode == colours else picture.convert(colours)
    scaled = _scaled(coloured, size)
    if settings and not whole and not (has_mask or settings.zoom or settings.buckets):
        # Of these, nothing but the middle is ever shown.
        left, top = ((side - settings.resolution) // 2 for side in scaled.size)
        scaled = scaled.crop((left, top, left + settings.resolution, top + settings.resolution))
    return torch.from_numpy(np.array(scaled))


def read_mask(path: Path, size: Size) -> Tensor:
    """Read a mask: white where to learn; what is transparent is black.

    Args:
        path: of the mask.
        size: of its picture as it is kept; a mask that is larger than `READ_WHOLE` gets it too.

    Returns:
        [height, width], uint8 or, where parts are transparent, float32 in 0..1.

    Raises:
        InputError: not a picture that Pillow can read.
    """
    picture, size, _ = _open(path, lambda own: own if own[0] * own[1] <= READ_WHOLE else size)
    grey = torch.from_numpy(np.array(_scaled(picture.convert("L"), size)))
    if not picture.has_transparency_data:
        return grey
    opacity = _scaled(picture.convert("RGBA").getchannel("A"), size)
    return grey / 255 * (torch.from_numpy(np.array(opacity)) / 255)


def _open(path: Path, keep: Callable[[Size], Size]) -> tuple[Image.Image, Size, bool]:
    """An upright picture with eight bits for each channel, decoded no larger than need be.

    Also the size in which to keep it, and whether that is its own.
    """
    _refuse_laborious(path)
    try:
        with warnings.catch_warnings(), Image.open(path, formats=formats()) as opened:
            # A photo of 100 megapixels is no attack; beyond twice as many Pillow refuses.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            height, width = opened.height, opened.width
            lies = opened.getexif().get(ExifTags.Base.Orientation) in _TURNED
            size = keep((width, height) if lies else (height, width))
            whole = size[0] * size[1] >= height * width
            if not whole:
                # JPEG can be decoded at a half, a quarter, an eighth; the rest is left to scaling.
                wanted = size if lies else size[::-1]
                opened.draft(None, (2 * wanted[0], 2 * wanted[1]))
            # In place and not by the way of copies: a photo of 24 megapixels has 72 MB.
            ImageOps.exif_transpose(opened, in_place=True)
            opened.load()
            return _in_eight_bits(opened, opened.format), size, whole
    except UnidentifiedImageError as error:
        raise _unreadable(path, "it is none, or damaged") from error
    except Image.DecompressionBombError as error:
        raise _unreadable(path, "it has too many pixels") from error
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.errno else str(error)
        raise _unreadable(path, reason or "it is damaged") from error


def _refuse_laborious(path: Path) -> None:
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            laborious = is_laborious(content, scans=MOST_SCANS)
    except (OSError, ValueError):
        return  # Of what cannot be read, or is empty, Pillow says more.
    if laborious:
        raise InputError(f"“{path.name}” {LABORIOUS}, or take it out.")


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(
        f"“{path.name}” cannot be read as a picture ({reason}): replace it or take it out."
    )


def _in_eight_bits(picture: Image.Image, file_format: str | None) -> Image.Image:
    """Deep pictures of one channel with their brightness; `convert` would cut it off."""
    if picture.mode != "F" and not picture.mode.startswith("I"):
        return picture
    values = np.nan_to_num(np.asarray(picture, dtype=np.float64), posinf=0, neginf=0)
    if picture.mode.startswith("I;16") or file_format == "PNG":
        white = 65535.0
    else:
        # Floats go to 1, whole numbers to what their bits hold; the file does not say how many.
        whites = (1.0, 255.0, 65535.0) if picture.mode == "F" else (255.0, 65535.0, 2.0**31 - 1)
        white = next((w for w in whites if values.max() <= w), float(values.max()))
    return Image.fromarray((values / white * 255).clip(0, 255).astype(np.uint8))


def _scaled(picture: Image.Image, size: Size) -> Image.Image:
    height, width = size
    if (width, height) == picture.size:
        return picture
    return picture.resize((width, height), Image.Resampling.BICUBIC)
