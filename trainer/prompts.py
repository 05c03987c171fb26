"""Prompts: where the word stands in them, and the templates that make them."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from .errors import InputError

PLACEHOLDER = "[name]"
"""Stands for the word in templates, captions and prompts (the notation of A1111)."""

FILE_SUFFIXES = (".safetensors", ".pt", ".bin")
"""What may stand behind the name of a word: prompts may call it by its file."""


def with_placeholder(text: str, name: str) -> str:
    """Write every mention of the word as the placeholder.

    The word may be given as `[name]`, as `embedding:NAME`, as `embedding:NAME.safetensors` or as
    the bare name standing alone, so that captions and prompts made for other tools work unchanged.
    """
    word = re.escape(name)
    if not name.isascii():
        # Some systems write “é” as two characters; names are composed.
        text = unicodedata.normalize("NFC", text)
    suffix = "|".join(map(re.escape, FILE_SUFFIXES))
    pattern = rf"(?:embedding:{word}(?:{suffix})?|(?<![\w:.-]){word})(?![\w-]|\.\w)"
    # A word may be called “name” or “filewords”, too.
    marks = "|".join(map(re.escape, (PLACEHOLDER, FILEWORDS)))
    return re.sub(
        rf"{marks}|{pattern}", lambda m: FILEWORDS if m[0] == FILEWORDS else PLACEHOLDER, text
    )


def split_at_word(prompt: str, token_ids: Callable[[str], list[int]]) -> list[list[int] | None]:
    """The tokens of the text between mentions of the word; each mention is a None."""
    groups: list[list[int] | None] = []
    for text in prompt.split(PLACEHOLDER):
        groups += [token_ids(text), None]
    return groups[:-1]


HEAVIEST = 1e7
"""The largest weight: float32 has seven digits, so beside a larger one the others are lost."""

DEEPEST = 100
"""Brackets in brackets of a prompt; ComfyUI itself fails at about ten times as many."""

SHOWN = 40
"""Letters of a prompt that a sentence shows."""

WeightedGroup = tuple[list[int] | None, float]
"""Tokens that stand together, or the place of the word, and how much they count."""


def weighted_groups(prompt: str, token_ids: Callable[[str], list[int]]) -> list[WeightedGroup]:
    """The tokens of a prompt, split at mentions of the word and where weights change."""
    return [
        (group, weight)
        for text, weight in weighted_texts(prompt)
        for group in split_at_word(text, token_ids)
    ]


def weighted_texts(prompt: str) -> list[tuple[str, float]]:
    """The parts of a prompt and how much they count, as ComfyUI reads it.

    `(text)` counts 1.1 times as much, `(text:1.3)` 1.3 times; brackets in brackets multiply, a
    number stands for itself. Behind a backslash a bracket is one; square ones mean nothing.

    Raises:
        InputError: a weight that ComfyUI reads too, but that leaves no picture: not a number, or
            beyond `HEAVIEST`; or brackets deeper than `DEEPEST`.
    """
    hidden = prompt.replace("\\)", "\0\1").replace("\\(", "\0\2")
    found = [
        (text.replace("\0\1", ")").replace("\0\2", "("), weight)
        for text, weight in _weighted(hidden, 1.0, 0)
        if text
    ]
    for text, weight in found:
        if not abs(weight) <= HEAVIEST:
            shown = text if len(text) <= SHOWN else f"{text[:SHOWN]} …"
            raise InputError(
                f"In a prompt, “{shown}” has a weight of {weight:g}: write a number such as 1.2, "
                "or \\( and \\) where brackets are part of the text."
            )
    return found


def _weighted(text: str, weight: float, nested: int) -> list[tuple[str, float]]:
    if nested > DEEPEST:
        raise InputError(
            f"A prompt has brackets in brackets, more than {DEEPEST} deep: use fewer, or write "
            "\\( and \\) where they are part of the text."
        )
    parts, start, depth = [], 0, 0
    for at, letter in enumerate(text):
        if letter == "(":
            if depth == 0:
                parts.append(text[start:at])
                start = at
            depth += 1
        elif letter == ")":
            depth -= 1
            if depth == 0:
                parts.append(text[start : at + 1])
                start = at + 1
    parts.append(text[start:])
    return [found for part in parts for found in _weighted_part(part, weight, nested)]


def _weighted_part(part: str, weight: float, nested: int) -> list[tuple[str, float]]:
    if len(part) < 2 or part[0] != "(" or part[-1] != ")":
        return [(part, weight)]
    inside, weight = part[1:-1], 1.1 * weight
    text, _, number = inside.rpartition(":")
    if text:
        with suppress(ValueError):
            weight, inside = float(number), text
    return _weighted(inside, weight, nested + 1)


FILEWORDS = "[filewords]"
"""Stands for a picture's caption in templates (the notation of A1111)."""

