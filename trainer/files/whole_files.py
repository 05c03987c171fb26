"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from ..errors import InputError
from .locking import take

TRIAL = 1024 * 1024
"""Bytes that a folder must have room for before anything is learned."""
_POSIX = os.name == "posix"
_MOMENT, _LONG = 0.0 if _POSIX else 1.0, 60.0
"""Seconds without a change after which a temporary file that nobody has locked is one whose process
was killed: Windows renames only what is closed, and some file systems know no locks at all."""
_WAITS = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Seconds between tries to replace a file on Windows."""
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


def write_whole(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write or replace a file so that nobody, ever, sees a part of it.

    Args:
        path: where; its folder must exist.
        content: all of it, or its parts one after the other.

    Raises:
        InputError: the disk refuses; nothing is left behind.
    """
    write_all_whole({path: content})


def write_all_whole(
    files: Mapping[Path, bytes | Iterable[bytes]], instead_of: Iterable[Path] = ()
) -> None:
    """Write or replace files that belong together, as `write_whole` does each.

    Under temporary names first, then on the disk for sure, then renamed; whatever ends the
    process in between leaves the old files as they were. What an earlier one has left so is
    deleted.

    Args:
        files: where -> all of it, or its parts one after the other; the folders must exist.
        instead_of: further files, which these replace.

    Raises:
        InputError: the disk refuses; nothing is left behind.
    """
    folders = {path.parent for path in files}
    for folder in folders:
        remove_abandoned(folder)
    temporaries = {path: _temporary(path.parent, path.name) for path in files}
    path = next(iter(files))
    try:
        with ExitStack() as opened:
            for path, content in files.items():
                file = opened.enter_context(_locked(temporaries[path]))
                file.writelines([content] if isinstance(content, bytes) else content)
                sync(file)
            if not _POSIX:
                opened.close()  # What is open cannot be renamed there.
            for path, temporary in temporaries.items():
                _rename(temporary, path)
        for path in instead_of:
            path.unlink()
        for folder in folders:
            _sync_folder(folder)
    except OSError as error:
        raise InputError(
            f"“{path.name}” cannot be written ({error.strerror}): check the folder, its "
            "permissions and the free disk space."
        ) from error
    finally:
        # Where the folder itself is no folder, this fails too, and would hide the sentence.
        with contextlib.suppress(OSError):
            for temporary in temporaries.values():
                temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> list[Path]:
    """Make a folder and those above it, where they are missing.

    Returns:
        those that were, from the innermost on.

    Raises:
        InputError: it cannot be made.
    """
    try:
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder “{path}” cannot be created ({error.strerror}): choose another, or check "
            "its permissions and the free disk space."
        ) from error
    return missing


def try_folder(path: Path, name: str, *, keep: bool = True) -> None:
    """Find out whether a folder, made if need be, takes a file of this name; it is not left there.

    Args:
        path: the folder.
        name: of the longest file that is to be written into it.
        keep: whether a folder that had to be made stays.

    Raises:
        InputError: no, or not one of `TRIAL` bytes.
    """
    made = make_folder(path)
    remove_abandoned(path)
    trial = _temporary(path, name)
    try:
        with _locked(trial) as file:
            file.write(secrets.token_bytes(TRIAL))
            sync(file)
    except OSError as error:
        raise InputError(
            f"Nothing can be written to “{path}” ({error.strerror}), so what is learned "
            "would be lost: check its permissions and the free disk space."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            trial.unlink(missing_ok=True)
            for folder in made if not keep else ():
                folder.rmdir()


def sync(file: IO[bytes] | IO[str]) -> None:
    """Have the disk hold what was written to an open file."""
    file.flush()
    os.fsync(file.fileno())


def remove_leftovers(folder: Path) -> None:
    """Delete what `write_whole` could not rename any more because its process was killed."""
    for path in folder.rglob(".*.tmp"):
        path.unlink(missing_ok=True)


def remove_abandoned(folder: Path, *, below: bool = False) -> None:
    """Delete what processes that were killed have left in a folder that others write to as well.

    Args:
        folder: where; it need not exist. No link is followed.
        below: also in all folders below it.
    """
    for root, folders, names in os.walk(folder):
        if not below:
            folders.clear()
        for path in (Path(root, name) for name in names if _TEMPORARY.fullmatch(name)):
            with contextlib.suppress(OSError):
                _remove_if_abandoned(path)


def _remove_if_abandoned(path: Path) -> None:
    if path.is_symlink() or not path.is_file():
        return
    age = time.time() - path.stat().st_mtime
    with path.open("r+b") as file:
        free = take(file.fileno())
        if free is False or age < (_LONG if free is None else _MOMENT):
            return
        if _POSIX:
            path.unlink()  # While it is ours: who has just made it sees that, see `_locked`.
            return
    path.unlink()


def _rename(temporary: Path, path: Path) -> None:
    """Windows refuses for as long as anybody reads what is there: a page, or a virus scanner."""
    for seconds in () if _POSIX else _WAITS:
        with contextlib.suppress(PermissionError):
            temporary.replace(path)
            return
        time.sleep(seconds)
    temporary.replace(path)


def _temporary(folder: Path, name: str) -> Path:
    """The name of a file that is being written."""
    return folder / f".{name}.{secrets.token_hex(4)}.tmp"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """A new file, locked as long as it is open, so that nobody takes it for an abandoned one."""
    while True:
        file = path.open("xb")
        # In the moment before it is locked, another process may have taken it for one.
        if take(file.fileno()) is not False and os.fstat(file.fileno()).st_nlink:
            break
        file.close()
        path.unlink(missing_ok=True)
    with file:
        yield file


def _sync_folder(folder: Path) -> None:
    """The new name too survives a power cut; Windows needs and allows nothing of the kind."""
    if not _POSIX:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
