"""The two ways in which a run can fail by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .embedding import Embedding


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence or two: what is wrong, and what to do about it.
    """

    # ComfyUI shows the type with its module, which there is a long path.
    __module__ = "textual_inversion"


class DivergedError(RuntimeError):
    """The loss or its gradient stopped being a number.

    Attributes:
        last_good: the embedding after the last step that was sound, or None where
            not a single step was.
    """

    __module__ = "textual_inversion"

    def __init__(self, message: str, last_good: Embedding | None) -> None:
        super().__init__(message)
        self.last_good = last_good
