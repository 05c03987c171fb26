"""What is raised where a user can do something about it."""

from __future__ import annotations


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence or two: what is wrong, and what to do about it.
    """

    # ComfyUI shows the type with its module, which there is a long path.
    __module__ = "textual_inversion"


def reason_of(error: Exception) -> str:
    """What went wrong, for a sentence that names the file itself; "" where the error is silent."""
    return (isinstance(error, OSError) and error.strerror) or str(error)
