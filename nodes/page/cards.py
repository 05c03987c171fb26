"""The embeddings folder as cards: what the sidebar shows of each file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ...trainer.embeddings.embedding import check_name
from ...trainer.embeddings.metadata import is_negative
from ...trainer.errors import InputError
from ...trainer.files.reading import PICTURE_SUFFIXES, read_embedding, read_notes
from ...trainer.files.thumbnails import THUMBNAIL
from ..host import library
from ..host.embedding_files import EmbeddingFile, Known


@dataclass(frozen=True)
class Content:
    """What is in a file; pictures are left there, because thousands of them take much room."""

    negative: bool = False
    family: str = ""
    vectors: int = 0
    has_thumbnail: bool = False
    error: str = ""


def cards() -> list[dict[str, Any]]:
    """One for each listed file, in the order of the list.

    Returns:
        `file` (as in the list), `folder` (which of it, or ""), `name`, `prompt` (how a prompt names
        it, or ""), `unnamed` (why no prompt can, or ""), `negative`, `family`, `vectors`, `preview`
        (whether there seems to be a picture: none is decoded before it is asked for), `changed`
        (when, in seconds) and `error` (why it cannot be read, or "").
    """
    files = library.listed()
    contents = _CONTENTS.of(files)
    return [_card(file, content) for file, content in zip(files, contents, strict=True)]


def _card(file: EmbeddingFile, content: Content) -> dict[str, Any]:
    path = PurePosixPath(file.name)
    prompt, unnamed = _prompt(path)
    may_show = file.has_picture or content.has_thumbnail or path.suffix.lower() in PICTURE_SUFFIXES
    return {
        "file": file.name,
        "folder": "" if path.parent == PurePosixPath() else str(path.parent),
        "name": path.stem,
        "prompt": prompt,
        "unnamed": unnamed,
        "negative": content.negative,
        "family": content.family,
        "vectors": content.vectors,
        "preview": may_show and not content.error,
        "changed": round(file.changed / 1e9, 3),
        "error": content.error,
    }


def _read(file: EmbeddingFile) -> Content:
    path = Path(file.path)
    try:
        word = read_embedding(path)
    except InputError as error:
        return Content(error=str(error))
    notes = read_notes(path)
    negative = is_negative(path.stem, notes)
    return Content(negative, word.family, word.num_vectors, THUMBNAIL in notes)


_CONTENTS = Known(_read)


def _prompt(file: PurePosixPath) -> tuple[str, str]:
    """How a prompt names a file, or why it cannot."""
    if file.suffix.lower() not in library.HOST_SUFFIXES:
        return (
            "",
            f"ComfyUI reads no {file.suffix} files in prompts: drop it onto the graph instead.",
        )
    try:
        return f"embedding:{'/'.join(check_name(part) for part in file.with_suffix('').parts)}", ""
    except InputError:
        return "", (
            f"A prompt cannot name “{file.with_suffix('')}”, as names in it end at white space, "
            "commas, brackets and quotes: rename the file, or drop it onto the graph."
        )
