"""A folder of pictures as people have them: pictures, captions, masks, and whatever else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..embeddings.names import folded
from ..errors import InputError
from ..prompts import as_text, read_text
from ..settings import Settings
from .captions import words_of_file_name
from .decoding import read_masked, read_pixels, suffixes
from .pictures import Picture, as_unlike

MASK_ENDINGS = ("-mask", "-masklabel")
"""What the name of a picture's mask adds to the picture's; the second is OneTrainer's."""

CAPTION_SUFFIXES = (".txt", ".caption")
"""How the names of captions end, in any case; the first is taken where a picture has both."""

CAPTIONS = ("files", "names", "none")
"""Where captions come from: text files; else the names of the pictures; or nowhere."""

MOST_KEPT = 300_000_000
"""Bytes that a folder of large photos should not exceed for the sake of what is shown nearer."""

SHOWN = 10
"""How many files that were left out a sentence names."""

Watch = Callable[[Sequence[Path]], Iterable[Path]]
"""Passes on the pictures to read, and shows how far that is."""


@dataclass(frozen=True)
class FolderContents:
    """What was read from folders.

    Attributes:
        pictures: in the order of their names.
        notes: sentences about what was left out, and why.
    """

    pictures: Sequence[Picture]
    notes: Sequence[str]


def read_folder(
    folder: Path,
    captions: str = "files",
    settings: Settings | None = None,
    watch: Watch = lambda paths: paths,
) -> FolderContents:
    """Read all pictures of a folder; sub-folders and hidden files are not read.

    The caption of `cat.jpg` is `cat.txt` or `cat.caption`, its mask `cat-mask.png` (any kind of
    picture): white where to learn.

    Args:
        folder: where they are.
        captions: one of `CAPTIONS`.
        settings: of the run that they are read for; without them, pictures keep their size.
        watch: shows how far reading is.

    Raises:
        InputError: no such folder, no pictures in it, or one that cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder “{folder}”: give a folder with 3 to 10 pictures.")
    try:
        found = _sorted_out(folder)
    except OSError as error:
        raise InputError(f"The folder “{folder}” cannot be read ({error.strerror}).") from error
    if not found.pictures:
        raise InputError(
            " ".join(
                [f"The folder “{folder}” holds no pictures: put 3 to 10 into it.", *found.notes]
            )
        )
    pictures: list[Picture] = []
    room = MOST_KEPT // 3 // len(found.pictures)
    for path in watch(found.pictures):
        caption = _caption(path, found.texts.get(folded(path.stem)), captions)
        if (mask := found.masks.get(folded(path.stem))) is None:
            pixels, where = read_pixels(path, settings, room), None
        else:
            pixels, where = read_masked(path, mask, settings, room)
        pictures.append(Picture(pixels, caption, where, as_text(path.name)))
    return FolderContents(pictures, found.notes)


def read_folders(
    images: Path,
    unlike_images: Path | None = None,
    captions: str = "files",
    settings: Settings | None = None,
    watch: Watch = lambda paths: paths,
) -> FolderContents:
    """The pictures of a word, followed by those of what it does not mean, if there are any.

    Args:
        images: a folder.
        unlike_images: another, or None.
        captions: see `read_folder`.
        settings: see `read_folder`.
        watch: see `read_folder`.

    Raises:
        InputError: as `read_folder`.
    """
    likes = read_folder(images, captions, settings, watch)
    if unlike_images is None:
        return likes
    unlikes = read_folder(unlike_images, captions, settings, watch)
    return FolderContents(
        [*likes.pictures, *map(as_unlike, unlikes.pictures)], [*likes.notes, *unlikes.notes]
    )


@dataclass(frozen=True)
class _Found:
    """The files of a folder, by what they are for.

    Attributes:
        pictures: to learn from.
        texts: name of a picture, as `folded` gives it -> its caption.
        masks: the same -> its mask.
        notes: sentences about the rest.
    """

    pictures: Sequence[Path]
    texts: dict[str, Path]
    masks: dict[str, Path]
    notes: Sequence[str]


def _sorted_out(folder: Path) -> _Found:
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    known = suffixes()
    images = [path for path in files if path.suffix.lower() in known and path.is_file()]
    pictures = [path for path in images if _picture_of_mask(path) is None]
    names = {folded(path.stem) for path in pictures}
    left_out: dict[str, list[str]] = {}
    masks: dict[str, Path] = {}
    for path in images:
        name = _picture_of_mask(path)
        if name in masks:
            left_out.setdefault("second masks of a picture", []).append(path.name)
        elif name in names:
            masks[name] = path
        elif name is not None:
            left_out.setdefault("masks without a picture", []).append(path.name)
    texts: dict[str, Path] = {}
    for suffix in CAPTION_SUFFIXES:
        for path in files:
            if path.suffix.lower() != suffix or not path.is_file():
                continue
            if folded(path.stem) in texts:
                left_out.setdefault("second captions of a picture", []).append(path.name)
            elif folded(path.stem) in names:
                texts[folded(path.stem)] = path
            else:
                left_out.setdefault("texts without a picture", []).append(path.name)
    used = {*images, *texts.values()}
    for path in files:
        if path.is_dir():
            left_out.setdefault("folders, which are not searched", []).append(path.name)
        elif path not in used and path.suffix.lower() not in CAPTION_SUFFIXES:
            left_out.setdefault("not pictures that can be read here", []).append(path.name)
    notes = [
        f"Left out of “{folder.name}” ({reason}): {_list(paths)}."
        for reason, paths in left_out.items()
    ]
    return _Found(pictures, texts, masks, notes)


def _picture_of_mask(path: Path) -> str | None:
    """The name of the picture that a file is the mask of, as `folded` gives it; None for others."""
    name = folded(path.stem)
    ending = next((end for end in MASK_ENDINGS if name.endswith(end)), None)
    return None if ending is None else name.removesuffix(ending)


def _caption(picture: Path, text: Path | None, captions: str) -> str | None:
    if captions != "none" and text is not None:
        try:
            return read_text(text)
        except OSError as error:
            raise InputError(
                f"The caption “{text.name}” cannot be read ({error.strerror})."
            ) from error
    return words_of_file_name(as_text(picture.stem)) if captions == "names" else None


def _list(names: Sequence[str]) -> str:
    if len(names) > SHOWN:
        return f"{', '.join(names[:SHOWN])} and {len(names) - SHOWN} more"
    return ", ".join(names)
