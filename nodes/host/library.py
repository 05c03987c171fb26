"""The host's embeddings folders: what is there, and where new words go."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import folder_paths

from ...trainer.embeddings.embedding import Embedding, check_name
from ...trainer.embeddings.metadata import is_negative
from ...trainer.errors import InputError
from ...trainer.files.reading import READABLE_SUFFIXES, read_embedding, read_notes
from ...trainer.files.thumbnails import preview_picture
from ...trainer.files.writing import FORMATS, write_embedding
from .embedding_files import EmbeddingFile, Known, present

HOST_SUFFIXES = frozenset({".safetensors", ".pt", ".bin"})
"""What `embedding:name` in a prompt finds."""


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


def fingerprint(file: str) -> str:
    """SHA-256 of a listed file's bytes, so that a changed file is noticed."""
    return hashlib.sha256(find(file).read_bytes()).hexdigest()


def target(name: str, file_format: str = "safetensors") -> Path:
    """Where a word of this name is saved: the first embeddings folder.

    Raises:
        InputError: the name is unusable.
    """
    return _folders()[0] / f"{check_name(name)}{FORMATS[file_format].suffix}"


def check_free(name: str) -> None:
    """Refuse a name under which the host would find another embedding.

    Raises:
        InputError: there is one in some format, in any folder; also as a link to elsewhere,
            which the host follows.
    """
    wanted = check_name(name)
    for file in present(_folders()):
        path = Path(file)
        if path.suffix.lower() in HOST_SUFFIXES and path.with_suffix("").as_posix() == wanted:
            raise InputError(
                f"An embedding “{file}” exists already: choose another name, turn on overwrite, "
                "or draw with it through Load Embedding."
            )


def save(embedding: Embedding, file_format: str = "safetensors", *, overwrite: bool) -> Path:
    """Write a word into the embeddings folder, whole or not at all.

    Raises:
        InputError: the name is taken (and not by the same vectors) or unusable.
    """
    path = target(embedding.name, file_format)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_embedding(embedding, path, overwrite=overwrite)
    return path


def _is_inside(path: Path) -> bool:
    """Whether a path ends in one of the embeddings folders, with all links followed."""
    real = path.resolve()
    return any(real.is_relative_to(folder.resolve()) for folder in _folders())


def _folders() -> list[Path]:
    return [Path(folder) for folder in folder_paths.get_folder_paths("embeddings")]
