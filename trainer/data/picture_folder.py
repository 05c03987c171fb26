"""A folder of pictures as the command line takes it: pictures, captions and masks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from ..errors import InputError
from .captions import words_of_file_name
from .pictures import Picture, as_unlike

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})

MASK_ENDINGS = ("-mask", "-masklabel")
"""What the name of a picture's mask adds to the picture's; the second is OneTrainer's."""

CAPTIONS = ("files", "names", "none")
"""Where captions come from: text files; else the names of the pictures; or nowhere."""


def read_picture(path: Path, captions: str = "files") -> Picture:
    """Read a picture as people see it: turned as its EXIF data says, with its alpha.

    Args:
        path: of the picture.
        captions: one of `CAPTIONS`. A text file has the picture's name and stands beside it.

    Raises:
        InputError: not a picture that Pillow can read.
    """
    pixels = torch.from_numpy(np.asarray(_open(path), dtype=np.float32) / 255)
    note = path.with_suffix(".txt")
    caption = None
    if captions != "none" and note.is_file():
        caption = note.read_text(encoding="utf-8-sig", errors="replace")
    elif captions == "names":
        caption = words_of_file_name(path.stem)
    return Picture(pixels, caption, source=path.name)


def read_folder(folder: Path, captions: str = "files") -> list[Picture]:
    """Read all pictures of a folder in the order of their names; sub-folders are not read.

    The mask of `cat.jpg` is `cat-mask.png` (any kind of picture): white where to learn.

    Raises:
        InputError: no such folder, no pictures in it, or one that cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder “{folder}”: give a folder with 3 to 10 pictures.")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
    masks = _masks(paths)
    pictures = [p for p in paths if p not in masks.values()]
    if not pictures:
        raise InputError(f"The folder “{folder}” holds no pictures: put 3 to 10 into it.")
    read = [read_picture(path, captions) for path in pictures]
    return [
        replace(picture, mask=_read_mask(masks[path.stem])) if path.stem in masks else picture
        for path, picture in zip(pictures, read, strict=True)
    ]


def read_folders(
    images: Path, unlike_images: Path | None = None, captions: str = "files"
) -> list[Picture]:
    """The pictures of a word, followed by those of what it does not mean, if there are any.

    Raises:
        InputError: as `read_folder`.
    """
    unlike = [] if unlike_images is None else read_folder(unlike_images, captions)
    return [*read_folder(images, captions), *map(as_unlike, unlike)]


def _masks(paths: list[Path]) -> dict[str, Path]:
    """Name of a picture without suffix -> its mask."""
    stems = {path.stem for path in paths}
    return {
        path.stem.removesuffix(ending): path
        for path in paths
        for ending in MASK_ENDINGS
        if path.stem.endswith(ending) and path.stem.removesuffix(ending) in stems
    }


def _read_mask(path: Path) -> torch.Tensor:
    """White where to learn, [height, width] in 0..1; what is transparent is black."""
    picture = _open(path)
    grey = np.asarray(picture.convert("L"), dtype=np.float32) / 255
    if picture.mode == "RGBA":
        grey = grey * (np.asarray(picture.getchannel("A"), dtype=np.float32) / 255)
    return torch.from_numpy(grey)


def _open(path: Path) -> Image.Image:
    """An upright picture in RGB, or in RGBA if any of it is transparent."""
    try:
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened)
            if upright.mode.startswith("I"):
                # 16 bits of grey: `convert` would cut off all but the darkest 256 levels.
                upright = Image.fromarray((np.asarray(upright) / 257).astype(np.uint8))
            return upright.convert("RGBA" if upright.has_transparency_data else "RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"“{path.name}” cannot be read as a picture ({error}): replace it or take it out."
        ) from error
