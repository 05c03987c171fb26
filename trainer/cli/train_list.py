"""The command `train-list`: a word for each line of a table, spread over the processes."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

from ..diffusers_model.model import DiffusersModel
from ..embeddings.names import same_name
from ..errors import InputError, reason_of
from ..files.checkpoint_hash import CheckpointHash
from ..files.whole_files import try_folder
from ..files.writing import FORMATS
from ..learning.distributed import joined
from ..learning.loop import DivergedError
from ..prompts import read_text
from ..runs.training import INTERRUPTED_ENDING
from ..settings import Settings, described_fields
from .commands import BAD_INPUT, CommandParser
from .configuration import add_configuration, write_configuration
from .options import (
    add_files,
    add_machine,
    add_recipes,
    add_settings,
    file_of,
    load_model,
    refuse_taken,
    refuse_unwritable,
    settings_of,
)
from .pictures import pictures_of
from .train import preview_of, train_to_file

FOLDERS = ("images", "unlike_images")
"""Columns that name folders of pictures, from the table's own folder on."""


@dataclass(frozen=True)
class Entry:
    """One line of a table: a word to learn.

    Attributes:
        settings: of its run; the name of the word is among them.
        images: its folder of pictures.
        unlike_images: a folder of pictures of what it does not mean, or None.
    """

    settings: Settings
    images: Path
    unlike_images: Path | None = None


def describe_train_list(parser: CommandParser) -> None:
    """Describe the command `train-list`."""
    parser.description = (
        "Learn a word for each line of a table. Words whose files exist are skipped, so the same "
        "command continues after it was cut short. Started by torchrun, each process learns words "
        "of its own."
    )
    parser.usage = "%(prog)s TABLE --model MODEL [options]"
    parser.set_defaults(run=partial(_run_list, parser))
    add_files(parser)
    add_recipes(parser)
    parser.add_argument(
        "table",
        type=Path,
        help="A CSV file with the columns name, images (a folder of pictures, relative to the "
        "table's) and, optionally, unlike_images (another such folder) and any of the settings, "
        "such as init_words. What it leaves out is taken from the options.",
    )
    add_settings(parser, Settings, named=False)
    add_configuration(parser)
    add_machine(parser)


def _run_list(parser: CommandParser, options: argparse.Namespace) -> int:
    if options.write_config is not None:
        write_configuration(options, parser)
        return 0
    entries = read_table(options.table, options)
    waiting = [e for e in entries if options.overwrite or not _is_done(options, e)]
    if not waiting:
        print("All words of the table have been learned already.")
        return 0
    longest = max((e.settings.name for e in waiting), key=lambda name: len(name.encode()))
    try_folder(options.output, f"{longest}{INTERRUPTED_ENDING}{FORMATS[options.format].suffix}")
    every = [entry.settings for entry in waiting]
    model = load_model(options, max(every, key=lambda one: one.batch_size * one.resolution**2))
    refuse_unwritable(model, options.format)
    with joined(model.device) as processes:
        # The first process decides, because the others may see files that it has just written.
        mine = processes.agree(waiting)[processes.rank :: processes.size]
    failed = False
    checkpoint = CheckpointHash(Path(options.model))
    for entry in mine:
        try:
            _learn(options, model, checkpoint, entry, bar_place=processes.rank)
        except (InputError, DivergedError) as error:
            print(f"{entry.settings.name}: {error}", file=sys.stderr)
            failed = True
    return BAD_INPUT if failed else 0


def _learn(
    options: argparse.Namespace,
    model: DiffusersModel,
    checkpoint: CheckpointHash,
    entry: Entry,
    bar_place: int,
) -> None:
    settings = entry.settings
    target = file_of(options, settings.name)
    if settings.previews:
        refuse_taken(preview_of(target), overwrite=options.overwrite)
    train_to_file(
        model,
        pictures_of(entry.images, entry.unlike_images, options.captions, settings),
        settings,
        target,
        checkpoint,
        overwrite=options.overwrite,
        bar_place=bar_place,
        quiet=options.quiet,
    )


def _is_done(options: argparse.Namespace, entry: Entry) -> bool:
    return file_of(options, entry.settings.name).exists()


def read_table(path: Path, options: argparse.Namespace) -> list[Entry]:
    """The words that a table asks for.

    Args:
        path: a CSV file with a line of names above.
        options: what the table leaves out.

    Raises:
        InputError: a file, a line or a value that cannot be used; the sentence names it.
    """
    try:
        reader = csv.DictReader(StringIO(read_text(path)), strict=True)
        lines = [(reader.line_num, line) for line in reader]
        columns = list(reader.fieldnames or [])
    except (OSError, csv.Error) as error:
        raise InputError(
            f"The table “{path}” cannot be read ({reason_of(error)}): give a CSV file in UTF-8."
        ) from error
    known = {f.name for f, _ in described_fields(Settings)} - {"checkpointing"} | {*FOLDERS}
    for column in columns:
        if column not in known:
            raise InputError(
                f"The table “{path.name}” has a column “{column}”: its columns are name, images, "
                "unlike_images and any of the settings."
            )
    if not {"name", "images"} <= set(columns):
        raise InputError(f"The table “{path.name}” needs the columns name and images.")
    if not lines:
        raise InputError(f"The table “{path.name}” names no word: write a line for each.")
    entries = [_entry(line, path.parent, options, f"line {number}") for number, line in lines]
    names = [e.settings.name for e in entries]
    for name in names:
        if sum(same_name(name, other) for other in names) > 1:
            raise InputError(f"The table “{path.name}” names “{name}” twice: name each word once.")
    return entries


def _entry(
    line: Mapping[str | None, Any], folder: Path, options: argparse.Namespace, place: str
) -> Entry:
    if None in line or None in line.values():
        raise InputError(f"In the table, {place} has more or fewer cells than the first line.")
    defaults = {f.name: f.default for f, _ in described_fields(Settings)}
    changes = {
        str(column): _value(text.strip(), defaults[str(column)], f"{column} in {place}")
        for column, text in line.items()
        if column not in FOLDERS and (text.strip() or column == "name")
    }
    images, unlike = (str(line.get(column) or "").strip() for column in FOLDERS)
    try:
        return Entry(
            settings_of(options, **changes), folder / images, folder / unlike if unlike else None
        )
    except InputError as error:
        raise InputError(f"In the table, {place}: {error}") from error


def _value(text: str, default: Any, place: str) -> Any:
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise InputError(f"{place} is “{text}”: write true or false.")
        return text.lower() == "true"
    try:
        return type(default)(text)
    except ValueError:
        raise InputError(f"{place} is “{text}”, where a number is needed.") from None
