"""One process at a time in the folder of a run.

The lock is the operating system's own, on a file that stays in the folder; it ends with its holder
(`files.locking`). The file says in words who holds it.

Where a file system knows no locks, as some network shares do, a run goes on without one.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from ..errors import InputError
from ..files.locking import take
from ..files.whole_files import make_folder
from .run_folder import RunFolder

FILE_NAME = "lock"

_TRIES, _PAUSE = 5, 0.02
"""Whoever asks who holds a lock takes it for a moment (`holder`): that is not yet a refusal."""
_LONGEST = 500
_FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class HeldError(Exception):
    """Another holds the lock; the text says who."""


class RunLock:
    """The lock of a run's folder, from its making until `release`.

    Args:
        folder: the run's; it exists.

    Raises:
        HeldError: another process, or another run of this one, holds it.
        InputError: the disk refuses.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._file = -1
        try:
            self._file = os.open(folder.path / FILE_NAME, _FLAGS | os.O_CREAT, 0o644)
        except OSError as error:
            raise _unwritable(folder.path, error) from error
        try:
            for _ in range(_TRIES):
                if take(self._file) is not False:
                    break
                time.sleep(_PAUSE)
            else:
                raise HeldError(_text(self._file))
            # The lock holds without it, and a full disk is told where it matters.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, 0)
                os.lseek(self._file, 0, os.SEEK_SET)
                os.write(self._file, _this_process().encode())
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let it go; a second time does nothing."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def __del__(self) -> None:
        self.release()


def lock_new_folder(parent: Path, name: str, runs: Mapping[int, Path]) -> tuple[RunFolder, RunLock]:
    """Make the folder of a new run, which nobody else takes at the same moment.

    Args:
        parent: the folder of all runs; made if need be.
        name: of the word.
        runs: its runs so far, by their number.

    Raises:
        InputError: the disk refuses.
    """
    # A folder without settings is one whose process was killed while it was made.
    begun = [number for number, path in runs.items() if RunFolder(path).settings_file.exists()]
    number = max(begun, default=0)
    while True:
        number += 1
        folder = RunFolder(parent / f"{name}_{number:05d}")
        for part in ("checkpoints", "words", "previews"):
            make_folder(folder.path / part)
        with contextlib.suppress(HeldError):
            lock = RunLock(folder)
            if not folder.settings_file.exists():
                return folder, lock
            lock.release()


def holder(folder: RunFolder) -> str:
    """Who trains in the folder of a run at present; "" where nobody does."""
    try:
        file = os.open(folder.path / FILE_NAME, _FLAGS)
    except OSError:
        return ""
    try:
        return "" if take(file) is not False else _text(file)
    finally:
        os.close(file)


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"The run's folder “{path}” cannot be written ({error.strerror}): check its "
        "permissions and the free disk space."
    )


def _this_process() -> str:
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return f"process {os.getpid()} on {socket.gethostname()} since {now}"


def _text(file: int) -> str:
    """What the holder has written; one that has only just begun has not."""
    with contextlib.suppress(OSError):
        os.lseek(file, 0, os.SEEK_SET)
        if text := os.read(file, _LONGEST).decode(errors="replace").strip():
            return text
    return "another process"
