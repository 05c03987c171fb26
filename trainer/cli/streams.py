"""Output that ends well: to a terminal of any encoding, a closed pipe or a full device."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from .commands import FAILED

CLOSED_PIPE = 141
"""Exit code of a process whose output nobody reads any more, as shells expect it."""


@dataclass
class Outcome:
    """The exit code of the process, as far as it is known."""

    code: int = 0


@contextmanager
def careful_output() -> Iterator[Outcome]:
    """Have what cannot be printed replaced, and what cannot be written told in a line."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    outcome = Outcome()
    try:
        yield outcome
        sys.stdout.flush()
    except BrokenPipeError:
        outcome.code = CLOSED_PIPE
        _drop_output()
    except OSError as error:
        if error.filename is not None:
            raise
        with suppress(OSError):
            print(f"The output cannot be written: {error.strerror or error}.", file=sys.stderr)
        outcome.code = FAILED
        _drop_output()


def _drop_output() -> None:
    """Python flushes once more as it ends; nothing may be left that it cannot write."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
