"""The command line: `textual-inversion train --model … --images … --name … --init …`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..errors import InputError
from ..learning.loop import DivergedError
from .options import BAD_INPUT, FAILED, INTERRUPTED, TERMINATED
from .termination import Terminated, terminable
from .train import add_train, add_train_negative

AddCommand = Callable[[Any], None]
"""Adds a parser, whose default `run` takes the options and returns an exit code."""


def main(arguments: Sequence[str] | None = None, further: Sequence[AddCommand] = ()) -> int:
    """Run one command; returns the exit code of the process.

    Args:
        arguments: of the command line; the process's own if not given.
        further: functions that add commands which build on the trainer.
    """
    options = _parser(further).parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        with terminable():
            return run(options)
    except InputError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except DivergedError as error:
        print(error, file=sys.stderr)
        return FAILED
    except torch.cuda.OutOfMemoryError:
        print(
            "The device has too little memory: lower --batch-size or --resolution, or add "
            "--checkpointing.",
            file=sys.stderr,
        )
        return FAILED
    except Terminated:
        return TERMINATED
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        place = f"“{error.filename}”" if error.filename else "A file"
        print(f"{place} cannot be used: {error.strerror or error}.", file=sys.stderr)
        return FAILED


def _parser(further: Sequence[AddCommand]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="textual-inversion",
        description="Teach a text-to-image model a new word from a few pictures.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add_command in (add_train, add_train_negative, *further):
        add_command(commands)
    return parser
