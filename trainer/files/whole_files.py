"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

from ..errors import InputError

TRIAL = 1024 * 1024
"""Bytes that a folder must have room for before anything is learned."""
ABANDONED = 60.0
"""Seconds after which a temporary file of this name is one whose process was killed."""


def write_whole(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write or replace a file so that nobody, ever, sees a part of it.

    Args:
        path: where; its folder must exist.
        content: all of it, or its parts one after the other.

    Raises:
        InputError: the disk refuses; nothing is left behind.
    """
    write_all_whole({path: content})


def write_all_whole(files: Mapping[Path, bytes | Iterable[bytes]]) -> None:
    """Write or replace files that belong together, as `write_whole` does each.

    Under temporary names first, then on the disk for sure, then renamed; whatever ends the
    process in between leaves the old files as they were. What an earlier one has left so is
    deleted.

    Raises:
        InputError: the disk refuses; nothing is left behind.
    """
    for path in files:
        _remove_abandoned(path)
    temporaries = {
        path: path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp") for path in files
    }
    path = next(iter(files))
    try:
        for path, content in files.items():
            with temporaries[path].open("xb") as file:
                file.writelines([content] if isinstance(content, bytes) else content)
                sync(file)
        for path, temporary in temporaries.items():
            temporary.replace(path)
        for folder in {path.parent for path in files}:
            _sync_folder(folder)
    except OSError as error:
        raise InputError(
            f"“{path.name}” cannot be written ({error.strerror}): check the folder, its rights "
            "and the space on the disk."
        ) from error
    finally:
        # Where the folder itself is no folder, this fails too, and would hide the sentence.
        with contextlib.suppress(OSError):
            for temporary in temporaries.values():
                temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are missing.

    Raises:
        InputError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder “{path}” cannot be made ({error.strerror}): choose another, or check its "
            "rights and the space on the disk."
        ) from error


def try_folder(path: Path, name: str) -> None:
    """Find out whether a folder, made if need be, takes a file of this name; it is not left there.

    Args:
        path: the folder.
        name: of the longest file that is to be written into it.

    Raises:
        InputError: no, or not one of `TRIAL` bytes.
    """
    make_folder(path)
    trial = path / f".{name}.{secrets.token_hex(4)}.tmp"
    try:
        with trial.open("xb") as file:
            file.write(secrets.token_bytes(TRIAL))
            sync(file)
    except OSError as error:
        raise InputError(
            f"Nothing can be written into “{path}” ({error.strerror}), so that what is learned "
            "would be lost: check its rights and the space on the disk."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            trial.unlink(missing_ok=True)


def sync(file: IO[bytes] | IO[str]) -> None:
    """Have the disk hold what was written to an open file."""
    file.flush()
    os.fsync(file.fileno())


def remove_leftovers(folder: Path) -> None:
    """Delete what `write_whole` could not rename any more because its process was killed."""
    for path in folder.rglob(".*.tmp"):
        path.unlink(missing_ok=True)


def _remove_abandoned(path: Path) -> None:
    for old in path.parent.glob(f".{glob.escape(path.stem)}*.{'[0-9a-f]' * 8}.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > ABANDONED:
                old.unlink()


def _sync_folder(folder: Path) -> None:
    """The new name too survives a power cut; Windows needs and allows nothing of the kind."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
