"""The command `blend`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..embeddings.embedding import Embedding
from ..embeddings.evaluation import evaluate
from ..embeddings.expressions import FUNCTIONS
from ..embeddings.names import new_name
from ..errors import InputError
from ..files.reading import READABLE_SUFFIXES, read_embedding
from ..files.whole_files import write_whole
from ..files.writing import DTYPES, write_embedding
from ..prompts import PLACEHOLDER
from .commands import DEFAULT, CommandParser
from .sources import add_vocabulary, vocabularies

MOST_DRAWN = 16
"""Pictures of a blend side by side."""


def describe_blend(parser: CommandParser) -> None:
    """Describe the command `blend`."""
    parser.description = (
        "Make a word from others with an expression, such as “0.7 * cat-toy + 0.3 * [a red cat]”. "
        "a + b, a - b and 2 * a are sums of vectors; a | b is one after the other; a[0:2] is the "
        "first two vectors; [some text] is the vectors of a text. "
        + " ".join(f"{help}." for _, help in FUNCTIONS.values())
        + " Put names with characters other than letters, digits, _, - and . in quotes; a minus "
        "after a name needs a space."
    )
    parser.set_defaults(run=_run_blend)
    parser.add_argument("expression", help="See above; put it in quotes.")
    parser.add_argument(
        "target", type=Path, help="The new file; its suffix chooses the format, its name the word."
    )
    parser.add_argument(
        "--words",
        type=Path,
        default=Path(),
        metavar="FOLDER",
        help="The folder that holds the words (default: here). A name in quotes may also be a "
        "path from there.",
    )
    parser.add_argument("--overwrite", action="store_true", help="Replace an existing file.")
    parser.add_argument(
        "--dtype", choices=DTYPES, default=next(iter(DTYPES)), help="Number format of the file."
    )
    add_vocabulary(parser)
    drawing = parser.titled("drawing")
    drawing.add_argument(
        "--draw",
        type=int,
        choices=range(MOST_DRAWN + 1),
        default=0,
        metavar="COUNT",
        help="Draw this many pictures with the word, into NAME.preview.png beside the file; needs "
        "--model.",
    )
    drawing.add_argument(
        "--prompt", default=f"a photo of {PLACEHOLDER}", help="What to draw" + DEFAULT + "."
    )
    drawing.add_argument(
        "--resolution", type=int, help="Size of the pictures (default: 512, or the tiny model's)."
    )
    drawing.add_argument("--seed", type=int, default=0, help="Of the first picture" + DEFAULT + ".")


def _run_blend(options: argparse.Namespace) -> int:
    target: Path = options.target
    name = new_name(target.stem)
    picture = target.with_name(f"{target.stem}.preview.png")
    for path in (target, picture) if options.draw else (target,):
        if path.exists() and not options.overwrite:
            raise InputError(f"“{path}” already exists: choose another name, or add --overwrite.")
    if options.draw and options.model is None:
        raise InputError("Drawing needs a model: add --model, or leave --draw out.")

    def find(word: str) -> Embedding:
        return find_word(options.words, word)

    word = evaluate(name, options.expression, find, lambda: vocabularies(options))
    drawn = None
    if options.draw:
        # Only here, so that nobody has to wait for libraries that are not asked for; and before
        # anything is written, as it may be refused.
        from .drawing import draw_word

        drawn = draw_word(options, word)
    for path in write_embedding(
        word, target, overwrite=options.overwrite, dtype=DTYPES[options.dtype]
    ):
        print(path)
    if drawn is not None:
        write_whole(picture, drawn)
        print(picture)
    return 0


def find_word(folder: Path, name: str) -> Embedding:
    """The word of a name in a folder, or of a path from there.

    Raises:
        InputError: there is none, or more than one.
    """
    path = folder / name
    if path.suffix.lower() in READABLE_SUFFIXES and path.is_file():
        return read_embedding(path)
    present = path.parent.iterdir() if path.parent.is_dir() else ()
    found = sorted(
        one
        for one in present
        if one.suffix.lower() in READABLE_SUFFIXES and one.stem == path.name and one.is_file()
    )
    if not found:
        raise InputError(
            f"There is no embedding “{name}” in “{folder}”: name the folder with --words, or write "
            "the path in quotes."
        )
    if len(found) > 1:
        raise InputError(
            f"“{name}” may be {' or '.join(f'“{one.name}”' for one in found)}: write the whole "
            "name of the file in quotes."
        )
    return read_embedding(found[0])
