"""The host's embeddings folders: what is there, and where new words go."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import folder_paths

from ...trainer.embeddings.embedding import Embedding, check_name
from ...trainer.embeddings.metadata import is_negative
from ...trainer.errors import InputError
from ...trainer.files.reading import PICTURE_SUFFIXES, READABLE_SUFFIXES, read_embedding, read_notes
from ...trainer.files.thumbnails import preview_picture
from ...trainer.files.writing import FORMATS, write_embedding

HOST_SUFFIXES = frozenset({".safetensors", ".pt", ".bin"})
"""What `embedding:name` in a prompt finds."""


def list_files() -> list[str]:
    """All embedding files below the embeddings folders, as the user names them."""
    return sorted(_files(), key=str.lower)


def negatives_first() -> list[str]:
    """All embedding files, those known to be for negative prompts before the others."""
    files = _files()

    def order(file: str) -> tuple[bool, str]:
        return not is_negative(file.rpartition(".")[0], _notes(files[file])), file.lower()

    return sorted(files, key=order)


def find(file: str) -> Path:
    """Where a listed file lies.

    Raises:
        InputError: it is not (any more) in an embeddings folder.
    """
    for folder in _folders():
        path = folder / file
        if _is_inside(path) and path.suffix.lower() in READABLE_SUFFIXES and path.is_file():
            return path
    raise InputError(
        f"There is no embedding “{file}” in the embeddings folder: choose another, or put the "
        "file itself (no link to elsewhere) there and press R to refresh the list."
    )


def read(file: str, word: str = "") -> Embedding:
    """Read a listed file; `word` is which word of several, else a name for the only one."""
    return read_embedding(find(file), word or None)


def preview(file: str) -> bytes | None:
    """A small JPEG that shows a listed file, if it or a picture beside it has one."""
    path = find(file)
    return preview_picture(path, _notes(path))


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
    for file in _present():
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


def _files() -> dict[str, Path]:
    """What `list_files` lists -> where it lies; links that lead elsewhere are left out."""
    present = _present()
    return {n: path for n, path in present.items() if not path.is_symlink() or _is_inside(path)}


def _present() -> dict[str, Path]:
    """Every embedding file below the embeddings folders, by the name that it is listed under."""
    found: dict[str, Path] = {}
    for folder in reversed(_folders()):
        files = {p for p in folder.rglob("*") if p.suffix.lower() in READABLE_SUFFIXES}
        # A picture may carry an embedding; beside another file of its name it only shows it.
        stems = {p.with_suffix("") for p in files if p.suffix.lower() not in PICTURE_SUFFIXES}
        found.update(
            (path.relative_to(folder).as_posix(), path)
            for path in files
            if path.suffix.lower() not in PICTURE_SUFFIXES
            or not (path.with_suffix("") in stems or path.stem.endswith(".preview"))
        )
    return found


def _is_inside(path: Path) -> bool:
    """Whether a path ends in one of the embeddings folders, with all links followed."""
    real = path.resolve()
    return any(real.is_relative_to(folder.resolve()) for folder in _folders())


def _notes(path: Path) -> Mapping[str, str]:
    """{} for what is listed but cannot be read, which is told to who chooses it."""
    try:
        status = path.stat()
    except OSError:
        return {}
    return _notes_of(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4096)
def _notes_of(path: Path, _changed: int, _size: int) -> Mapping[str, str]:
    """The host asks for lists of files often, and folders of embeddings are large."""
    return read_notes(path)


def _folders() -> list[Path]:
    return [Path(folder) for folder in folder_paths.get_folder_paths("embeddings")]
