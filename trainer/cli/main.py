"""The command line: `textual-inversion train --model … --images … --name … --init …`."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any

from ..errors import InputError
from ..version import VERSION
from .commands import (
    BAD_INPUT,
    COMMANDS,
    CONFIG_FILE,
    FAILED,
    INTERRUPTED,
    TERMINATED,
    Command,
    CommandParser,
    Models,
)
from .streams import careful_output
from .termination import Terminated, terminable

NO_MODELS: Models = MappingProxyType({})


def main(
    arguments: Sequence[str] | None = None,
    further: Sequence[Command] = (),
    models: Models = NO_MODELS,
) -> int:
    """Run one command; returns the exit code of the process.

    Args:
        arguments: of the command line; the process's own if not given.
        further: commands that build on the trainer.
        models: that `--model` finds by name.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    with careful_output() as output:
        output.code = _run(given, (*COMMANDS, *further), models)
    return output.code


def _run(given: Sequence[str], commands: Sequence[Command], models: Models) -> int:
    verbose = "--verbose" in given
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s")
    try:
        options = _options(given, commands, models)
        run: Callable[[Any], int] = options.run
        with terminable():
            return run(options)
    except InputError as error:
        if verbose:
            traceback.print_exc()
        print(error, file=sys.stderr)
        return BAD_INPUT
    except Terminated:
        return TERMINATED
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        if error.filename is None:
            raise  # What is wrong with the output is told where that ends.
        print(f"“{error.filename}” cannot be used: {error.strerror or error}.", file=sys.stderr)
        return FAILED
    except RuntimeError as error:
        sentence = _explained(error)
        if sentence is None:
            raise
        print(sentence, file=sys.stderr)
        return FAILED


def _explained(error: RuntimeError) -> str | None:
    """What is said of an error that is nobody's mistake; None where it is one of ours."""
    # Only here, as both need torch, which whoever raised them has loaded already.
    import torch

    from ..learning.loop import DivergedError

    if isinstance(error, DivergedError):
        return str(error)
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return (
            "The device has too little memory: lower --batch-size or --resolution, or add "
            "--checkpointing."
        )
    return None


def _options(given: Sequence[str], commands: Sequence[Command], models: Models) -> Any:
    parser = parser_of(given, commands)
    parser.set_defaults(models=models, commands=commands, given=given)
    if parser.asked and any(one.partition("=")[0] == CONFIG_FILE for one in given):
        from .configuration import with_configuration

        given = with_configuration(given, parser.asked)
    return parser.parse_args(given)


def parser_of(given: Sequence[str], commands: Sequence[Command]) -> CommandParser:
    """The parser of the command line, with the options of the command that is asked for.

    Args:
        given: arguments.
        commands: all there are.
    """
    parser = CommandParser(
        prog="textual-inversion",
        description="Teach a text-to-image model a new word from a few pictures.",
        epilog="textual-inversion COMMAND --help says more about a command.",
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {VERSION}", help="Print the version."
    )
    places = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    asked = next((one for one in given if not one.startswith("-")), None)
    for command in commands:
        one = places.add_parser(command.name, help=command.help)
        if command.name == asked:
            command.fill(one)
            one.add_common()
            parser.asked = one
    return parser
