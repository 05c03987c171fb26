"""What goes wrong beside the learning: told, and the run goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import InputError

SURVIVED = (OSError, InputError, RuntimeError)
"""A full disk, a deleted folder, a word that cannot be written, too little memory for a picture;
but never an interrupt of a user or a host."""


class SideFailures:
    """Lets a run survive what fails beside it.

    Args:
        tell: takes each sentence; the log has it too.
    """

    def __init__(self, tell: Callable[[str], object] = lambda sentence: None) -> None:
        self._tell = tell
        self._told: set[str] = set()

    @contextmanager
    def survived(self, what: str) -> Iterator[None]:
        """Go on behind this block where it fails.

        Args:
            what: a sentence of what did not happen, without its full stop. Told once.
        """
        try:
            yield
        except SURVIVED as error:
            if what not in self._told:
                self._told.add(what)
                sentence = f"{what}, but the run continues: {error}"
                logging.warning("Textual inversion: %s", sentence)
                self._tell(sentence)
