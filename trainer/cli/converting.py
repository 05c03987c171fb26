"""The commands that write files of words: `convert`, `bundle` and `preview`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..embeddings.drawing import draw_embedding
from ..embeddings.embedding import Embedding
from ..embeddings.inspection import inspect
from ..embeddings.names import new_name
from ..errors import InputError
from ..files.bundles import bundle
from ..files.thumbnails import png
from ..files.whole_files import write_whole
from ..files.writing import (
    DIFFUSERS_SAFETENSORS,
    DTYPES,
    FORMATS,
    ONETRAINER,
    Format,
    encode_embedding,
    write_embedding,
)
from ..model import TextEncoder
from .commands import CommandParser
from .sources import STANDARD, add_sources, add_vocabulary, each_word, vocabularies, words_of

OVERWRITE = "Replace an existing file."


def describe_convert(parser: CommandParser) -> None:
    """Describe the command `convert`."""
    formats = "; ".join(f"{form.suffix}: {form.help}" for form in FORMATS.values())
    parser.description = (
        "Read embeddings of any known format and write them in another: one word into a file, or "
        "all words of files and folders into a folder."
    )
    parser.set_defaults(run=_run_convert)
    add_sources(parser)
    parser.add_argument(
        "target",
        help="The new file; its suffix chooses the format, its name is the word "
        f"({formats}). Or a folder that exists, for all words; or - for standard output.",
    )
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE)
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default=next(iter(FORMATS)),
        help="For a folder and standard output, where no suffix says so.",
    )
    parser.add_argument(
        "--encoders",
        metavar="KEYS",
        help="Write only the vectors of these text encoders, such as clip_l of a Flux word, for "
        "programs that read no others.",
    )
    _add_dtype(parser)
    layout = parser.add_mutually_exclusive_group()
    layout.add_argument(
        "--onetrainer",
        dest="layout",
        action="store_const",
        const=ONETRAINER,
        help=f"Name the tensors of a {ONETRAINER.suffix} file for {ONETRAINER.help}.",
    )
    layout.add_argument(
        "--diffusers",
        dest="layout",
        action="store_const",
        const=DIFFUSERS_SAFETENSORS,
        help=f"Name the tensors of a {DIFFUSERS_SAFETENSORS.suffix} file for "
        f"{DIFFUSERS_SAFETENSORS.help}.",
    )


def describe_bundle(parser: CommandParser) -> None:
    """Describe the command `bundle`."""
    parser.description = (
        "Write a copy of a LoRA file with words in it, as OneTrainer does. convert takes words out "
        "of such a file: textual-inversion convert LORA FOLDER."
    )
    parser.set_defaults(run=_run_bundle)
    parser.add_argument("lora", type=Path, help="A LoRA in a .safetensors file.")
    add_sources(parser)
    parser.add_argument("--output", type=Path, required=True, help="The new file.")
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE)
    _add_dtype(parser)


def describe_preview(parser: CommandParser) -> None:
    """Describe the command `preview`."""
    parser.description = (
        "Draw the vectors of embeddings: their values as colours, their lengths as bars. This is "
        "not what a model would draw with the word."
    )
    parser.set_defaults(run=_run_preview)
    add_sources(parser)
    parser.add_argument(
        "--output",
        help="The new .png, a folder that exists, or - for standard output (default: "
        "NAME.vectors.png beside the source).",
    )
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE)
    add_vocabulary(parser)


def _add_dtype(parser: CommandParser) -> None:
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default=next(iter(DTYPES)),
        help="Number format of the file: float16 makes it half as large, and rounds.",
    )


def _run_convert(options: argparse.Namespace) -> int:
    target = Path(options.target)
    if options.target != STANDARD and target.is_dir():
        suffix = (options.layout or FORMATS[options.format]).suffix

        def convert(_: Path, word: Embedding) -> None:
            _write(options, word.renamed(new_name(word.name)), target / f"{word.name}{suffix}")

        return each_word(options.sources, options.word, convert)
    word = _only_word(options.sources, options.word)
    if options.target == STANDARD:
        _print_bytes(_encoded(options, word))
        return 0
    word = word.renamed(new_name(target.stem))
    if not target.parent.is_dir():
        raise InputError(f"There is no folder “{target.parent}”: create it first.")
    _write(options, word, target)
    return 0


def _only_word(sources: list[str], word: str | None) -> Embedding:
    if len(sources) > 1 or Path(sources[0]).is_dir():
        raise InputError(
            "Several files can only be converted into a folder: name one that exists as the last."
        )
    words = words_of(Path(sources[0]), word)
    if len(words) > 1:
        names = ", ".join(f"“{one.name}”" for one in words)
        raise InputError(
            f"“{sources[0]}” holds {len(words)} words: choose one of {names} with --word, or name "
            "a folder that exists for all of them."
        )
    return words[0]


def _write(options: argparse.Namespace, word: Embedding, target: Path) -> None:
    picked = _picked(options, word)
    # Asked before, as here the way out has a name.
    if target.exists() and options.layout is not None and not options.overwrite:
        raise InputError(_exists(target))
    try:
        written = write_embedding(
            picked,
            target,
            overwrite=options.overwrite,
            format=options.layout,
            dtype=DTYPES[options.dtype],
        )
    except InputError as error:
        raise InputError(
            str(error).replace("or allow to overwrite it", "or add --overwrite")
        ) from None
    for path in written:
        print(path)


def _picked(options: argparse.Namespace, word: Embedding) -> Embedding:
    if options.encoders is None:
        return word
    keys = [key.strip() for key in options.encoders.split(",") if key.strip()]
    missing = [key for key in keys if key not in word.vectors]
    if missing or not keys:
        raise InputError(
            f"“{word.name}” has no vectors for “{', '.join(missing)}”: --encoders takes some of "
            f"{', '.join(word.vectors)}."
        )
    return word.with_vectors({key: word.vectors[key] for key in keys})


def _encoded(options: argparse.Namespace, word: Embedding) -> bytes:
    form: Format = options.layout or FORMATS[options.format]
    parts = encode_embedding(_picked(options, word), form, DTYPES[options.dtype])
    if len(parts) > 1:
        raise InputError("This format takes two files: name one instead of “-”.")
    return parts[""]


def _run_bundle(options: argparse.Namespace) -> int:
    words: list[Embedding] = []
    code = each_word(options.sources, options.word, lambda _, word: words.append(word))
    if code:
        return code
    for word in words:
        new_name(word.name)
    target: Path = options.output
    if target.exists() and not options.overwrite:
        raise InputError(_exists(target, "--output"))
    bundle(options.lora, words, target, overwrite=True, dtype=DTYPES[options.dtype])
    print(target)
    return 0


def _run_preview(options: argparse.Namespace) -> int:
    encoders = vocabularies(options)
    given = None if options.output is None else Path(options.output)
    into_folder = given is not None and given.is_dir()

    def draw(source: Path, word: Embedding) -> None:
        picture = _picture(word, encoders)
        if options.output == STANDARD or (given is None and str(source) == STANDARD):
            _print_bytes(picture)
            return
        if given is None or into_folder:
            folder = given if given is not None else source.parent
            # A word of several in a file has a name of its own.
            stem = source.stem if word.name == source.stem else word.name
            target = folder / f"{stem}.vectors.png"
        else:
            target = given
        _save_picture(picture, target, overwrite=options.overwrite)

    if given is not None and not into_folder and options.output != STANDARD:
        draw(Path(options.sources[0]), _only_word(options.sources, options.word))
        return 0
    return each_word(options.sources, options.word, draw)


def _picture(word: Embedding, encoders: list[TextEncoder]) -> bytes:
    return png(draw_embedding(word, inspect(word, encoders)))


def _save_picture(picture: bytes, target: Path, *, overwrite: bool) -> None:
    if target.suffix.lower() != ".png":
        raise InputError(f"“{target.name}” does not end in .png: choose another --output.")
    if target.exists() and not overwrite:
        raise InputError(_exists(target, "--output"))
    write_whole(target, picture)
    print(target)


def _exists(target: Path, option: str = "name") -> str:
    return f"“{target}” already exists: choose another {option}, or add --overwrite."


def _print_bytes(content: bytes) -> None:
    if sys.stdout.isatty():
        raise InputError("A terminal cannot show a file: send “-” to another command or a file.")
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
