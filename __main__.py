"""The command line with all its commands: `textual-inversion`, or `python -m textual_inversion`."""

from __future__ import annotations

import sys

from .demo.command import add_demo
from .trainer.cli.embedding_files import FILE_COMMANDS
from .trainer.cli.main import main as run
from .trainer.cli.train_list import add_train_list


def main() -> int:
    """Run one command; returns the exit code of the process."""
    return run(further=[add_train_list, *FILE_COMMANDS, add_demo])


if __name__ == "__main__":
    sys.exit(main())
