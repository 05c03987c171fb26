"""The command line with all its commands: `textual-inversion`, or `python -m textual_inversion`."""

from __future__ import annotations

import sys

from .demo.command import DEMO, MODELS
from .trainer.cli.main import main as run


def main() -> int:
    """Run one command; returns the exit code of the process."""
    return run(further=[DEMO], models=MODELS)


if __name__ == "__main__":
    sys.exit(main())
