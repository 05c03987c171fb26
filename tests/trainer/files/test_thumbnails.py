"""Pictures of words: inside a file, and beside it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from PIL import Image
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.files.reading import read_notes
from textual_inversion.trainer.files.thumbnails import preview_picture, thumbnail
from textual_inversion.trainer.files.writing import write_embedding

RED, GREEN, BLUE = (200, 30, 30), (30, 200, 30), (30, 30, 200)


def put(folder: Path, name: str = "word.safetensors", colour: tuple[int, int, int] | None = None):
    notes = {}
    if colour is not None:
        notes["modelspec.thumbnail"] = thumbnail(torch.tensor(colour).expand(600, 400, 3) / 255)
    path = folder / name
    write_embedding(Embedding("word", {"clip_l": torch.ones(1, 768)}, notes), path)
    return path


def colour(file: Path) -> tuple[int, ...] | None:
    """The colour of the preview, to the next step of 10; None if there is no preview."""
    content = preview_picture(file, read_notes(file))
    if content is None:
        return None
    with Image.open(io.BytesIO(content), formats=("JPEG",)) as picture:
        assert max(picture.size) <= 384
        middle = picture.getpixel((picture.width // 2, picture.height // 2))
    return tuple(10 * round(value / 10) for value in middle)


def test_thumbnail_in_the_notes(tmp_path: Path) -> None:
    file = put(tmp_path, colour=RED)
    assert len(read_notes(file)["modelspec.thumbnail"]) < 4000
    assert colour(file) == RED


def test_no_picture(tmp_path: Path) -> None:
    assert colour(put(tmp_path)) is None
    assert colour(tmp_path / "not-there.pt") is None


def test_pictures_beside_the_file_come_first(tmp_path: Path) -> None:
    file = put(tmp_path, "some.word.v1.safetensors", RED)
    Image.new("RGB", (2000, 1500), GREEN).save(tmp_path / "some.word.v1.jpeg")
    assert colour(file) == GREEN
    Image.new("RGBA", (20, 10), (*BLUE, 255)).save(tmp_path / "some.word.v1.preview.png")
    assert colour(file) == BLUE
    Image.new("RGBA", (20, 10), (*BLUE, 0)).save(tmp_path / "some.word.v1.preview.png")
    assert colour(file) == (260, 260, 260)


def test_a_picture_that_carries_the_word_shows_itself(tmp_path: Path) -> None:
    assert colour(put(tmp_path, "shared.png", BLUE)) == BLUE


@pytest.mark.parametrize("content", [b"", b"<svg onload='alert(1)'/>", b"\x89PNG\r\n\x1a\n" * 5])
def test_a_broken_picture_is_passed_over(content: bytes, tmp_path: Path) -> None:
    file = put(tmp_path, colour=RED)
    (tmp_path / "word.preview.png").write_bytes(content)
    assert colour(file) == RED


def test_a_huge_picture_is_passed_over(tmp_path: Path) -> None:
    file = put(tmp_path, colour=RED)
    Image.new("1", (20_000, 20_000)).save(tmp_path / "word.png")
    assert colour(file) == RED


def test_no_link_is_followed_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "embeddings").mkdir()
    file = put(tmp_path / "embeddings", colour=RED)
    Image.new("RGB", (8, 8), GREEN).save(tmp_path / "private.png")
    (tmp_path / "embeddings" / "word.png").symlink_to(tmp_path / "private.png")
    assert colour(file) == RED


@pytest.mark.parametrize("url", ["data:image/png;base64,%%", "data:text/html;base64,PGI+", "x"])
def test_notes_that_hold_no_picture(url: str, tmp_path: Path) -> None:
    notes = {"modelspec.thumbnail": url}
    assert preview_picture(tmp_path / "word.safetensors", notes) is None
