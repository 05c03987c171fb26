"""The trainer's own commands: `python -m textual_inversion.trainer.cli`."""

import sys

from .main import main

sys.exit(main())
