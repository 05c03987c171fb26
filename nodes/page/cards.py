"""The embeddings folder as cards: what the sidebar shows of each file."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from ...trainer.embeddings.embedding import check_name
from ...trainer.embeddings.metadata import is_negative
from ...trainer.errors import InputError
from ...trainer.files.reading import read_embedding, read_notes
from ...trainer.files.thumbnails import preview_picture
from ..host import library


def cards() -> list[dict[str, Any]]:
    """One for each listed file, in the order of the list.

    Returns:
        `file` (as in the list), `name`, `prompt` (how a prompt names it; "" where only our nodes
        read the format, or the host would cut the name), `negative`, `family`, `vectors`,
        `preview` (whether there is a picture), `changed` (when, in seconds) and `error` (why it
        cannot be read, or "").
    """
    return [_card(file) for file in library.list_files()]


def _card(file: str) -> dict[str, Any]:
    path = PurePosixPath(file)
    card: dict[str, Any] = {
        "file": file,
        "name": path.stem,
        "prompt": _prompt(path),
        "changed": 0,
    }
    try:
        found = library.find(file)
        status = found.stat()
    except (InputError, OSError) as error:
        return card | _unreadable(str(error))
    card["changed"] = round(status.st_mtime, 3)
    return card | _content(found, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4096)
def _content(path: Path, _changed: int, _size: int) -> dict[str, Any]:
    """What is in a file; read once, because folders of embeddings are large."""
    notes = read_notes(path)
    try:
        word = read_embedding(path)
    except InputError as error:
        return _unreadable(str(error))
    return {
        "negative": is_negative(path.stem, notes),
        "family": word.family,
        "vectors": word.num_vectors,
        "preview": preview_picture(path, notes) is not None,
        "error": "",
    }


def _prompt(file: PurePosixPath) -> str:
    if file.suffix.lower() not in library.HOST_SUFFIXES:
        return ""
    try:
        return f"embedding:{'/'.join(check_name(part) for part in file.with_suffix('').parts)}"
    except InputError:
        return ""


def _unreadable(reason: str) -> dict[str, Any]:
    return {"negative": False, "family": "", "vectors": 0, "preview": False, "error": reason}
