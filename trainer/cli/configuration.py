"""Options from a file and in a file, and the command that made a word."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..embeddings.embedding import Embedding
from ..embeddings.provenance import expression_of
from ..errors import InputError, reason_of
from ..files.whole_files import write_whole
from ..prompts import as_text
from ..settings import NegativeSettings, RatingSettings, Settings, described_fields
from .commands import CONFIG_FILE, WRITE_CONFIG, CommandParser

_NOT_WRITTEN = frozenset(
    {"help", "help_all", "config_file", "write_config", "quiet", "verbose", "dry_run"}
)


def add_configuration(parser: CommandParser) -> None:
    """Add the options that read and write options."""
    group = parser.titled("output")
    group.add_argument(
        CONFIG_FILE,
        type=Path,
        metavar="FILE",
        help="Take options from a TOML file of lines such as num_vectors = 2, whose keys are the "
        "options with _ for -. Options given here override it.",
    )
    group.add_argument(
        WRITE_CONFIG,
        type=Path,
        metavar="FILE",
        help="Write the options given here into such a file, and stop.",
    )


def with_configuration(given: Sequence[str], command: CommandParser) -> list[str]:
    """The arguments with those of the file that `--config-file` names put before them.

    Args:
        given: arguments, with `--config-file` among them.
        command: the parser of the command in them.

    Raises:
        InputError: the file cannot be read, or holds what no option takes.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument(CONFIG_FILE, type=Path, required=True)
    known, _ = finder.parse_known_args(given)
    place = next((i for i, one in enumerate(given) if not one.startswith("-")), 0)
    options = [
        one
        for key, value in read_toml(known.config_file).items()
        for one in _as_option(key, value)
        if not (value is False and _is_switch(key, command))
    ]
    return [*given[: place + 1], *options, *given[place + 1 :]]


def _is_switch(key: str, command: CommandParser) -> bool:
    """Whether an option can only be turned on, so that false says what is usual."""
    name = key.replace("_", "-")
    return command.takes(f"--{name}") and not command.takes(f"--no-{name}")


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file says.

    Raises:
        InputError: it cannot be read, or this Python has nothing to read it with.
    """
    try:
        import tomllib
    except ModuleNotFoundError:  # before Python 3.11
        try:
            import tomli as tomllib
        except ModuleNotFoundError:
            raise InputError(
                f"“{path.name}” needs Python 3.11 or newer, or the package tomli: pip install tomli"
            ) from None
    try:
        options: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        return options
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            f"“{path}” cannot be read ({reason_of(error)}): give a TOML file in UTF-8."
        ) from error


def _as_option(key: str, value: object) -> list[str]:
    option = "--" + key.replace("_", "-")
    if isinstance(value, bool):
        return [option if value else f"--no-{option[2:]}"]
    if isinstance(value, (str, int, float)):
        return [f"{option}={value}"]
    raise InputError(f"{key} in the configuration is not a text, a number, true or false.")


def write_configuration(options: argparse.Namespace, parser: CommandParser) -> None:
    """Write the options that differ from what is usual into the file that they name.

    Raises:
        InputError: the file exists or cannot be written, or an option is not UTF-8.
    """
    path: Path = options.write_config
    if path.exists() and not options.overwrite:
        raise InputError(f"“{path}” already exists: choose another name, or add --overwrite.")
    lines = [
        f"{action.dest} = {_as_toml(value)}"
        for action in parser._actions
        if action.option_strings and action.dest not in _NOT_WRITTEN
        for value in [getattr(options, action.dest, action.default)]
        if value != action.default and value is not None
    ]
    head = f"# textual-inversion {options.given[0]} {CONFIG_FILE} {as_text(path.name)}\n"
    write_whole(path, f"{head}{chr(10).join(lines)}\n".encode())
    print(path)


def _as_toml(value: object) -> str:
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    text = str(value)
    if as_text(text) != text:
        raise InputError(
            f"“{as_text(text)}” is not UTF-8, as all of a TOML file has to be: rename it."
        )
    # A basic string of TOML is one of JSON, but for DEL, which TOML wants escaped too.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def command_of(word: Embedding) -> str:
    """The command that made a word, with CAPITALS where its notes do not tell.

    Raises:
        InputError: they tell nothing of how it was made.
    """
    expression = expression_of(word.metadata)
    if expression is not None:
        return shlex.join(["textual-inversion", "blend", expression, f"{word.name}.safetensors"])
    try:
        noted = json.loads(word.metadata["textual_inversion.settings"])
        settings = {str(key): value for key, value in noted.items()}
    except (KeyError, ValueError, AttributeError, RecursionError):
        raise InputError(
            f"The notes of “{word.name}” do not say how it was made: only words made by this "
            "package record it, and only in .safetensors files."
        ) from None
    return shlex.join(_training(word.metadata, settings))


def _training(notes: Mapping[str, str], settings: Mapping[str, Any]) -> list[str]:
    kind: type[Settings] = Settings
    name, pictures = "train", ["--images", "PICTURES"]
    if "objective" in settings:
        kind, name = NegativeSettings, "train-negative"
    elif "word_for" in settings:
        kind, name, pictures = RatingSettings, "train-ratings", ["--ratings", "RATINGS"]
    command = ["textual-inversion", name]
    command += ["--model", notes.get("sd_checkpoint_name", "MODEL"), *pictures]
    for field, _ in described_fields(kind):
        value = settings.get(field.name, field.default)
        # What auto stood for is the same again, whatever becomes usual later.
        if value != field.default or field.name == "name":
            command += _as_option(field.name, value)
    if "textual_inversion.start_from" in notes:
        command += ["--start-from", notes["textual_inversion.start_from"].split(",")[0]]
    return command
