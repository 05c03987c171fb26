"""Embeddings inside pictures, in both of AUTOMATIC1111's encodings."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from support.wild import H, L, a1111, rows, wild
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.files.picture_files import (
    Pixels,
    decode_pixels,
    encode_pixels,
    pseudo_random,
    read_picture,
    write_picture,
)
from textual_inversion.trainer.files.reading import read_embedding
from textual_inversion.trainer.files.writing import write_embedding

GREY = Image.new("RGB", (96, 128), (127, 127, 127))
WORD = Embedding("word", {"clip_l": L})


def reference_sequence(count: int) -> Iterator[int]:
    seed = 0
    for _ in range(count):
        seed = (1664525 * seed + 1013904223) % 2**32
        yield seed % 255


def without_text(path: Path, target: Path, **options: Any) -> Path:
    """The same pixels in a file without a text chunk."""
    with Image.open(path) as picture:
        picture.convert("RGB").save(target, **options)
    return target


def tensor_of(content: bytes) -> torch.Tensor:
    data: Any = read_picture(content)
    tensor = data["string_to_param"]["*"]
    assert isinstance(tensor, torch.Tensor)
    return tensor


def test_sequence() -> None:
    assert pseudo_random(6).tolist() == [253, 242, 127, 44, 157, 27]
    assert pseudo_random(20_000).tolist() == list(reference_sequence(20_000))
    assert pseudo_random(0).tolist() == []


def test_pixels_equal_those_of_a_real_picture() -> None:
    """Eight vectors on 512 x 512, which make it 592 wide; the weave in the upper bits is free."""
    with Image.open(wild("a1111_image_embedding_gasai-yuno-1000.png")) as picture:
        encoded = base64.b64decode(picture.text["sd-ti-embedding"])
        real = np.asarray(picture.convert("RGB"))
    canvas = encode_pixels(zlib.compress(encoded, 9), real[:, 40:-40])
    assert canvas.shape == (512, 592, 3)
    assert np.array_equal(canvas & 15, real & 15)


def test_real_picture_equals_its_pt_file(tmp_path: Path) -> None:
    original = wild("a1111_image_embedding_gasai-yuno-1000.png")
    (expected,) = read_embedding(wild("gasai-yuno-1000.pt")).vectors.values()
    bare = without_text(original, tmp_path / "bare.png")
    webp = without_text(original, tmp_path / "bare.webp", lossless=True)
    for path in (original, bare, webp):
        assert torch.equal(read_embedding(path).vectors["clip_l"], expected), path.name
    assert read_embedding(bare).metadata == {"name": "gasai yuno", "step": "1000"}


@pytest.mark.parametrize("embedding", [WORD, Embedding("word", {"clip_h": H})])
def test_text_and_pixels_hold_the_same(embedding: Embedding, tmp_path: Path) -> None:
    write_embedding(embedding, tmp_path / "word.png")
    bare = without_text(tmp_path / "word.png", tmp_path / "word-bare.png")
    assert read_embedding(bare, "word").fingerprint == embedding.fingerprint
    with Image.open(tmp_path / "word.png") as picture:
        text = json.loads(base64.b64decode(picture.text["sd-ti-embedding"]))
    (expected,) = embedding.vectors.values()
    assert text["string_to_param"] == {"*": {"TORCHTENSOR": expected.tolist()}}
    assert text["string_to_token"] == {"*": 265}
    assert text["name"] == "word"


def test_pixels_as_automatic1111_decodes_them(tmp_path: Path) -> None:
    """A straight transcription of the description of the format, in place of its reader."""
    write_embedding(WORD, tmp_path / "word.png")
    pixels = np.array(Image.open(tmp_path / "word.png").convert("RGB"))
    assert (pixels[:, 0] > 0).all(), "nothing of the first column may be taken for a margin"
    nibbles = pixels & 15
    black = [x for x in range(pixels.shape[1]) if nibbles[:, x].sum() == 0]
    low, high = nibbles[:, : min(black)].ravel(), nibbles[:, max(black) + 1 :].ravel()
    mask = np.array([r & 15 for r in reference_sequence(low.size)], np.uint8)
    data = json.loads(zlib.decompress((((high ^ mask) << 4) | (low ^ mask)).tobytes()))
    assert data["string_to_param"]["*"]["TORCHTENSOR"] == L.tolist()


@settings(max_examples=60, deadline=None)
@given(
    data=st.binary(min_size=1, max_size=3000),
    picture=arrays(np.uint8, st.tuples(st.integers(64, 200), st.integers(1, 60), st.just(3))),
)
def test_any_data_beside_any_picture(data: bytes, picture: Pixels) -> None:
    canvas = encode_pixels(data, picture)
    height, width, _ = picture.shape
    block = (canvas.shape[1] - width - 2) // 2
    assert canvas.shape[0] == height
    assert np.array_equal(canvas[:, block + 1 : block + 1 + width], picture)
    # As the format has it: full columns of pixels, and always some padding.
    size = len(data) + height - len(data) % height
    assert 3 * height * block == size + 3 * height - size % (3 * height) > len(data)
    assert decode_pixels(canvas)[: len(data)] == data


@settings(max_examples=30, deadline=None)
@given(
    data=st.binary(min_size=1, max_size=500),
    margins=st.tuples(*[st.integers(0, 9)] * 4),
    black=st.integers(0, 3),
)
def test_black_margins_and_black_columns_in_the_picture(
    data: bytes, margins: tuple[int, int, int, int], black: int
) -> None:
    picture = np.full((64, 10, 3), 77, np.uint8)
    picture[:, :black] = 0
    top, bottom, left, right = margins
    canvas = np.pad(encode_pixels(data, picture), ((top, bottom), (left, right), (0, 0)))
    assert decode_pixels(canvas)[: len(data)] == data


@settings(max_examples=25, deadline=None)
@given(
    vectors=arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.just(16)),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    ),
    name=st.text(max_size=30),
    size=st.tuples(st.integers(1, 200), st.integers(1, 200)),
)
def test_every_float_survives(
    vectors: NDArray[np.float32], name: str, size: tuple[int, int]
) -> None:
    data = a1111(torch.from_numpy(vectors), name=name)
    content = write_picture(data, Image.new("RGB", size))
    bare = BytesIO()
    Image.open(BytesIO(content)).save(bare, "PNG", pnginfo=PngInfo())
    for stored in (content, bare.getvalue()):
        assert tensor_of(stored).numpy().tobytes() == vectors.tobytes()
        assert read_picture(stored)["name"] == name


@pytest.mark.parametrize("mode", ["RGBA", "P", "L", "RGB"])
def test_pictures_of_any_mode_carry_an_embedding(mode: str) -> None:
    content = write_picture(a1111(L), GREY.convert(mode))
    assert torch.equal(tensor_of(content), L)


def test_thumbnail_is_what_people_see(tmp_path: Path) -> None:
    file = BytesIO()
    Image.new("RGB", (80, 100), (200, 30, 40)).save(file, "PNG")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    write_embedding(
        Embedding("word", {"clip_l": L}, {"modelspec.thumbnail": url}), tmp_path / "word.png"
    )
    with Image.open(tmp_path / "word.png") as picture:
        assert picture.height == 100
        assert picture.getpixel((picture.width // 2, 50)) == (200, 30, 40)


@pytest.mark.parametrize("url", ["", "data:image/png;base64,AAAA", "data:image/png;base64,!", "x"])
def test_a_broken_thumbnail_is_no_obstacle(url: str, tmp_path: Path) -> None:
    embedding = Embedding("word", {"clip_l": L}, {"modelspec.thumbnail": url})
    write_embedding(embedding, tmp_path / "word.png")
    assert read_embedding(tmp_path / "word.png").fingerprint == embedding.fingerprint


# Refused


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as error:
        read_embedding(path)
    assert str(error.value).startswith(f"“{path.name}” ")
    return str(error.value)


def test_ordinary_pictures(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for name, picture in {
        "black": Image.new("RGB", (64, 64)),
        "white": Image.new("RGB", (64, 64), (255, 255, 255)),
        "grey": GREY,
        "noise": Image.fromarray(noise),
        "striped": Image.fromarray(np.where(np.arange(64)[None, :, None] % 9, noise, 16)),
        "one pixel": Image.new("RGB", (1, 1), (1, 1, 1)),
    }.items():
        picture.save(tmp_path / f"{name}.png")
        assert "is a picture without an embedding" in refusal(tmp_path / f"{name}.png")


def test_lossy_copy(tmp_path: Path) -> None:
    write_embedding(WORD, tmp_path / "word.png")
    webp = without_text(tmp_path / "word.png", tmp_path / "word.webp", quality=80)
    assert "lossless" in refusal(webp) or "without an embedding" in refusal(webp)
    jpeg = without_text(tmp_path / "word.png", tmp_path / "word.jpg")
    assert "is a JPEG picture" in refusal(jpeg)


def test_preview_pictures(tmp_path: Path) -> None:
    for name in ("word.preview.png", "word.vectors.png"):
        GREY.save(tmp_path / name)
        assert "is a preview picture" in refusal(tmp_path / name)


def test_too_many_vectors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too many vectors for a picture"):
        write_embedding(Embedding("word", {"clip_l": rows(300, 768)}), tmp_path / "word.png")
    assert not list(tmp_path.iterdir())
    text = PngInfo()
    text.add_text("sd-ti-embedding", "A" * 3_000_000)
    GREY.save(tmp_path / "text.png", pnginfo=text)
    assert "too many vectors" in refusal(tmp_path / "text.png")
    bomb = encode_pixels(zlib.compress(b" " * 50_000_000), np.asarray(GREY))
    Image.fromarray(bomb).save(tmp_path / "pixels.png")
    assert "too many vectors" in refusal(tmp_path / "pixels.png")


@pytest.mark.parametrize(
    "encoded",
    [
        b"[" * 100_000,
        b'{"string_to_param": {"*": {"TORCHTENSOR": [[1, 2], [3]]}}}',
        b'{"string_to_param": {"*": {"TORCHTENSOR": [NaN, 1]}}}',
        b'{"string_to_param": {"*": {"TORCHTENSOR": "text"}}}',
        b'{"string_to_param": {"*": [1, 2]}}',
        b'{"string_to_param": []}',
        b"[1, 2]",
        b"\xff",
        b"",
    ],
    ids=["deep", "ragged", "nan", "text", "no tensor", "list", "numbers", "bytes", "empty"],
)
def test_hostile_json(encoded: bytes, tmp_path: Path) -> None:
    text = PngInfo()
    text.add_text("sd-ti-embedding", base64.b64encode(encoded).decode())
    GREY.save(tmp_path / "text.png", pnginfo=text)
    refusal(tmp_path / "text.png")
    pixels = encode_pixels(zlib.compress(encoded), np.asarray(GREY))
    Image.fromarray(pixels).save(tmp_path / "pixels.png")
    refusal(tmp_path / "pixels.png")


def test_incomplete_pixels(tmp_path: Path) -> None:
    encoded = zlib.compress(json.dumps({"a": list(range(1000))}).encode())
    canvas = encode_pixels(encoded[: len(encoded) // 2], np.asarray(GREY))
    Image.fromarray(canvas).save(tmp_path / "word.png")
    refusal(tmp_path / "word.png")


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_huge_canvas_of_few_bytes(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"bomb{suffix}"
    Image.new("L", (9000, 9000)).save(path, lossless=True)
    assert path.stat().st_size < 200_000
    assert "too large a picture" in refusal(path)
