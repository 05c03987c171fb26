"""What a picture file says of itself, looked at before anything decodes it.

A few kilobytes can ask a decoder for minutes of work: by scans of a JPEG that go over all of a
large picture again and again, or by millions of empty parts. Pictures that people make have few.
"""

from __future__ import annotations

import re
import struct
from mmap import mmap

LABORIOUS = (
    "has far more parts than a picture needs, and would take minutes to read: save it again in a "
    "picture editor"
)
"""What is said of a picture for which `is_laborious` is true."""

MOST_SEGMENTS = 2000
"""Parts of a JPEG; large colour profiles and metadata take some hundred."""

MOST_SCANNED = 100_000_000
"""Pixels that the scans of a JPEG go over in all: about two seconds. Progressive pictures have some
ten scans."""

MOST_CHUNKS = 1000
"""Parts of a PNG, besides one for each kilobyte; programs write parts of 8 and more."""

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
"""Ends what a scan of a JPEG holds (ITU-T T.81, B.1.1.2)."""

_SCAN, _END = 0xDA, 0xD9


def is_laborious(content: bytes | mmap, *, scans: int = 0) -> bool:
    """Whether a PNG or JPEG picture is made to take long.

    Args:
        content: a whole file; those of other formats are not.
        scans: how many scans a JPEG may have, however large it is.
    """
    if content[:4] == b"\x89PNG":
        return _has_many_chunks(content)
    return content[:2] == b"\xff\xd8" and _is_scanned_often(content, scans)


def _has_many_chunks(content: bytes | mmap) -> bool:
    most, at, count = MOST_CHUNKS + len(content) // 1024, 8, 0
    while at + 8 <= len(content) and count <= most:
        at += 12 + int.from_bytes(content[at : at + 4], "big")
        count += 1
    return count > most


def _is_scanned_often(content: bytes | mmap, most: int) -> bool:
    """Goes through the parts as Pillow and libjpeg do; what lies behind the end is not theirs."""
    at, scans, pixels = 2, 0, 0
    for _ in range(MOST_SEGMENTS):
        if scans:  # libjpeg passes over whatever is between two parts, Pillow does not.
            found = _MARKER.search(content, at)
            at = found.start() if found else len(content)
        if at + 9 > len(content) or content[at] != 0xFF:
            return False
        marker = content[at + 1]
        if marker in (0x00, 0xFF):  # Filling.
            at += 1 + (marker == 0x00)
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # Without content.
            at += 2
        elif marker == _END:
            return False
        else:
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                height, width = struct.unpack_from(">HH", content, at + 5)
                pixels = max(pixels, height * width)
            at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
            if marker == _SCAN:
                scans += 1
                if scans > most and scans * pixels > MOST_SCANNED:
                    return True
    return True
