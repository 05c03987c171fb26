"""Makes this checkout importable as `textual_inversion`, installed or not.

The repository's root is the package itself, so no folder can be put on the import path for it
without also offering its `nodes` and `tests`, which ComfyUI has too.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

from .paths import ROOT

PACKAGE = "textual_inversion"


class CheckoutFinder(MetaPathFinder):
    """Answers for the package's own name only; submodules are found the ordinary way."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != PACKAGE:
            return None
        return spec_from_file_location(
            fullname, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
        )


def use_checkout() -> None:
    """Import `textual_inversion` from this checkout, ahead of an installed copy."""
    if not any(isinstance(finder, CheckoutFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, CheckoutFinder())


def hide_repository_root() -> None:
    """Take the root off the import path, where `python -m pytest` puts it."""
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
