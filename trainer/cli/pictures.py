"""The pictures of a word, read from folders."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from ..data.picture_folder import read_folders
from ..data.pictures import Picture
from ..settings import Settings

NOTICED = 2.0
"""Seconds from which on reading pictures is told of."""


def pictures_of(
    images: Path,
    unlike_images: Path | None,
    captions: str,
    settings: Settings,
    *,
    quiet: bool = False,
) -> Sequence[Picture]:
    """The pictures of a word, as the run needs them; tells what is left out and what it took.

    Raises:
        InputError: see `read_folders`.
    """
    began = time.monotonic()

    def bar(paths: Sequence[Path]) -> Iterable[Path]:
        hidden = quiet or not sys.stderr.isatty()
        read: Iterable[Path] = tqdm(
            paths, "reading", unit="picture", leave=False, delay=NOTICED, disable=hidden
        )
        return read

    found = read_folders(images, unlike_images, captions, settings, bar)
    for note in found.notes if not quiet else ():
        print(note, file=sys.stderr)
    seconds = time.monotonic() - began
    if seconds > NOTICED and not quiet:
        print(f"{len(found.pictures)} pictures were read in {seconds:.0f} s.", file=sys.stderr)
    return found.pictures
