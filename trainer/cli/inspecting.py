"""The command `inspect`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..embeddings.comparison import compare
from ..embeddings.embedding import Embedding
from ..embeddings.inspection import inspect
from ..errors import InputError
from .commands import CommandParser
from .configuration import command_of
from .sources import add_sources, add_vocabulary, each_word, vocabularies


def describe_inspect(parser: CommandParser) -> None:
    """Describe the command `inspect`."""
    parser.description = (
        "Show what is in embeddings: the models they are for, their vectors and their lengths, the "
        "nearest words, how similar the vectors are, and their notes."
    )
    parser.set_defaults(run=_run_inspect)
    add_sources(parser)
    add_vocabulary(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--json",
        action="store_true",
        help="Print a list with an object for each word, for other programs: what the text says, "
        "in full, and all notes as they are.",
    )
    how.add_argument(
        "--command",
        action="store_true",
        help="Print the command that made the word, as far as its notes say.",
    )
    how.add_argument("--compare", action="store_true", help="Compare two words, vector by vector.")


def _run_inspect(options: argparse.Namespace) -> int:
    if options.compare:
        return _compare(options)
    encoders = vocabularies(options)
    told: list[dict[str, Any]] = []
    between = ""

    def tell(path: Path, word: Embedding) -> None:
        nonlocal between
        if options.command:
            print(command_of(word))
            return
        report = inspect(word, encoders)
        if options.json:
            told.append(
                {"file": path.name, **asdict(report), "notes": dict(sorted(word.metadata.items()))}
            )
            return
        print(f"{between}{report}")
        between = "\n"

    code = each_word(options.sources, options.word, tell)
    if options.json:
        print(json.dumps(_rounded(told), ensure_ascii=False, indent=2))
    return code


def _compare(options: argparse.Namespace) -> int:
    words: list[Embedding] = []
    code = each_word(options.sources, options.word, lambda _, word: words.append(word))
    if code:
        return code
    if len(words) != 2:
        raise InputError(f"--compare takes two words, and these files hold {len(words)}.")
    print(compare(*words))
    return 0


def _rounded(value: Any) -> Any:
    """Numbers as far as they mean something: machines differ in the last digits."""
    if isinstance(value, float):
        return round(value, 4) + 0.0  # no minus before a zero
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(one) for one in value]
    return value
