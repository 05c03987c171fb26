"""What lies in the embeddings folders, and what was once read of it.

Folders of embeddings hold thousands of files, and the host asks for lists of them often. So a
folder is looked through in one go, and a file is read again only when its size or its time of
change is another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from ...trainer.files.reading import PICTURE_SUFFIXES, READABLE_SUFFIXES
from ...trainer.files.thumbnails import BESIDE

T = TypeVar("T")


@dataclass(frozen=True)
class EmbeddingFile:
    """A file in one of the embeddings folders.

    Attributes:
        name: as the user knows it: its path from that folder on, with slashes.
        path: where it lies.
        is_link: whether it is a link, to wherever.
        size: in bytes; -1 where the system refuses to say.
        changed: when, in nanoseconds.
        has_picture: whether a picture of its name lies beside it.
    """

    name: str
    path: str
    is_link: bool
    size: int
    changed: int
    has_picture: bool

    @property
    def stem(self) -> str:
        """The file's own name without its suffix."""
        return os.path.splitext(os.path.basename(self.path))[0]  # noqa: PTH119, PTH122


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
    beside = {entry.name for entry in entries}
    split = [(entry, *os.path.splitext(entry.name)) for entry in entries]  # noqa: PTH122
    # A picture may carry an embedding; beside another file of its name it only shows it.
    words = {stem for _, stem, end in split if end.lower() in READABLE_SUFFIXES - PICTURE_SUFFIXES}
    for entry, stem, end in split:
        if entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path, f"{prefix}{entry.name}/")
        if end.lower() not in READABLE_SUFFIXES:
            continue
        if end.lower() in PICTURE_SUFFIXES and (stem in words or stem.endswith(".preview")):
            continue
        try:
            status = entry.stat()
            size, changed = status.st_size, status.st_mtime_ns
        except OSError:
            size, changed = -1, 0
        yield EmbeddingFile(
            prefix + entry.name,
            entry.path,
            entry.is_symlink(),
            size,
            changed,
            any(stem + mark in beside for mark in BESIDE if stem + mark != entry.name),
        )
