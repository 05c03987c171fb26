"""The embedding files that a command line names: single ones, whole folders, standard input."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..embeddings.embedding import Embedding
from ..errors import InputError
from ..files.reading import (
    PICTURE_SUFFIXES,
    READABLE_SUFFIXES,
    only_shows_a_word,
    read_embedding,
    read_embeddings,
    suffix_of,
)
from ..model import TextEncoder
from .commands import BAD_INPUT, CommandParser

STANDARD = "-"
"""Stands for standard input, and for standard output."""

_STDIN_NAME = "stdin"


def add_sources(parser: CommandParser) -> None:
    """Add the files to read."""
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="Embedding files, folders of them, or - for standard input.",
    )
    parser.add_argument("--word", help="Which word, if a file holds several (default: all).")


def add_vocabulary(parser: CommandParser) -> None:
    """Add the model to compare with."""
    parser.add_argument(
        "--model",
        help="A diffusers folder or .safetensors checkpoint, with whose vocabulary the vectors are "
        "compared; or tiny-demo, the tiny model of this package.",
    )
    parser.add_argument(
        "--config",
        type=Path,
        help="For a .safetensors checkpoint: a diffusers folder of the same family to take the "
        "tokenizer from, instead of the internet.",
    )


def vocabularies(options: argparse.Namespace) -> list[TextEncoder]:
    """The text encoders of the model that the options name; none without one."""
    if options.model is None:
        return []
    if options.model in options.models:
        return list(options.models[options.model].load().text_encoders)
    # Only here, so that nobody has to wait for libraries that are not asked for.
    from ..diffusers_model.loading import load_vocabularies, silence_libraries

    silence_libraries()
    return load_vocabularies(Path(options.model), options.config)


Take = Callable[[Path, Embedding], Any]
"""What a command does with a word; the path is the file's, or `-`."""


def each_word(sources: Sequence[str], word: str | None, take: Take) -> int:
    """Do something with each word of files and folders.

    What cannot be used is told and does not keep the others from being used.

    Args:
        sources: files, folders, or `STANDARD`.
        word: which, where a file holds several; all if None.
        take: what to do; may raise `InputError`.

    Returns:
        the exit code.

    Raises:
        InputError: the only source cannot be used.
    """
    code = 0
    for number, path in enumerate(_files(sources)):
        try:
            for embedding in words_of(path, word):
                take(path, embedding)
        except InputError as error:
            # A picture in a folder need not carry a word.
            if str(path) not in sources and path.suffix.lower() in PICTURE_SUFFIXES:
                continue
            if number == 0 and sources == [str(path)]:
                raise
            print(error, file=sys.stderr)
            code = BAD_INPUT
    return code


def words_of(path: Path, word: str | None) -> list[Embedding]:
    """The words in a file, or in standard input; or the one that is asked for."""
    if str(path) == STANDARD:
        return _standard_input(word)
    return read_embeddings(path) if word is None else [read_embedding(path, word)]


def _standard_input(word: str | None) -> list[Embedding]:
    content = sys.stdin.buffer.read()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{_STDIN_NAME}{suffix_of(content)}"
        path.write_bytes(content)
        return words_of(path, word)


def _files(sources: Sequence[str]) -> Iterator[Path]:
    for source in sources:
        path = Path(source)
        if source == STANDARD or not path.is_dir():
            yield path
            continue
        files = sorted(p for p in path.rglob("*") if _is_listed(p))
        if not files:
            raise InputError(f"The folder “{path}” holds no embedding files: choose another.")
        yield from files


def _is_listed(path: Path) -> bool:
    hidden = path.name.startswith(".") or only_shows_a_word(path)
    return path.suffix.lower() in READABLE_SUFFIXES and not hidden and path.is_file()
