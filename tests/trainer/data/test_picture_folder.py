"""Pictures, captions and masks from a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from textual_inversion.trainer.data.picture_folder import read_folder, read_picture
from textual_inversion.trainer.errors import InputError

ORIENTATION = 0x0112


def picture_file(path: Path, pixels: np.ndarray, **options) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def half_red(height: int = 4, width: int = 8) -> np.ndarray:
    """Red on the left, black on the right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = 255
    return pixels


def test_pixels_are_read_as_they_are(tmp_path: Path) -> None:
    picture = read_picture(picture_file(tmp_path / "a.png", half_red()))
    assert picture.pixels.shape == (4, 8, 3)
    assert picture.pixels[0, 0].tolist() == [1, 0, 0]
    assert picture.caption is None
    assert picture.source == "a.png"


def test_exif_rotation_is_respected(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # to be turned a quarter clockwise
    picture = read_picture(picture_file(tmp_path / "a.png", half_red(), exif=exif))
    assert picture.pixels.shape == (8, 4, 3)
    assert picture.pixels[0, 0].tolist() == [1, 0, 0]
    assert picture.pixels[7, 0].tolist() == [0, 0, 0]


def test_greyscale_and_palette_become_colour(tmp_path: Path) -> None:
    Image.fromarray(half_red()).convert("L").save(tmp_path / "grey.png")
    Image.fromarray(half_red()).convert("P").save(tmp_path / "palette.gif")
    for picture in read_folder(tmp_path):
        assert picture.pixels.shape == (4, 8, 3)


def test_16_bit_picture_keeps_its_brightness(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 32768, np.uint16)).save(tmp_path / "deep.png")
    assert read_picture(tmp_path / "deep.png").pixels.mean() == pytest.approx(0.5, abs=0.01)


def test_caption_beside_the_picture(tmp_path: Path) -> None:
    picture_file(tmp_path / "a.png", half_red())
    (tmp_path / "a.txt").write_text("a photo of my-word\n")
    assert read_folder(tmp_path)[0].caption == "a photo of my-word\n"


def test_unreadable_picture_is_named(tmp_path: Path) -> None:
    whole = picture_file(tmp_path / "whole.png", half_red(300, 300)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("not a picture")
    for name in ("cut.png", "text.jpg"):
        with pytest.raises(InputError, match=f"“{name}” cannot be read as a picture"):
            read_picture(tmp_path / name)


def test_folder_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(InputError, match="holds no pictures: put 3 to 10 into it"):
        read_folder(tmp_path)
    with pytest.raises(InputError, match="There is no folder"):
        read_folder(tmp_path / "missing")


@pytest.mark.parametrize("name", ["a-mask.png", "a-masklabel.png", "a-mask.jpg"])
def test_mask_beside_the_picture(name: str, tmp_path: Path) -> None:
    picture_file(tmp_path / "a.png", half_red())
    Image.fromarray(np.full((8, 16), 255, np.uint8)).save(tmp_path / name)
    (picture,) = read_folder(tmp_path)
    assert picture.source == "a.png"
    assert picture.mask.tolist() == [[1] * 16] * 8


def test_grey_and_transparent_parts_of_a_mask_count_less(tmp_path: Path) -> None:
    picture_file(tmp_path / "a.png", half_red())
    mask = np.full((1, 2, 4), 255, np.uint8)
    mask[0, 0, :3] = 51
    mask[0, 1, 3] = 0
    Image.fromarray(mask).save(tmp_path / "a-mask.png")
    torch.testing.assert_close(read_folder(tmp_path)[0].mask, torch.tensor([[0.2, 0.0]]))


def test_picture_that_is_called_a_mask(tmp_path: Path) -> None:
    """A carnival mask is a picture like any other, where there is none that it belongs to."""
    picture_file(tmp_path / "venice-mask.png", half_red())
    assert [picture.source for picture in read_folder(tmp_path)] == ["venice-mask.png"]


def test_where_captions_come_from(tmp_path: Path) -> None:
    picture_file(tmp_path / "01-a_red_mug.png", half_red())
    picture_file(tmp_path / "b.png", half_red())
    (tmp_path / "b.txt").write_text("\ufeffa blue mug", encoding="utf-8")
    captions = {
        source: [picture.caption for picture in read_folder(tmp_path, source)]
        for source in ("files", "names", "none")
    }
    assert captions == {
        "files": [None, "a blue mug"],
        "names": ["a red mug", "a blue mug"],
        "none": [None, None],
    }
