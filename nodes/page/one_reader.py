"""Reads for everyone who asks: one at a time, and never the same twice over."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")

GATHERING = 0.02
"""Seconds that a call waits for others who ask at the same time, and would else need a second."""


class OneReader(Generic[T]):
    """Calls a function in a thread of its own, for all who ask before the call begins.

    Who asks while a call goes on gets the next one, so that an answer is never older than its
    question.

    Args:
        read: what is called.
    """

    def __init__(self, read: Callable[[], T]) -> None:
        self._read = read
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="textual-inversion-reader")
        self._lock = threading.Lock()
        self._waiting: Future[T] | None = None

    async def ask(self) -> T:
        """What the function returns, or raises."""
        with self._lock:
            if self._waiting is None:
                self._waiting = self._thread.submit(self._begin)
            waiting = self._waiting
        # One that gives up must not end it for the others.
        return await asyncio.shield(asyncio.wrap_future(waiting))

    def _begin(self) -> T:
        time.sleep(GATHERING)
        with self._lock:
            self._waiting = None
        return self._read()
