"""A picture file as people see it, no larger than training needs it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..errors import InputError, reason_of
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

COARSE = 4
"""How many times smaller than a large picture its mask is kept: latents are eight times smaller."""

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


@dataclass(frozen=True)
class Frame:
    """In which size a picture is kept, and what of it.

    Attributes:
        size: to which it is scaled.
        middle: height and width of the part in its middle that is kept.
        whole: whether that is the picture as it is.
    """

    size: Size
    middle: Size
    whole: bool = False


def frame_of(
    size: Size, settings: Settings, *, masked: bool = False, room: int | None = None
) -> Frame:
    """What of a picture is kept in memory.

    Args:
        size: its own.
        settings: of the run that it is read for.
        masked: whether a mask says where in the picture to learn.
        room: how many pixels of it there is room for. Only what is shown nearer is less sharp for
            want of it.

    Returns:
        the whole picture, or where that is larger than `READ_WHOLE`, the smallest frame in which
        no step or check would have to enlarge more than it has to now.
    """
    if size[0] * size[1] <= READ_WHOLE:
        return Frame(size, size, whole=True)
    height, width = size_for(size, settings)
    part = 1.0
    if settings.zoom:
        # What is shown nearer is cut out of the picture first.
        fitting = (height * width / room) ** 0.5 if room else 0.0
        part = min(max(NEAR_PARTS[0], fitting), 1.0)
    shown = (round(height / part), round(width / part))
    scaled = covering(size, shown)
    if scaled >= size:
        return Frame(size, size, whole=True)
    # What lies nearer is around the middle of the mask, and only squares are the same for all.
    if settings.buckets or (settings.zoom and masked):
        return Frame(scaled, scaled)
    return Frame(scaled, shown)


def read_pixels(path: Path, settings: Settings | None = None, room: int | None = None) -> Tensor:
    """Read a picture, turned as its EXIF data says.

    Args:
        path: of the picture.
        settings: of the run that it is read for; without them it keeps its size.
        room: see `frame_of`.

    Returns:
        uint8 [height, width, 3], or [height, width, 4] if any of it is transparent.

    Raises:
        InputError: not a picture that Pillow can read, or one that is made to take long.
    """
    return _read(path, settings, room)[0]


def read_masked(
    path: Path, mask: Path, settings: Settings | None = None, room: int | None = None
) -> tuple[Tensor, Tensor]:
    """Read a picture and its mask: white where to learn; what is transparent is black.

    Args:
        path: of the picture.
        mask: of the mask.
        settings: see `read_pixels`.
        room: see `frame_of`.

    Returns:
        the picture as of `read_pixels`, and the mask, uint8 [height, width]: of a picture that is
        kept as it is, in the picture's size, or its own if that is at most `READ_WHOLE`; of
        others in a part of the picture's size, `COARSE`.

    Raises:
        InputError: as `read_pixels`.
    """
    pixels, frame = _read(path, settings, room, masked=True)

    def keep(own: Size) -> Frame:
        as_it_is = frame.whole and own[0] * own[1] <= READ_WHOLE
        return Frame(own, own, whole=True) if as_it_is else frame

    opened, kept = _open(mask, keep)
    part = 1 if frame.whole else COARSE
    planes = [opened.convert("L")]
    if opened.has_transparency_data:
        planes.append(opened.convert("RGBA").getchannel("A"))
    grey, *opacity = (torch.from_numpy(np.array(_framed(p, kept, part))) for p in planes)
    for plane in opacity:
        grey = (grey / 255 * plane).round().byte()
    return pixels, grey


def _read(
    path: Path, settings: Settings | None, room: int | None, *, masked: bool = False
) -> tuple[Tensor, Frame]:
    def keep(own: Size) -> Frame:
        if settings is None:
            return Frame(own, own, whole=True)
        return frame_of(own, settings, masked=masked, room=room)

    picture, frame = _open(path, keep)
    colours = "RGBA" if picture.has_transparency_data else "RGB"
    coloured = picture if picture.mode == colours else picture.convert(colours)
    return torch.from_numpy(np.array(_framed(coloured, frame))), frame


def _open(path: Path, keep: Callable[[Size], Frame]) -> tuple[Image.Image, Frame]:
    """An upright picture with eight bits for each channel, decoded no larger than need be.

    Also what of it to keep.
    """
    _refuse_laborious(path)
    try:
        with warnings.catch_warnings(), Image.open(path, formats=formats()) as opened:
            # A photo of 100 megapixels is no attack; beyond twice as many Pillow refuses.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            height, width = opened.height, opened.width
            lies = opened.getexif().get(ExifTags.Base.Orientation) in _TURNED
            frame = keep((width, height) if lies else (height, width))
            size = frame.size
            if size[0] * size[1] < height * width:
                # JPEG can be decoded at a half, a quarter, an eighth; the rest is left to scaling.
                wanted = size if lies else size[::-1]
                opened.draft(None, (2 * wanted[0], 2 * wanted[1]))
            # Nobody needs these notes, and Pillow fails to write some of them anew as it turns.
            for notes in ("exif", "Raw profile type exif"):
                opened.info.pop(notes, None)
            # In place and not by the way of copies: a photo of 24 megapixels has 72 MB.
            ImageOps.exif_transpose(opened, in_place=True)
            opened.load()
            return _in_eight_bits(opened, opened.format), frame
    except UnidentifiedImageError as error:
        raise _unreadable(path, "it is none, or damaged") from error
    except Image.DecompressionBombError as error:
        raise _unreadable(path, "it has too many pixels") from error
    except Exception as error:
        # Each plug-in of Pillow complains of damage in types of its own.
        raise _unreadable(path, reason_of(error) or "it is damaged") from error


def _refuse_laborious(path: Path) -> None:
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            laborious = is_laborious(content, scans=MOST_SCANS)
    except (OSError, ValueError):
        return  # Of what cannot be read, or is empty, Pillow says more.
    if laborious:
        raise InputError(f"“{path.name}” {LABORIOUS}, or remove it.")


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(
        f"“{path.name}” cannot be read as a picture ({reason}): replace it or remove it."
    )


def _in_eight_bits(picture: Image.Image, file_format: str | None) -> Image.Image:
    """Deep pictures of one channel with their brightness; `convert` would cut it off.

    Those in Lab in RGB, as Pillow converts them to nothing else.
    """
    if picture.mode == "LAB":
        return picture.convert("RGB")
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


def _framed(picture: Image.Image, frame: Frame, part: int = 1) -> Image.Image:
    """What a frame keeps of a picture, so many times smaller."""
    (height, width), (tall, wide) = frame.size, frame.middle
    size = (max(1, wide // part), max(1, tall // part))
    if size == picture.size:
        return picture
    left, top = (width - wide) // 2, (height - tall) // 2
    across, down = picture.width / width, picture.height / height
    box = (left * across, top * down, (left + wide) * across, (top + tall) * down)
    return picture.resize(size, Image.Resampling.BICUBIC, box=box)
