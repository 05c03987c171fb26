"""What a new word may be called, so that every disk keeps its file under that name."""

from __future__ import annotations

import re
import unicodedata

from ..errors import InputError
from ..prompts import FILE_SUFFIXES
from .embedding import check_name

LONGEST_NAME = 200
"""Bytes of UTF-8. File names may have 255, and up to 42 are added: `-neg`, `-interrupted`, a
suffix, and what marks a file that is not whole yet."""

_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE)
"""Names that Windows gives to devices, whatever their suffix (Microsoft, "Naming Files")."""


def new_name(name: str) -> str:
    """The name under which a new word is kept.

    Without white space around it, without the suffix of an embedding file, and composed (Unicode
    NFC), as systems differ in how they write “é”.

    Raises:
        InputError: prompts or file systems cannot carry it.
    """
    name = unicodedata.normalize("NFC", name.strip())
    suffix = next((end for end in FILE_SUFFIXES if name.lower().endswith(end)), "")
    name = check_name(name[: len(name) - len(suffix)])
    if _DEVICE.fullmatch(name) or name.endswith("."):
        raise InputError(
            f"“{name}” cannot be the name of an embedding: Windows allows no file of that name. "
            "Choose another, for example “my-word”."
        )
    size = len(name.encode())
    if size > LONGEST_NAME:
        raise InputError(
            f"“{name[:20]}…” cannot be the name of an embedding: it takes {size} bytes, and files "
            f"can have names of {LONGEST_NAME} (a letter of the Latin alphabet takes one, a "
            "Chinese character three). Choose a shorter one."
        )
    return name


def same_name(one: str, other: str) -> bool:
    """Whether some file systems take two names for one: case and composition set aside."""
    return folded(one) == folded(other)


def folded(name: str) -> str:
    """A name with case and composition set aside, to look it up as some file systems do."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