OBJECT_TEMPLATES: Sequence[str] = (
    "a photo of a [name]",
    "a rendering of a [name]",
    "a cropped photo of the [name]",
    "the photo of a [name]",
    "a photo of a clean [name]",
    "a photo of a dirty [name]",
    "a dark photo of the [name]",
    "a photo of my [name]",
    "a photo of the cool [name]",
    "a close-up photo of a [name]",
    "a bright photo of the [name]",
    "a cropped photo of a [name]",
    "a photo of the [name]",
    "a good photo of the [name]",
    "a photo of one [name]",
    "a close-up photo of the [name]",
    "a rendition of the [name]",
    "a photo of the clean [name]",
    "a rendition of a [name]",
    "a photo of a nice [name]",
    "a good photo of a [name]",
    "a photo of the nice [name]",
    "a photo of the small [name]",
    "a photo of the weird [name]",
    "a photo of the large [name]",
    "a photo of a cool [name]",
    "a photo of a small [name]",
)
"""Neutral contexts for an object (textual inversion paper, arXiv 2208.01618, section 3)."""

STYLE_TEMPLATES: Sequence[str] = tuple(
    f"{kind} in the style of [name]"
    for kind in (
        "a painting",
        "a rendering",
        "a cropped painting",
        "the painting",
        "a clean painting",
        "a dirty painting",
        "a dark painting",
        "a picture",
        "a cool painting",
        "a close-up painting",
        "a bright painting",
        "a good painting",
        "a rendition",
        "a nice painting",
        "a small painting",
        "a weird painting",
        "a large painting",
    )
)
"""Neutral contexts for a style (same source)."""

TEMPLATES: Mapping[str, Sequence[str]] = {"object": OBJECT_TEMPLATES, "style": STYLE_TEMPLATES}
"""For pictures without a caption."""

CAPTION_TEMPLATES: Mapping[str, Sequence[str]] = {
    "object": (f"a photo of a {PLACEHOLDER}, {FILEWORDS}",),
    "style": (f"{FILEWORDS}, in the style of {PLACEHOLDER}",),
}
"""For captions that do not say where the word stands."""


def parse_templates(text: str, name: str) -> list[str]:
    """One template for each line, in which the word is the placeholder; no empty lines.

    Raises:
        InputError: there are lines, but none of them has a place for anything.
    """
    lines = [with_placeholder(line.strip(), name) for line in text.splitlines() if line.strip()]
    if lines and not any(PLACEHOLDER in line or FILEWORDS in line for line in lines):
        raise InputError(
            f"None of the templates has a place for the word: write {PLACEHOLDER} where it "
            f"stands, and {FILEWORDS} where the picture's caption stands, one template for each "
            "line."
        )
    return lines


BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # Before UTF-16, whose mark it begins with.
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path) -> str:
    """The text of a file in the encoding that its byte-order mark names, else in UTF-8.

    Raises:
        InputError: it is in another encoding: no letter is ever guessed.
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    encoding = next((name for mark, name in BYTE_ORDER_MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        text = "\0"
    # UTF-16 without a mark reads as UTF-8 with zeros between the letters.
    if "\0" in text:
        raise InputError(f"The text of “{path.name}” is in an unknown encoding: save it as UTF-8.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def as_text(text: str) -> str:
    """A text with “?” for what is no letter: half an emoji, or what other encodings leave in names.

    Neither a file in UTF-8 nor a tokenizer takes it otherwise.
    """
    return text.encode(errors="replace").decode()


def read_templates(path: Path) -> str:
    """The templates of a text file, or of all text files of a folder, such as A1111's.

    Raises:
        InputError: no such file, nothing in it, or not in UTF-8 or marked as another encoding.
    """
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    try:
        text = "\n".join(map(read_text, files))
    except OSError as error:
        raise InputError(
            f"The templates “{path}” cannot be read ({error.strerror}): give a text file with one "
            "template for each line, or a folder of such files."
        ) from error
    if not text.strip():
        raise InputError(f"There are no templates in “{path}”: write one for each line.")
    return text
