"""From pictures, masks and captions as users have them to what a step draws from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.toy_model import ToyModel
from textual_inversion.trainer.data import Picture, encode, fit, read_folder, read_picture
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.prompts import TEMPLATES
from textual_inversion.trainer.settings import Settings

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


def test_no_pictures() -> None:
    with pytest.raises(InputError, match="no pictures to learn from"):
        encode(ToyModel(), [], Settings())


@pytest.mark.parametrize("size", [(40, 100), (100, 40), (64, 64), (7, 5), (1, 90)])
def test_middle_of_the_picture_fills_the_square(size: tuple[int, int]) -> None:
    square, mask = fit(Picture(torch.rand(*size, 3)), 64, "flatten")
    assert square.shape == (64, 64, 3)
    assert 0 <= square.min() <= square.max() <= 1
    assert mask is None


def test_crop_is_central() -> None:
    pixels = torch.zeros(64, 128, 3)
    pixels[:, 32:96] = 1
    assert fit(Picture(pixels), 64, "flatten")[0].min() == 1


def transparent_red() -> Picture:
    """Opaque red on the left, transparent green on the right."""
    pixels = torch.zeros(64, 64, 4)
    pixels[:, :32] = torch.tensor([1.0, 0, 0, 1])
    pixels[:, 32:] = torch.tensor([0.0, 1, 0, 0])
    return Picture(pixels)


def test_transparent_parts_become_white() -> None:
    square, mask = fit(transparent_red(), 64, "flatten")
    assert square[0, 0].tolist() == [1, 0, 0]
    assert square[0, 63].tolist() == [1, 1, 1]
    assert mask is None


def test_opacity_as_mask() -> None:
    _, mask = fit(transparent_red(), 64, "mask")
    assert mask[:, :32].min() == 1
    assert mask[:, 32:].max() == 0


def test_opacity_narrows_a_given_mask() -> None:
    given = torch.zeros(64, 64)
    given[:32] = 1
    picture = transparent_red()
    _, mask = fit(Picture(picture.pixels, mask=given), 64, "mask")
    assert mask[:32, :32].min() == 1
    assert mask.sum() == 32 * 32


def test_mask_of_another_size_is_scaled() -> None:
    mask = torch.zeros(8, 8)
    mask[:, 4:] = 1
    _, fitted = fit(Picture(torch.rand(64, 64, 3), mask=mask), 64, "flatten")
    assert fitted.shape == (64, 64)
    assert fitted[:, 40:].min() == 1
    assert fitted[:, :24].max() == 0


def test_empty_mask_is_refused() -> None:
    with pytest.raises(InputError, match=r"The mask of b\.png is empty"):
        fit(Picture(torch.rand(8, 8, 3), mask=torch.zeros(8, 8), source="b.png"), 64, "flatten")


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 2), (0, 8, 3), (1, 8, 8, 3)])
def test_tensor_that_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="pictures must be"):
        fit(Picture(torch.rand(shape)), 64, "flatten")


def test_each_picture_has_its_prompts() -> None:
    pictures = [Picture(torch.rand(64, 64, 3)), Picture(torch.rand(64, 64, 3), "red my-word")]
    training_set = encode(ToyModel(), pictures, Settings(resolution=64, learn="style"))
    assert training_set.num_pictures == 2
    assert training_set.prompts[0] == TEMPLATES["style"]
    assert training_set.prompts[1] == ["red [name]"]
    assert training_set.latents.shape == (2, 3, 8, 8)
    assert training_set.masks is None


def test_caption_without_the_word_is_refused() -> None:
    with pytest.raises(InputError, match="does not contain the word"):
        encode(ToyModel(), [Picture(torch.rand(64, 64, 3), "a cat")], Settings())


def test_mirrored_pictures_and_masks_follow_the_plain_ones() -> None:
    mask = torch.zeros(64, 64)
    mask[:, :32] = 1
    pictures = [Picture(torch.rand(64, 64, 3), mask=mask), Picture(torch.rand(64, 64, 3))]
    settings = Settings(resolution=64, flip=True)
    training_set = encode(ToyModel(), pictures, settings)
    assert training_set.num_pictures == 2
    latents = training_set.latents
    torch.testing.assert_close(latents[2:], latents[:2].flip(-1))
    assert training_set.masks.shape == (4, 1, 8, 8)
    assert training_set.masks[0, 0, 0].tolist() == [1] * 4 + [0] * 4
    assert training_set.masks[2, 0, 0].tolist() == [0] * 4 + [1] * 4
    # A picture without a mask is learned from everywhere.
    assert training_set.masks[1].min() == 1
