"""What lies in the embeddings folders, and what was once read of it.

Folders of embeddings hold thousands of files, and the host asks for lists of them often. So a
folder is looked through in one go, and a file is read again only when its size or its time of
change is another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from ...trainer.files.reading import PICTURE_SUFFIXES, READABLE_SUFFIXES, only_shows_a_word
from ...trainer.files.thumbnails import BESIDE

T = TypeVar("T")


class EmbeddingFile(NamedTuple):
    """A file in one of the embeddings folders.

    Attributes:
        name: as the user knows it: its path from that folder on, with slashes.
        stem: its own name without the suffix.
        path: where it lies.
        is_link: whether it is a link, to wherever.
        size: in bytes; -1 where the system refuses to say.
        changed: when, in nanoseconds.
        has_picture: whether a picture of its name lies beside it.
    """

    name: str
    stem: str
    path: str
    is_link: bool
    size: int
    changed: int
    has_picture: bool


def present(folders: Sequence[Path]) -> dict[str, EmbeddingFile]:
    """Every embedding file below the folders, by its name; of one name, that in the first folder.

    Folders that are links are not entered.
    """
    return {file.name: file for folder in reversed(folders) for file in _below(str(folder), "")}


class Known(Generic[T]):
    """What was read of files, for as long as they have the same size and time of change.

    Args:
        read: reads one; does not raise.
    """

    def __init__(self, read: Callable[[EmbeddingFile], T]) -> None:
        self._read = read
        self._known: dict[EmbeddingFile, T] = {}

    def of(self, files: Iterable[EmbeddingFile]) -> list[T]:
        """What is known of each; it is read where it is new. All others are forgotten."""
        known = self._known
        self._known = {f: known[f] if f in known else self._read(f) for f in files}
        return list(self._known.values())


def _below(folder: str, prefix: str) -> Iterator[EmbeddingFile]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    split = [(entry, *os.path.splitext(entry.name)) for entry in entries]  # noqa: PTH122
    words = {stem for _, stem, end in split if end.lower() in _NO_PICTURES}
    pictures = {entry.name for entry in entries if entry.name.endswith(BESIDE)}
    shown = {name.removesuffix(mark) for name in pictures for mark in BESIDE if name.endswith(mark)}
    for entry, stem, end in split:
        if entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path, f"{prefix}{entry.name}/")
        is_picture = end.lower() in PICTURE_SUFFIXES
        # A picture may carry an embedding; beside another file of its name it only shows it.
        if is_picture and (stem in words or only_shows_a_word(Path(entry.name))):
            continue
        if is_picture or end.lower() in _NO_PICTURES:
            size, changed = _size_and_change(entry)
            has_picture = not is_picture and stem in shown
            link = entry.is_symlink()
            yield EmbeddingFile(
                prefix + entry.name, stem, entry.path, link, size, changed, has_picture
            )


def _size_and_change(entry: os.DirEntry[str]) -> tuple[int, int]:
    try:
        status = entry.stat()
    except OSError:
        return -1, 0
    return status.st_size, status.st_mtime_ns


_NO_PICTURES = READABLE_SUFFIXES - PICTURE_SUFFIXES
