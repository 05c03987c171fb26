"""Embeddings inside pictures, as AUTOMATIC1111 shares them.

A picture carries the JSON of the `.pt` dictionary twice: in a PNG text chunk, and in columns of
pixels left and right of the picture, which survive sites that strip text. Those pixels hold the
compressed JSON in the lower four bits of their channels (low halves of the bytes left, high halves
right), whitened by a pseudo-random sequence. Either copy is enough for reading.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Mapping
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..picture_structure import LABORIOUS, is_laborious
from .refused import DAMAGED, Refused

Pixels = NDArray[np.uint8]

_CHUNK = "sd-ti-embedding"
_TENSOR = "TORCHTENSOR"
_MAX_JSON = 2 * 1024 * 1024
_TOO_MANY = "has too many vectors for a picture: use .safetensors."
_MIN_HEIGHT = 64
_NIBBLE, _FOUR = np.uint8(15), np.uint8(4)
_NO_EMBEDDING = "is a picture without an embedding: choose the picture that was shared as one."


def read_picture(content: bytes) -> object:
    """The dictionary that a picture carries, from its text or its pixels.

    Args:
        content: a whole PNG or lossless WebP file.

    Returns:
        the dictionary as in AUTOMATIC1111's `.pt` files.

    Raises:
        Refused: there is no embedding in the picture, or it is too large.
        Exception: of any type, where the file is damaged.
    """
    # By way of a function, so that the pixels are gone before JSON asks for memory.
    return json.loads(_carried_json(content), object_hook=_tensor_from_json)


def _carried_json(content: bytes) -> bytes:
    with open_picture(content) as picture:
        text = getattr(picture, "text", {}).get(_CHUNK)
        if not isinstance(text, str):
            return _unzip(decode_pixels(np.asarray(picture.convert("RGB"))))
    if len(text) > _MAX_JSON * 4 // 3:
        raise Refused(_TOO_MANY)
    return base64.b64decode(text)


def open_picture(content: bytes, most_pixels: int | None = None) -> Image.Image:
    """Open a PNG, WebP or JPEG picture of moderate size.

    Args:
        content: the file.
        most_pixels: how many pixels are allowed; if not given, as many as go with a file of
            this size that carries an embedding.

    Raises:
        Refused: it is too large, or made to take long.
        Exception: of any type, where the file is damaged.
    """
    if is_laborious(content):
        raise Refused(f"{LABORIOUS}.")
    # Some 14 bytes for each pixel are in use at once: within 64 MB and four times the file.
    limit = 3_000_000 + len(content) // 4 if most_pixels is None else most_pixels
    _check_size(_stated_size(content), limit)
    picture: Image.Image = Image.open(BytesIO(content), formats=("PNG", "WEBP", "JPEG"))
    _check_size(picture.size, limit)
    return picture


def write_picture(data: Mapping[str, object], picture: Image.Image) -> bytes:
    """A PNG file that carries the dictionary in its text and in its pixels.

    Args:
        data: the dictionary as in AUTOMATIC1111's `.pt` files.
        picture: what people see; it becomes wider.

    Raises:
        Refused: there are too many vectors.
    """
    encoded = json.dumps(data, default=_tensor_to_json).encode()
    if len(encoded) > _MAX_JSON:
        raise Refused(_TOO_MANY)
    picture = picture.convert("RGB")
    if picture.height < _MIN_HEIGHT:
        picture = picture.resize((picture.width, _MIN_HEIGHT))
    text = PngInfo()
    text.add_text(_CHUNK, base64.b64encode(encoded).decode())
    canvas = encode_pixels(zlib.compress(encoded, 9), np.asarray(picture))
    file = BytesIO()
    Image.fromarray(canvas).save(file, "PNG", pnginfo=text)
    return file.getvalue()


def encode_pixels(data: bytes, picture: Pixels) -> Pixels:
    """Put data left and right of a picture.

    Args:
        data: what to hide; readers need to find its end themselves.
        picture: [height, width, 3].

    Returns:
        [height, width + 2 columns of black + 2 blocks, 3].
    """
    height = picture.shape[0]
    line = 3 * height
    size = len(data) + height - len(data) % height
    size += line - size % line
    padded = np.frombuffer(data.ljust(size, b"\0"), np.uint8)
    # The sixteens keep every channel above zero, as the reader takes black for a margin.
    low, high = (
        _whiten(half).reshape(height, -1, 3) | _shades(height, size // line)
        for half in (padded & _NIBBLE, padded >> _FOUR)
    )
    gap = np.zeros((height, 1, 3), np.uint8)
    return np.concatenate([low, gap, picture, gap, high], axis=1)


def decode_pixels(canvas: Pixels) -> bytes:
    """The data beside a picture, followed by some padding.

    Args:
        canvas: [height, width, 3].

    Raises:
        Refused: there is no data beside the picture.
    """
    nibbles = _without_margin(canvas) & _NIBBLE
    black = np.flatnonzero(nibbles.sum(axis=(0, 2)) == 0)
    if len(black) < 2:
        raise Refused(_NO_EMBEDDING)
    low, high = nibbles[:, : black[0]], nibbles[:, black[-1] + 1 :]
    if low.shape != high.shape or not low.size:
        raise Refused(_NO_EMBEDDING)
    # What compresses at all is shorter than the limit on what it expands to.
    low, high = (_whiten(half.reshape(-1)[:_MAX_JSON]) for half in (low, high))
    return bytes(high << _FOUR | low)


def pseudo_random(count: int) -> Pixels:
    """The first numbers of AUTOMATIC1111's sequence: 253, 242, 127, 44, …; uint8 [count]."""
    # Each number is 1664525 times the one before, plus a constant, and all wraps at 2**32.
    powers = np.full(count, 1664525, np.uint32)
    powers[:1] = 1
    powers = np.multiply.accumulate(powers, dtype=np.uint32)
    seeds = np.cumsum(powers, dtype=np.uint32) * np.uint32(1013904223)
    numbers: Pixels = (seeds % np.uint32(255)).astype(np.uint8)
    return numbers


