"""A folder of rated pictures: what was drawn, with which prompt, and whether it is liked.

    NAME/
        0f3a….png           a picture, named by its content and its prompt
        0f3a….json          prompt, seed, model, rating, and when it was rated

Every file is written whole or not at all, the picture before what is said of it; nothing is ever
changed but the rating. So whatever ends the process, no rating that was given is lost, and several
processes can add to one folder. A picture that is added twice is there once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from torch import Tensor

from ..data.decoding import read_pixels
from ..data.pairs import count_pairs, grouped
from ..data.pictures import Picture, as_unlike
from ..errors import InputError
from ..files.thumbnails import in_bytes, png
from ..files.whole_files import make_folder, write_whole
from ..prompts import as_text
from ..settings import Settings

WAITING, LIKED, DISLIKED, SKIPPED = "", "liked", "disliked", "skipped"
RATINGS = (WAITING, LIKED, DISLIKED, SKIPPED)
"""Values of a rating; a picture that waits has none yet."""

_KEY = re.compile(r"[0-9a-f]{16}")
_LARGEST_JSON = 64 * 1024


@dataclass(frozen=True)
class Rating:
    """What is said of a picture.

    Attributes:
        key: of the picture in its folder.
        prompt: that it was drawn with.
        seed: of its noise, where it is known.
        model: fingerprint of the model that drew it, where it is known.
        rating: one of `RATINGS`.
        date: when it was rated, or added where it waits; ISO 8601 in UTC.
    """

    key: str
    prompt: str
    seed: int | None = None
    model: str = ""
    rating: str = WAITING
    date: str = ""


@dataclass(frozen=True)
class RatingFolder:
    """A folder of rated pictures; it need not exist yet."""

    path: Path

    def add(self, pixels: Tensor, prompt: str, seed: int | None = None, model: str = "") -> Rating:
        """Keep a picture that waits for its rating; one that is there already stays as it is.

        Args:
            pixels: float32 [height, width, 3] in 0..1.
            prompt: that it was drawn with.
            seed: see `Rating`.
            model: see `Rating`.

        Raises:
            InputError: the disk refuses.
        """
        shown = in_bytes(pixels)
        digest = hashlib.sha256(str(tuple(shown.shape)).encode())
        digest.update(shown.numpy().tobytes() + prompt.encode())
        known = self.find(digest.hexdigest()[:16])
        if known is not None:
            return known
        rating = Rating(digest.hexdigest()[:16], prompt, seed, model, WAITING, _now())
        make_folder(self.path)
        write_whole(self.picture_file(rating.key), png(pixels))
        self._write(rating)
        return rating

    def rate(self, key: str, rating: str) -> Rating:
        """Say what is thought of a picture; `WAITING` takes back what was said.

        What is said already keeps its date, so a request that comes twice changes no order.

        Raises:
            InputError: there is no such picture or rating, or the disk refuses.
        """
        if rating not in RATINGS:
            raise InputError(f"A picture is rated {LIKED}, {DISLIKED} or {SKIPPED}.")
        known = self.get(key)
        if rating == known.rating:
            return known
        changed = replace(known, rating=rating, date=_now())
        self._write(changed)
        return changed

    def all(self) -> list[Rating]:
        """All that is said of pictures that are there, in the order in which it was said.

        What cannot be read is left out.
        """
        keys = [path.stem for path in self.path.glob("*.json")] if self.path.is_dir() else []
        found = [rating for key in keys if (rating := self.find(key)) is not None]
        return sorted(found, key=lambda rating: (rating.date, rating.key))

    def get(self, key: str) -> Rating:
        """What is said of a picture.

        Raises:
            InputError: there is nothing; see `find`.
        """
        found = self.find(key)
        if found is None:
            raise InputError(f"The ratings “{self.path.name}” have no picture “{key[:16]}”.")
        return found

    def find(self, key: str) -> Rating | None:
        """What is said of a picture; None where there is nothing, or links lead elsewhere."""
        path, picture = self.path / f"{key}.json", self.picture_file(key)
        try:
            if not _KEY.fullmatch(key) or path.is_symlink() or picture.is_symlink():
                return None
            if path.stat().st_size > _LARGEST_JSON:
                return None
            said = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(said, dict) or not picture.is_file():
            return None
        seed = said.get("seed")
        names = ("prompt", "model", "rating", "date")
        texts = {name: as_text(str(said.get(name, ""))) for name in names}
        if texts["rating"] not in RATINGS:
            return None
        return Rating(key=key, seed=seed if isinstance(seed, int) else None, **texts)

    def picture_file(self, key: str) -> Path:
        """The picture of this key."""
        return self.path / f"{key}.png"

    def pictures(self, settings: Settings | None = None) -> list[Picture]:
        """The liked pictures, and the disliked ones as `unlike`; their prompts as captions.

        Args:
            settings: of the run that they are read for; without them, pictures keep their size.

        Raises:
            InputError: nothing is rated, or a picture cannot be read.
        """
        rated = {LIKED: list[Picture](), DISLIKED: list[Picture]()}
        for rating in self.all():
            if rating.rating in rated:
                path = self.picture_file(rating.key)
                picture = Picture(read_pixels(path, settings), rating.prompt, source=path.name)
                rated[rating.rating].append(picture)
        if not any(rated.values()):
            raise InputError(
                f"There are no rated pictures in “{self.path}”: give a folder of ratings, or "
                "folders of liked and disliked pictures."
            )
        return [*rated[LIKED], *map(as_unlike, rated[DISLIKED])]

    def _write(self, rating: Rating) -> None:
        said: dict[str, Any] = asdict(rating)
        del said["key"]
        content = json.dumps(said, indent=2, ensure_ascii=False) + "\n"
        write_whole(self.path / f"{rating.key}.json", content.encode())


def pairs_in(ratings: Sequence[Rating]) -> int:
    """How many pairs of a liked and a disliked picture of one prompt there are."""
    rated = [one for one in ratings if one.rating in (LIKED, DISLIKED)]
    prompts = [" ".join(one.prompt.split()) for one in rated]
    return count_pairs(grouped(prompts, [one.rating == LIKED for one in rated]))


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()
