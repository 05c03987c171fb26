"""The operating system's lock on an open file.

When its holder dies, however it dies, the system lets it go. So no lock is ever left behind, and no
process id, which another process may have by now, has to be trusted.
"""

from __future__ import annotations

import errno
import os
import sys

_FAR = 1 << 30
"""What is locked on Windows: nobody else can read it, so it lies far behind the content."""


def take(file: int) -> bool | None:
    """Lock a file until it is closed, without waiting.

    Args:
        file: the descriptor of one that is open for writing.

    Returns:
        whether it is ours now; None where the file system knows no locks, as some network shares.
    """
    try:
        _lock(file)
    except OSError as error:
        held = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK, errno.EINTR)
        return False if error.errno in held else None
    return True


if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        at = os.lseek(file, 0, os.SEEK_CUR)
        try:
            os.lseek(file, _FAR, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(file, at, os.SEEK_SET)

else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