def _whiten(nibbles: Pixels) -> Pixels:
    """Exchange plain and whitened halves of bytes; uint8 [count]."""
    whitened: Pixels = nibbles ^ (pseudo_random(len(nibbles)) & _NIBBLE)
    return whitened


def _shades(height: int, width: int) -> Pixels:
    """A quiet weave for the upper halves of the bytes; uint8 [height, width, 1]."""
    y, x = np.mgrid[:height, :width]
    shades: Pixels = 16 * (1 + (x // 4 + y // 4) % 2)[..., None].astype(np.uint8)
    return shades


def _without_margin(canvas: Pixels) -> Pixels:
    lit = np.min(canvas, axis=2) > 0
    rows, columns = np.flatnonzero(lit.sum(axis=1)), np.flatnonzero(lit.sum(axis=0))
    if not len(rows):
        raise Refused(_NO_EMBEDDING)
    return canvas[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _unzip(data: bytes) -> bytes:
    """Decompress, up to the end of the compressed stream or the limit."""
    unzip = zlib.decompressobj()
    try:
        plain = unzip.decompress(data, _MAX_JSON + 1)
    except zlib.error:
        raise Refused(f"{_NO_EMBEDDING[:-1]}, and in a lossless copy (PNG, never JPEG).") from None
    if len(plain) > _MAX_JSON:
        raise Refused(_TOO_MANY)
    if not unzip.eof:
        raise Refused(DAMAGED)
    return plain


def _tensor_from_json(item: dict[str, object]) -> object:
    if _TENSOR not in item:
        return item
    return torch.from_numpy(np.array(item[_TENSOR], np.float32))


def _tensor_to_json(value: object) -> object:
    if isinstance(value, Tensor):
        return {_TENSOR: value.tolist()}
    raise TypeError(type(value).__name__)


def _stated_size(content: bytes) -> tuple[int, int]:
    """Width and height, before Pillow, which allocates both when it opens a WebP file."""
    if content.startswith(b"\x89PNG"):
        return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    kind, head = content[8:16], content[20:30]
    if kind == b"WEBPVP8X":
        return 1 + int.from_bytes(head[4:7], "little"), 1 + int.from_bytes(head[7:10], "little")
    if kind == b"WEBPVP8L":
        bits = int.from_bytes(head[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"WEBPVP8 ":
        width, height = struct.unpack_from("<HH", head, 6)
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


def _check_size(size: tuple[int, int], most_pixels: int) -> None:
    if size[0] * size[1] > most_pixels:
        raise Refused("is too large a picture for an embedding: choose the one that was shared.")
