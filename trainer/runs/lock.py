"""One process at a time in the folder of a run.

The lock is the operating system's own, on a file that stays in the folder: when its holder dies,
however it dies, the system lets it go. So no lock is ever left behind, and no process id, which
another process may have by now, has to be trusted. The file says in words who holds it.

Where a file system knows no locks, as some network shares do, a run goes on without one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from ..errors import InputError
from ..files.whole_files import make_folder
from .run_folder import RunFolder

FILE_NAME = "lock"

_TRIES, _PAUSE = 5, 0.02
"""Whoever asks who holds a lock takes it for a moment (`holder`): that is not yet a refusal."""
_LONGEST = 500
_FAR = 1 << 30
"""What is locked on Windows: nobody else can read it, so it lies far behind the text."""
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
                if _take(self._file):
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
        return "" if _take(file) else _text(file)
    finally:
        os.close(file)


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"The run's folder “{path}” cannot be written ({error.strerror}): check its rights and "
        "the space on the disk."
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


if sys.platform == "win32":
    import msvcrt

    def _take(file: int) -> bool:
        try:
            os.lseek(file, _FAR, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            return _unless_held(error)
        return True

else:
    import fcntl

    def _take(file: int) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return _unless_held(error)
        return True


def _unless_held(error: OSError) -> bool:
    """Anything but this says that the file system knows no locks."""
    held = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK, errno.EINTR)
    return error.errno not in held
