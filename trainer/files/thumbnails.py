"""Small pictures that show what a word is about: inside its file, or beside it."""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from PIL import Image
from torch import Tensor

from ..embeddings.embedding import Embedding
from .picture_files import open_picture

THUMBNAIL = "modelspec.thumbnail"
"""The note of a file that holds a small picture, as a data URL (modelspec 1.0.1)."""

THUMBNAIL_SIDE = 256
PREVIEW_SIDE = 384
"""Longest sides in pixels: of a picture in a file's notes, and of a preview."""

BESIDE = tuple(
    f"{mark}{suffix}" for mark in (".preview", "") for suffix in (".png", ".jpg", ".jpeg", ".webp")
)
"""How tools end the names of the pictures that they put beside a file, in place of its suffix."""

_LARGEST_FILE = 16 * 1024 * 1024
_MEMORY = 55_000_000
_BYTES_OF_PIXEL, _BYTES_IN_WEBP = 8, 17
"""What is in use at once, for each pixel: a transparent picture and its copy for scaling, or the
coefficients of a progressive JPEG; of WebP also two canvases and what they give."""


def in_bytes(pixels: Tensor) -> Tensor:
    """A picture, float32 [height, width, 3] in 0..1, as uint8 on the CPU."""
    return (pixels.clamp(0, 1) * 255).round().byte().cpu()


def png(pixels: Tensor) -> bytes:
    """A picture, float32 [height, width, 3] in 0..1, as the bytes of a PNG file."""
    file = BytesIO()
    Image.fromarray(in_bytes(pixels).numpy()).save(file, "PNG")
    return file.getvalue()


def thumbnail(pixels: Tensor) -> str:
    """A picture as a data URL for a file's notes: a JPEG of some ten kilobytes.

    Args:
        pixels: float32 [height, width, 3] in 0..1.
    """
    image = Image.fromarray(in_bytes(pixels).numpy())
    return "data:image/jpeg;base64," + base64.b64encode(_small(image, THUMBNAIL_SIDE)).decode()


def with_thumbnail(word: Embedding, picture: Tensor) -> Embedding:
    """The word with a small picture of what it draws in its metadata.

    Args:
        word: of any kind.
        picture: float32 [height, width, 3] in 0..1.
    """
    return replace(word, metadata={**word.metadata, THUMBNAIL: thumbnail(picture)})


def thumbnail_in(metadata: Mapping[str, str]) -> bytes | None:
    """The picture file in an embedding's notes, as it is, or None."""
    head, _, data = metadata.get(THUMBNAIL, "").partition(";base64,")
    if not head.startswith("data:image/"):
        return None
    try:
        return base64.b64decode(data)
    except binascii.Error:
        return None


def preview_picture(file: Path, notes: Mapping[str, str]) -> bytes | None:
    """What to show of an embedding file in a list.

    The first that can be read of: the pictures that tools put beside the file (`BESIDE`), the
    thumbnail in its notes, and the file itself if it is a picture.

    Args:
        file: the embedding; it need not be readable. No link is followed out of its folder.
        notes: the text in it, from `files.read_notes`.

    Returns:
        a JPEG drawn anew, at most `PREVIEW_SIDE` pixels wide and high and so below 200 kB,
        whatever the source holds; None if there is none.
    """
    for content in _candidates(file, notes):
        # Whatever is wrong with one of them, the next may do.
        with contextlib.suppress(Exception):
            return _small(open_picture(content, _most_pixels(content)), PREVIEW_SIDE)
    return None


def _candidates(file: Path, notes: Mapping[str, str]) -> Iterator[bytes]:
    for path in (file.with_name(file.stem + end) for end in BESIDE):
        if path != file:
            yield from _content(path)
    inside = thumbnail_in(notes)
    if inside is not None:
        yield inside
    if file.suffix.lower() in (".png", ".webp"):
        yield from _content(file)


def _content(path: Path) -> Iterator[bytes]:
    with contextlib.suppress(OSError):
        inside = path.resolve().is_relative_to(path.parent.resolve())
        if inside and path.is_file() and path.stat().st_size <= _LARGEST_FILE:
            yield path.read_bytes()


def _most_pixels(content: bytes) -> int:
    """As many as can be decoded within 64 MB and four times the file, which is one of the four."""
    is_webp = content.startswith(b"RIFF")
    return (_MEMORY + 3 * len(content)) // (_BYTES_IN_WEBP if is_webp else _BYTES_OF_PIXEL)


def _small(image: Image.Image, side: int) -> bytes:
    # Lets a JPEG be decoded at a fraction of its size.
    image.draft("RGB", (side, side))
    image.thumbnail((side, side))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        image = opaque
    file = BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=85)
    return file.getvalue()
