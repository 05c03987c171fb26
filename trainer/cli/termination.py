"""The end of a command by SIGTERM, as schedulers and containers send it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does: what was learned is kept."""


@contextmanager
def terminable() -> Iterator[None]:
    """Raise `Terminated` here on SIGTERM, as schedulers and containers send it, once."""

    def end(number: int, frame: object) -> None:
        # Often it comes twice, to the process and to its group; the second must not end the rescue.
        signal.signal(number, signal.SIG_IGN)
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread is told of signals.
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
