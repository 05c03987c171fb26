"""The ratings of this host: where they are kept, and what the page hears of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import folder_paths

from ...trainer.data.pairs import FEWEST
from ...trainer.embeddings.names import new_name
from ...trainer.errors import InputError
from ...trainer.runs.ratings import DISLIKED, LIKED, RatingFolder, pairs_in


def ratings_folder() -> Path:
    """The folder of all folders of ratings, below the host's output; it need not exist yet."""
    return Path(folder_paths.get_output_directory()) / "textual_inversion_ratings"


def ratings_of(name: str) -> RatingFolder:
    """The folder of ratings of this name; it need not exist yet.

    Raises:
        InputError: no word can be called so, or a link of this name leads elsewhere.
    """
    path = ratings_folder() / new_name(name)
    if path.is_symlink():
        raise InputError(
            f"The ratings “{path.name}” are a link to elsewhere: put the folder itself into "
            f"“{ratings_folder().name}” in ComfyUI's output folder, or choose another name."
        )
    return RatingFolder(path)


def names_of_ratings() -> list[str]:
    """The names of all folders of ratings, those first in which something changed last."""
    changed = {folder.path.name: folder.path.stat().st_mtime_ns for folder in _folders()}
    return sorted(changed, key=lambda name: -changed[name])


def state_of(name: str | None) -> str:
    """What changes whenever a picture of this name, or of any if None, is liked or disliked."""
    folders = _folders() if name is None else [ratings_of(name)]
    decided = (
        f"{folder.path.name}/{one.key} {one.rating}"
        for folder in folders
        for one in folder.all()
        if one.rating in (LIKED, DISLIKED)
    )
    return " ".join(sorted(decided))


def described(name: str) -> dict[str, Any]:
    """All ratings of this name, how many pairs they make, and how many a run wants at least.

    Raises:
        InputError: see `ratings_of`.
    """
    folder = ratings_of(name)
    ratings = folder.all()
    shown = [asdict(rating) for rating in ratings]
    for rating in shown:
        del rating["model"]
    return {
        "name": folder.path.name,
        "ratings": shown,
        "pairs": pairs_in(ratings),
        "wanted": FEWEST,
    }


def _folders() -> Iterator[RatingFolder]:
    parent = ratings_folder()
    for path in parent.iterdir() if parent.is_dir() else ():
        with suppress(InputError):  # Other folders are none of ours.
            if path.is_dir() and new_name(path.name) == path.name:
                yield ratings_of(path.name)
