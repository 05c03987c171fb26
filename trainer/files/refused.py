"""Why an embedding file was not read, before it is known which file it was."""

from __future__ import annotations


class Refused(Exception):
    """The content of a file cannot be used.

    The message is the rest of a sentence that begins with the name of the file.
    """


DAMAGED = "is damaged or incomplete: download it again, or copy it again from where it came from."
"""What is said of content that breaks the rules of its own format."""
