"""Pictures of some kilobytes that ask a decoder for minutes of work."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image


def repeated_scan(count: int = 400, between: bytes = b"", side: int = 2500) -> bytes:
    """A progressive JPEG, one scan of which comes again and again.

    Args:
        count: how often.
        between: what lies before each.
        side: height and width in pixels.
    """
    small = Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 6, 3), dtype=np.uint8))
    file = BytesIO()
    small.resize((side, side)).save(file, "JPEG", progressive=True, quality=20)
    body = file.getvalue()
    scan = body[body.rfind(b"\xff\xda") : -2]
    return body[:-2] + (between + scan) * count + b"\xff\xd9"


def many_markers(filling: bytes) -> bytes:
    """A JPEG with two million parts before its first scan."""
    body = _tiny("JPEG")
    return body[:2] + filling * 2_000_000 + body[2:]


def many_chunks() -> bytes:
    """A PNG with a million empty parts."""
    body = _tiny("PNG")
    empty = struct.pack(">I", 0) + b"prIv" + struct.pack(">I", zlib.crc32(b"prIv"))
    return body[:33] + empty * 1_000_000 + body[33:]


def _tiny(format: str) -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, format)
    return file.getvalue()
