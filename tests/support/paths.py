"""Where things are: the repository, the cache of the tests, data outside the repository."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The repository, which is also the Python package and the folder ComfyUI loads."""

TEMPLATES = ROOT / "example_workflows"

DATA = ROOT.parent / "shared" / "data"
"""Material that is not part of the project; tests that use it skip where it is absent."""

TAESD = DATA / "taesd"


def template(number: int) -> Path:
    """One of the templates, whose names begin with their numbers."""
    (found,) = TEMPLATES.glob(f"{number} *.json")
    return found


def cache_dir() -> Path:
    """The folder in which tests keep what is expensive to get or to make."""
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "textual-inversion-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
