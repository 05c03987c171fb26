"""The commands that work on embedding files: `convert`, `inspect` and `preview`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from PIL import Image

from ..embeddings.drawing import draw_embedding
from ..embeddings.embedding import Embedding
from ..embeddings.inspection import inspect
from ..embeddings.names import new_name
from ..errors import InputError
from ..files.reading import read_embedding
from ..files.writing import FORMATS, ONETRAINER, write_embedding
from ..model import TextEncoder


def add_convert(commands: Any) -> None:
    """Add the command `convert` to the parser of `textual-inversion`."""
    formats = "; ".join(f"{form.suffix}: {form.help}" for form in FORMATS.values())
    parser = commands.add_parser(
        "convert",
        help="write an embedding in another format",
        description="Read an embedding of any known format and write it in another.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=_run_convert)
    _add_source(parser)
    parser.add_argument(
        "target",
        type=Path,
        help=f"The new file; its suffix chooses the format, its name is the word ({formats}).",
    )
    parser.add_argument("--overwrite", action="store_true", help="Replace an existing file.")
    parser.add_argument(
        "--onetrainer",
        action="store_true",
        help=f"Name the tensors of a {ONETRAINER.suffix} file for {ONETRAINER.help}.",
    )


def add_inspect(commands: Any) -> None:
    """Add the command `inspect` to the parser of `textual-inversion`."""
    parser = commands.add_parser(
        "inspect",
        help="say what is in an embedding",
        description="Say what is in an embedding: for which models it is, its vectors and their "
        "lengths, the words nearest to them, and its notes.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=_run_inspect)
    _add_source(parser)
    _add_model(parser)


def add_preview(commands: Any) -> None:
    """Add the command `preview` to the parser of `textual-inversion`."""
    parser = commands.add_parser(
        "preview",
        help="draw an embedding's vectors as a picture",
        description="Draw the vectors of an embedding: their values as colours, their lengths as "
        "bars. This is not what a model would draw with the word.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=_run_preview)
    _add_source(parser)
    parser.add_argument(
        "--output", type=Path, help="The new .png (default: NAME.vectors.png beside the source)."
    )
    parser.add_argument("--overwrite", action="store_true", help="Replace an existing file.")
    _add_model(parser)


FILE_COMMANDS = (add_convert, add_inspect, add_preview)


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, help="The embedding file.")
    parser.add_argument("--word", help="Which word, where a file holds several.")


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        type=Path,
        help="A diffusers folder or .safetensors checkpoint with whose vocabulary the vectors are "
        "compared.",
    )
    parser.add_argument(
        "--config",
        type=Path,
        help="For a .safetensors checkpoint: a diffusers folder of the same family, whose "
        "tokenizer names the words instead of one from the internet.",
    )


def _run_convert(options: argparse.Namespace) -> int:
    target: Path = options.target
    word = read_embedding(options.source, options.word).renamed(new_name(target.stem))
    if not target.parent.is_dir():
        raise InputError(f"There is no folder “{target.parent}”: make it first.")
    layout = ONETRAINER if options.onetrainer else None
    write_embedding(word, target, overwrite=options.overwrite, format=layout)
    print(target)
    return 0


def _run_inspect(options: argparse.Namespace) -> int:
    word = read_embedding(options.source, options.word)
    print(inspect(word, _vocabularies(options)))
    return 0


def _run_preview(options: argparse.Namespace) -> int:
    word = read_embedding(options.source, options.word)
    target = options.output or options.source.with_name(f"{options.source.stem}.vectors.png")
    if target.suffix.lower() != ".png":
        raise InputError(f"“{target.name}” does not end in .png: choose another --output.")
    if target.exists() and not options.overwrite:
        raise InputError(f"“{target}” exists already: choose another --output, or add --overwrite.")
    _write_picture(word, _vocabularies(options), target)
    print(target)
    return 0


def _write_picture(word: Embedding, vocabularies: list[TextEncoder], target: Path) -> None:
    pixels = draw_embedding(word, inspect(word, vocabularies))
    try:
        Image.fromarray((pixels * 255).round().byte().numpy()).save(target)
    except OSError as error:
        raise InputError(
            f"“{target}” cannot be written ({error.strerror}): choose another --output."
        ) from error


def _vocabularies(options: argparse.Namespace) -> list[TextEncoder]:
    if options.model is None:
        return []
    # Only here, so that nobody has to wait for libraries that are not asked for.
    from ..diffusers_model.loading import load_vocabularies, silence_libraries

    silence_libraries()
    return load_vocabularies(options.model, options.config)
