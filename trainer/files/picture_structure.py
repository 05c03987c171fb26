"""What a picture file says of itself, looked at before anything decodes it.

A few kilobytes can ask a decoder for minutes of work: by scans of a JPEG that go over all of a
large picture again and again, or by millions of empty parts. Pictures that people make have few.
"""

from __future__ import annotations

import struct

from .refused import Refused

MOST_SEGMENTS = 2000
"""Parts of a JPEG before its first scan; large colour profiles and metadata take some hundred."""

MOST_SCANNED = 100_000_000
"""Pixels that the scans of a JPEG go over in all: about two seconds. Progressive pictures have some
ten scans."""

MOST_CHUNKS = 1000
"""Parts of a PNG, besides one for each kilobyte; programs write parts of 8 and more."""

_SCAN = b"\xff\xda"


def refuse_laborious(content: bytes) -> None:
    """Refuse a PNG or JPEG picture that is made to take long.

    Args:
        content: a whole file; those of other formats pass.

    Raises:
        Refused: it has too many parts.
    """
    too_many = content.startswith(b"\x89PNG") and _has_many_chunks(content)
    if content.startswith(b"\xff\xd8"):
        height, width = _jpeg_size(content)
        # Inside a scan this pair of bytes cannot occur.
        too_many = height * width * content.count(_SCAN) > MOST_SCANNED
    if too_many:
        raise Refused(_TOO_MANY_PARTS)


_TOO_MANY_PARTS = (
    "has far more parts than a picture needs, and would take minutes to read: save it anew in a "
    "picture editor."
)


def _has_many_chunks(content: bytes) -> bool:
    most, at, count = MOST_CHUNKS + len(content) // 1024, 8, 0
    while at + 8 <= len(content) and count <= most:
        at += 12 + int.from_bytes(content[at : at + 4], "big")
        count += 1
    return count > most


def _jpeg_size(content: bytes) -> tuple[int, int]:
    """Height and width, from the parts before the first scan, as Pillow goes through them."""
    at, size = 2, (0, 0)
    for _ in range(MOST_SEGMENTS):
        if at + 9 > len(content) or content[at] != 0xFF:
            return size
        marker = content[at + 1]
        if content[at : at + 2] == _SCAN:
            return size
        if marker in (0x00, 0xFF):  # Filling.
            at += 1 + (marker == 0x00)
        elif marker == 0x01 or 0xD0 <= marker <= 0xD9:  # Without content.
            at += 2
        else:
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                size = struct.unpack_from(">HH", content, at + 5)
            at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    raise Refused(_TOO_MANY_PARTS)
