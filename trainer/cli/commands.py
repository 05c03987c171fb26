"""The table of commands, and what their parsers have in common.

A command's options are described in the module that runs it. That is loaded only when it is asked
for, so that the list of commands appears at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

FAILED, BAD_INPUT, INTERRUPTED, TERMINATED = 1, 2, 130, 143
"""Exit codes; the last two are what shells expect after Ctrl-C and SIGTERM."""

CONFIG_FILE, WRITE_CONFIG = "--config-file", "--write-config"
"""The options that read and write options."""

DEFAULT = " (default: %(default)s)"


@dataclass(frozen=True)
class Command:
    """A command of `textual-inversion`.

    Attributes:
        name: as it is typed.
        help: what it does, in a few words.
        module: where it is, in full.
        describe: name of the function in it that takes a parser, adds the options and sets the
            default `run`, which takes them and returns an exit code.
    """

    name: str
    help: str
    module: str
    describe: str

    def fill(self, parser: CommandParser) -> None:
        """Add the options of this command to its parser."""
        describe: Callable[[CommandParser], None]
        describe = getattr(import_module(self.module), self.describe)
        describe(parser)


COMMANDS: Sequence[Command] = tuple(
    Command(name, help, f"{__package__}.{module}", describe)
    for name, help, module, describe in (
        ("train", "learn a word from a folder of pictures", "train", "describe_train"),
        (
            "train-negative",
            "learn a word for negative prompts",
            "train",
            "describe_train_negative",
        ),
        (
            "train-ratings",
            "learn a word from liked and disliked pictures",
            "train",
            "describe_train_ratings",
        ),
        (
            "train-list",
            "learn many words, one for each line of a table",
            "train_list",
            "describe_train_list",
        ),
        ("inspect", "show what is in embeddings", "inspecting", "describe_inspect"),
        ("convert", "convert embeddings to another format", "converting", "describe_convert"),
        ("bundle", "put embeddings into a LoRA file", "converting", "describe_bundle"),
        ("preview", "draw embeddings' vectors as pictures", "converting", "describe_preview"),
        ("blend", "make a word from other words", "blending", "describe_blend"),
        (
            "completion",
            "print a script that completes commands and options in a shell",
            "completion",
            "describe_completion",
        ),
    )
)


@dataclass(frozen=True)
class KnownModel:
    """A model that `--model` finds by its name.

    Attributes:
        load: gives a `DiffusersModel`, on the CPU or on the `device` that it is given.
        resolution: for which it was made.
    """

    load: Callable[[], Any]
    resolution: int


Models = Mapping[str, KnownModel]


class CommandParser(argparse.ArgumentParser):
    """Shows rarely used options only where all are asked for.

    Attributes:
        asked: the parser of the command that is asked for, in that of the whole command line.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})
        self._rare: list[argparse.Action] = []
        self._titled: dict[str, Any] = {}
        self.asked: CommandParser | None = None

    def titled(self, title: str) -> Any:
        """The group of options under a title; made when it is first asked for."""
        if title not in self._titled:
            self._titled[title] = self.add_argument_group(title)
        return self._titled[title]

    def takes(self, option: str) -> bool:
        """Whether it has an option, such as `--overwrite`."""
        return option in self._option_string_actions

    def rarely(self, action: argparse.Action) -> None:
        """Leave an option out of the short help."""
        self._rare.append(action)

    def add_common(self) -> None:
        """Add what every command takes."""
        group = self.titled("messages")
        group.add_argument("--quiet", action="store_true", help="Print only results and errors.")
        group.add_argument(
            "--verbose", action="store_true", help="Also print messages of libraries, and where "
            "errors come from.",
        )  # fmt: skip
        if self._rare:
            group.add_argument(
                "--help-all", action=_HelpAll, nargs=0, help="Show all options and exit."
            )

    def format_help(self, *, everything: bool = False) -> str:
        """The help; without rarely used options unless asked for `everything`."""
        hidden = [] if everything else [(action, action.help) for action in self._rare]
        for action, _ in hidden:
            action.help = argparse.SUPPRESS
        try:
            return super().format_help()
        finally:
            for action, text in hidden:
                action.help = text


class _HelpAll(argparse.Action):
    def __call__(self, parser: Any, *_: Any) -> None:
        print(parser.format_help(everything=True), end="")
        parser.exit()
