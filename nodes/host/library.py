"""The host's embeddings folders: what is there, and where new words go."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import folder_paths

from ...trainer.embeddings.embedding import Embedding, check_name
from ...trainer.embeddings.metadata import is_negative
from ...trainer.embeddings.names import same_name
from ...trainer.errors import InputError
from ...trainer.files.reading import READABLE_SUFFIXES, read_embedding, read_notes
from ...trainer.files.thumbnails import preview_picture
from ...trainer.files.whole_files import make_folder, remove_abandoned, try_folder
from ...trainer.files.writing import FORMATS, same_vectors, write_embedding
from ...trainer.prompts import FILE_SUFFIXES
from ...trainer.runs.training import INTERRUPTED_ENDING
from .embedding_files import EmbeddingFile, Known, present

HOST_SUFFIXES = frozenset(FILE_SUFFIXES)
"""What `embedding:name` in a prompt finds."""

LARGEST_READ = 64 * 1024 * 1024
"""Bytes up to which a file is read whole, to see whether it has changed."""

DEEPEST = 16
"""Folders in folders that are looked through for a name."""


_NEGATIVE = Known(lambda file: is_negative(file.stem, read_notes(Path(file.path))))


def listed() -> list[EmbeddingFile]:
    """All embedding files, by name; links that lead out of the embeddings folders are left out."""
    files = present(_folders()).values()
    inside = [f for f in files if not f.is_link or _is_inside(Path(f.path))]
    return sorted(inside, key=lambda file: file.name.lower())


def list_files() -> list[str]:
    """All embedding files below the embeddings folders, as the user names them."""
    return [file.name for file in listed()]


def negatives_first() -> list[str]:
    """All embedding files, those known to be for negative prompts before the others."""
    files = listed()
    negative = dict(zip(files, _NEGATIVE.of(files), strict=True))
    return [file.name for file in sorted(files, key=lambda file: not negative[file])]


def clear_away() -> None:
    """Delete what processes that were killed have left in the embeddings folders."""
    for folder in _folders():
        remove_abandoned(folder, below=True)


def find(file: str) -> Path:
    """Where a listed file lies.

    Raises:
        InputError: it is not (any more) in an embeddings folder.
    """
    for folder in _folders():
        path = folder / file
        # Not every text can be the name of a file, and each system complains in its own way.
        with contextlib.suppress(OSError, ValueError):
            if _is_inside(path) and path.suffix.lower() in READABLE_SUFFIXES and path.is_file():
                return path
    raise InputError(
        f"There is no embedding “{file[:200]}” in the embeddings folder: choose another, or put "
        "the file itself (no link to elsewhere) there and press R to refresh the list."
    )


def read(file: str, word: str = "") -> Embedding:
    """Read a listed file; `word` is which word of several, else a name for the only one."""
    return read_embedding(find(file), word or None)


def preview(file: str) -> bytes | None:
    """A small JPEG that shows a listed file, if it or a picture beside it has one."""
    path = find(file)
    return preview_picture(path, read_notes(path))


def fingerprint(file: str | None) -> str:
    """SHA-256 of a listed file's bytes, so that a changed file is noticed.

    Of one that is too large for an embedding, its size and time of change. Without a file, as one
    that comes through a link is not known yet, what changes whenever any of them does.
    """
    if file is None:
        return hashlib.sha256(repr(listed()).encode(errors="replace")).hexdigest()
    path = find(file)
    status = path.stat()
    if status.st_size > LARGEST_READ:
        return f"{status.st_size} bytes, changed {status.st_mtime_ns}"
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while part := content.read(1024 * 1024):
            digest.update(part)
    return digest.hexdigest()


def check_free(name: str, *, overwrite: bool = False) -> None:
    """Refuse a name under which the host would find another embedding.

    The host finds a name in all folders below its own, in an order that changes; so does this.

    Args:
        name: of a new word.
        overwrite: whether one that exists may be replaced.

    Raises:
        InputError: there is one in some format, also through a link, or under a name that some
            file systems take for the same; or, where it may be replaced, there are several, or
            it lies outside the embeddings folders.
    """
    taken = _called(name)
    if not overwrite:
        _refuse(taken)
    exact = [path for path in taken if path.stem == name]
    if len({path.parent for path in exact}) > 1:
        raise InputError(
            f"Several embeddings are called “{name}” ({', '.join(map(_listed_as, exact))}), and "
            "ComfyUI may draw with any of them: choose another name, or remove all but one."
        )
    if exact and not _is_inside(exact[0]) and not exact[0].is_symlink():
        raise InputError(
            f"The embedding “{_listed_as(exact[0])}” lies outside the embeddings folder, where "
            "nothing is replaced: choose another name."
        )


def learned(name: str) -> Embedding | None:
    """The one word of this name that the host would find, if it is in the format of ours."""
    taken = _called(name)
    if len(taken) == 1 and taken[0].stem == name and taken[0].suffix == ".safetensors":
        with contextlib.suppress(InputError):
            return read_embedding(taken[0], name)
    return None


def try_to_write(name: str) -> None:
    """Find out before training whether a word of this name can be written.

    Raises:
        InputError: no.
    """
    path = _target(name)
    try_folder(path.parent, f"{name}{INTERRUPTED_ENDING}{path.suffix}")


def save(embedding: Embedding, file_format: str = "safetensors", *, overwrite: bool) -> Path:
    """Write a word into the embeddings folder, whole or not at all.

    A word of this name that exists is the one that is replaced, wherever it lies.

    Raises:
        InputError: the name is taken (and not by the same vectors) or unusable, or it cannot be
            written.
    """
    suffix = FORMATS[file_format].suffix
    path = _target(embedding.name, suffix)
    if suffix in HOST_SUFFIXES and not overwrite:
        # The same word in another format, or saved twice, is nothing to ask about.
        _refuse([p for p in _called(embedding.name) if not same_vectors(p, embedding)])
    make_folder(path.parent)
    write_embedding(embedding, path, overwrite=overwrite)
    return path


def _refuse(taken: Sequence[Path]) -> None:
    if taken:
        raise InputError(
            f"An embedding “{_listed_as(taken[0])}” already exists: choose another name, turn on "
            "overwrite, or draw with it through Load Embedding."
        )


def _target(name: str, suffix: str = ".safetensors") -> Path:
    """Where a word of this name is saved: beside one that exists, else the first folder."""
    exact = [path for path in _called(name) if path.stem == name and _is_inside(path.parent)]
    folder = exact[0].parent if exact else _folders()[0]
    return folder / f"{check_name(name)}{suffix}"


def _called(name: str) -> list[Path]:
    """The files that the host could take for the embedding of this name."""
    found = []
    for folder in _folders():
        for root, below, files in os.walk(folder, followlinks=True):
            if len(Path(root).relative_to(folder).parts) >= DEEPEST:
                below.clear()  # Links that lead in a circle have no end.
            for file in map(Path(root).joinpath, files):
                if file.suffix.lower() in HOST_SUFFIXES and same_name(file.stem, name):
                    found.append(file)
    return found


def _listed_as(path: Path) -> str:
    """A file as the list of embeddings has it: by its path in its folder."""
    folder = next((f for f in _folders() if path.is_relative_to(f)), path.parent)
    return path.relative_to(folder).as_posix()


def _is_inside(path: Path) -> bool:
    """Whether a path ends in one of the embeddings folders, with all links followed."""
    # Not `Path.resolve`, which fails on links that lead to themselves.
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(os.path.realpath(folder)) for folder in _folders())


def _folders() -> list[Path]:
    return [Path(folder) for folder in folder_paths.get_folder_paths("embeddings")]
