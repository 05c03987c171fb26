"""Pictures, captions and masks from a folder."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image
from support.hostile_pictures import many_chunks, many_markers, repeated_scan
from support.paths import ROOT
from textual_inversion.trainer.data.decoding import (
    READ_WHOLE,
    Frame,
    frame_of,
    read_pixels,
)
from textual_inversion.trainer.data.picture_folder import read_folder
from textual_inversion.trainer.data.pictures import Picture, fit, pictures_fingerprint
from textual_inversion.trainer.data.training_set import encode
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.settings import Settings

ORIENTATION = 0x0112


class Through:
    """As far as pictures are concerned, a model: gives them back."""

    def encode_pictures(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.movedim(-1, 1)


def drawn(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture with details of all sizes, as a photo has them."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), np.float32)
    for cells in (3, 12, 48, 192):
        small = rng.integers(0, 255, (cells, cells, 3), dtype=np.uint8)
        scaled = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
        picture += np.asarray(scaled, dtype=np.float32) / cells
    return Image.fromarray((picture / picture.max() * 255).astype(np.uint8))


def picture_file(path: Path, pixels: np.ndarray, **options) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def half_red(height: int = 4, width: int = 8) -> np.ndarray:
    """Red on the left, black on the right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = 255
    return pixels


def test_pixels_are_read_as_they_are(tmp_path: Path) -> None:
    picture_file(tmp_path / "a.png", half_red())
    (picture,) = read_folder(tmp_path).pictures
    assert picture.pixels.shape == (4, 8, 3)
    assert picture.pixels[0, 0].tolist() == [255, 0, 0]
    assert picture.caption is None
    assert picture.source == "a.png"


def test_exif_rotation_is_respected(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # to be turned a quarter clockwise
    pixels = read_pixels(picture_file(tmp_path / "a.png", half_red(), exif=exif))
    assert pixels.shape == (8, 4, 3)
    assert pixels[0, 0].tolist() == [255, 0, 0]
    assert pixels[7, 0].tolist() == [0, 0, 0]


def test_exif_data_that_cannot_be_written_anew_does_not_matter(tmp_path: Path) -> None:
    """Orientation 6, and a width that is a text."""
    entries = struct.pack("<HHI4s", 0x100, 2, 4, b"abc") + struct.pack("<HHII", 0x112, 3, 1, 6)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4)
    Image.fromarray(half_red()).save(tmp_path / "a.jpg", exif=exif)
    (picture,) = read_folder(tmp_path).pictures
    assert picture.pixels.shape == (8, 4, 3)


def test_exif_data_that_is_cut_off_is_named(tmp_path: Path) -> None:
    Image.fromarray(half_red()).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0")
    with pytest.raises(InputError, match=r"“a\.png” cannot be read as a picture"):
        read_folder(tmp_path)


def test_greyscale_and_palette_become_colour(tmp_path: Path) -> None:
    Image.fromarray(half_red()).convert("L").save(tmp_path / "grey.png")
    Image.fromarray(half_red()).convert("P").save(tmp_path / "palette.gif")
    for picture in read_folder(tmp_path).pictures:
        assert picture.pixels.shape == (4, 8, 3)


def test_16_bit_picture_keeps_its_brightness(tmp_path: Path) -> None:
    for name, value in (("deep.png", 32768), ("dark.png", 200)):
        Image.fromarray(np.full((4, 4), value, np.uint16)).save(tmp_path / name)
        mean = read_pixels(tmp_path / name).float().mean() / 255
        assert mean == pytest.approx(value / 65535, abs=0.01)


@pytest.mark.parametrize(
    ("kind", "white"),
    [("float32", 1), ("float32", 255), ("int32", 255), ("int32", 65535), ("uint16", 65535)],
)
def test_deep_tiff_as_it_is_meant(kind: str, white: int, tmp_path: Path) -> None:
    ramp = (np.linspace(0, 1, 256).reshape(16, 16) * white).astype(kind)
    Image.fromarray(ramp).save(tmp_path / "a.tiff")
    grey = read_pixels(tmp_path / "a.tiff")[..., 0].flatten().float()
    torch.testing.assert_close(grey, torch.arange(256.0), atol=1.0, rtol=0)


@pytest.mark.parametrize("name", ["a.avif", "a.jfif", "a.JPG", "a.tga", "a.ppm", "a.jp2", "a.ico"])
def test_what_pillow_reads_is_read(name: str, tmp_path: Path) -> None:
    kind = {".jfif": "JPEG"}.get(Path(name).suffix)
    Image.new("RGB", (32, 32), "red").save(tmp_path / name, kind)
    (picture,) = read_folder(tmp_path).pictures
    red, green, blue = picture.pixels[8, 8, :3].tolist()
    assert (red > 240, green < 20, blue < 20) == (True, True, True)


def test_caption_beside_the_picture(tmp_path: Path) -> None:
    picture_file(tmp_path / "a.png", half_red())
    (tmp_path / "a.txt").write_text("a photo of my-word\n")
    assert read_folder(tmp_path).pictures[0].caption == "a photo of my-word\n"


def test_unreadable_picture_is_named(tmp_path: Path) -> None:
    whole = picture_file(tmp_path / "whole.png", half_red(300, 300)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("not a picture")
    for name in ("cut.png", "text.jpg"):
        with pytest.raises(InputError, match=f"“{name}” cannot be read as a picture"):
            read_pixels(tmp_path / name)


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
    (picture,) = read_folder(tmp_path).pictures
    assert picture.source == "a.png"
    assert picture.mask.tolist() == [[255] * 16] * 8


def test_grey_and_transparent_parts_of_a_mask_count_less(tmp_path: Path) -> None:
    picture_file(tmp_path / "a.png", half_red())
    mask = np.full((1, 2, 4), 255, np.uint8)
    mask[0, 0, :3] = 51
    mask[0, 1, 3] = 0
    Image.fromarray(mask).save(tmp_path / "a-mask.png")
    assert read_folder(tmp_path).pictures[0].mask.tolist() == [[51, 0]]


def test_a_mask_in_lab(tmp_path: Path) -> None:
    picture_file(tmp_path / "a.png", half_red())
    halves = np.full((1, 2, 3), (255, 0, 0), np.uint8)
    halves[0, 1, 0] = 0
    Image.frombytes("LAB", (2, 1), halves.tobytes()).save(tmp_path / "a-mask.tiff")
    ((white, black),) = read_folder(tmp_path).pictures[0].mask.tolist()
    assert (white, black) == pytest.approx((255, 0), abs=1)


def test_a_mask_is_never_a_picture(tmp_path: Path) -> None:
    picture_file(tmp_path / "a.png", half_red())
    Image.new("L", (8, 4), 255).save(tmp_path / "a-Mask.png")
    Image.new("L", (8, 4), 255).save(tmp_path / "venice-mask.png")
    read = read_folder(tmp_path)
    assert [picture.source for picture in read.pictures] == ["a.png"]
    assert read.pictures[0].mask is not None
    (note,) = read.notes
    assert note.endswith("(masks without a picture): venice-mask.png.")
    (tmp_path / "a.png").unlink()
    with pytest.raises(InputError, match=r"no pictures.*without a picture\): a-Mask.png, venice"):
        read_folder(tmp_path)


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "mug"
    folder.mkdir()
    picture_file(folder / "a.png", half_red())
    (folder / "._a.png").write_bytes(b"\0\5\x16\7" + bytes(60))  # as macOS leaves them
    (folder / ".hidden").mkdir()
    (folder / "x.png").mkdir()
    (folder / "d.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    (folder / "notes.txt").write_text("nothing of a picture")
    for number in range(12):
        (folder / f"cache-{number:02}.npz").write_bytes(b"")
    read = read_folder(folder)
    assert [picture.source for picture in read.pictures] == ["a.png"]
    texts, others, folders = sorted(read.notes, key=lambda note: note.partition("(")[2][::-1])
    notes = "\n".join([texts, others, folders])
    assert "Left out of “mug” (texts without a picture): notes.txt." in notes
    assert "(folders, which are not searched): x.png." in notes
    assert "(not pictures that can be read here): cache-00.npz, cache-01.npz," in notes
    assert "cache-09.npz and 3 more." in notes


def test_captions_whatever_the_case(tmp_path: Path) -> None:
    for name in ("a.png", "IMG_1.JPG", "c.png"):
        picture_file(tmp_path / name, half_red())
    (tmp_path / "a.TXT").write_text("one")
    (tmp_path / "img_1.caption").write_text("two")
    (tmp_path / "c.txt").write_text("three")
    (tmp_path / "c.caption").write_text("four")
    read = read_folder(tmp_path)
    captions = {picture.source: picture.caption for picture in read.pictures}
    assert captions == {"a.png": "one", "IMG_1.JPG": "two", "c.png": "three"}
    (note,) = read.notes
    assert note.endswith("(second captions of a picture): c.caption.")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_captions_in_any_encoding_that_says_what_it_is(encoding: str, tmp_path: Path) -> None:
    picture_file(tmp_path / "a.png", half_red())
    (tmp_path / "a.txt").write_bytes("a [name] in a café\r\n".encode(encoding))
    assert read_folder(tmp_path).pictures[0].caption == "a [name] in a café\n"


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le", "utf-16-be", "shift-jis"])
def test_captions_are_never_guessed(encoding: str, tmp_path: Path) -> None:
    picture_file(tmp_path / "a.png", half_red())
    text = "a [name] in a 喫茶店" if encoding == "shift-jis" else "a [name] in a café"
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    with pytest.raises(InputError, match=r"“a\.txt” is in an unknown encoding"):
        read_folder(tmp_path)
    assert read_folder(tmp_path, "none").pictures[0].caption is None


@pytest.mark.parametrize(
    "settings",
    [
        Settings(resolution=256),
        Settings(resolution=256, zoom=0.5),
        Settings(resolution=256, buckets=True),
        Settings(resolution=512, buckets=True, zoom=0.1),
    ],
    ids=["square", "zoom", "buckets", "both"],
)
@pytest.mark.parametrize("turned", [False, True])
def test_large_photos_are_scaled_as_they_are_read(
    settings: Settings, turned: bool, tmp_path: Path
) -> None:
    """What training shows of them is what it shows of the whole photo, but for rounding."""
    photo = np.asarray(drawn(3000, 2000))
    options = {}
    if turned:
        options["exif"] = Image.Exif()
        options["exif"][ORIENTATION] = 6
    whole = read_pixels(picture_file(tmp_path / "a.jpg", photo, quality=95, **options))
    kept = read_pixels(tmp_path / "a.jpg", settings)
    assert kept.numel() < whole.numel() / 4
    if settings.buckets:
        assert (kept.shape[0] > kept.shape[1]) == turned
    else:
        assert kept.shape == ((427, 427, 3) if settings.zoom else (256, 256, 3))
    shown = [
        [view.latents for view in encode(Through(), [Picture(p)], settings).pictures[0]]
        for p in (whole, kept)
    ]
    assert len(shown[0]) == len(shown[1])
    for one, other in zip(*shown, strict=True):
        assert one.shape == other.shape
        error = (one - other).square().mean().sqrt()
        assert error < 0.012  # 38 dB, where JPEG itself has less


@pytest.mark.parametrize(
    "settings",
    [Settings(resolution=256), Settings(resolution=256, zoom=0.5),
     Settings(resolution=256, buckets=True)],
    ids=["square", "zoom", "buckets"],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["L", "LA"])
def test_masks_of_large_photos_say_the_same_as_before(
    settings: Settings, mode: str, tmp_path: Path
) -> None:
    drawn(3000, 2000).save(tmp_path / "a.jpg", quality=95)
    mask = Image.new(mode, (3000, 2000))
    white = (255, 255)[: len(mode)] if mode == "LA" else 255
    mask.paste(white, (700, 300, 1500, 1800))
    mask.save(tmp_path / "a-mask.png")
    (whole,), (kept,) = (read_folder(tmp_path, settings=each).pictures for each in (None, settings))
    assert kept.mask.dtype == torch.uint8
    assert kept.mask.numel() < kept.pixels[..., 0].numel() / 15
    ways = [encode(Through(), [picture], settings).pictures[0] for picture in (whole, kept)]
    assert len(ways[0]) == len(ways[1])
    for one, other in zip(*ways, strict=True):
        # In the eighth of the size in which a latent is learned from.
        apart = F.avg_pool2d(one.mask[None] - other.mask[None], 8).abs()
        assert apart.mean() < 0.02
        assert apart.max() < 0.35


def test_many_photos_are_kept_no_larger_than_there_is_room_for() -> None:
    settings = Settings(resolution=1024, zoom=0.5)
    size = (4000, 6000)
    assert frame_of(size, settings).middle == (1707, 1707)
    assert frame_of(size, settings, room=2_000_000).middle == (1414, 1414)
    assert frame_of(size, settings, room=1000) == frame_of(size, Settings(resolution=1024))
    assert frame_of(size, settings, masked=True).middle == frame_of(size, settings).size
    # What fills a square is scaled and not cut.
    assert frame_of((1200, 1300), settings, room=9_000_000) == Frame(
        (1200, 1300), (1200, 1300), whole=True
    )


def test_pictures_of_usual_size_are_kept_to_the_bit(tmp_path: Path) -> None:
    photo = np.asarray(drawn(1200, 1200))
    assert photo[..., 0].size <= READ_WHOLE
    path = picture_file(tmp_path / "a.png", photo)
    assert torch.equal(read_pixels(path, Settings(resolution=64)), torch.from_numpy(photo.copy()))
    floats = Picture(torch.from_numpy(photo / np.float32(255)))
    assert pictures_fingerprint([floats]) == pictures_fingerprint([Picture(read_pixels(path))])
    assert torch.equal(fit(floats, (64, 64))[0], fit(Picture(read_pixels(path)), (64, 64))[0])


def test_a_mask_of_a_large_picture_is_kept_coarse(tmp_path: Path) -> None:
    settings = Settings(resolution=64)
    drawn(2000, 1500).save(tmp_path / "a.jpg")
    mask = Image.new("L", (2000, 1500))
    mask.paste(255, (0, 0, 1000, 1500))
    mask.save(tmp_path / "a-mask.png")
    (picture,) = read_folder(tmp_path, settings=settings).pictures
    assert (picture.pixels.shape, picture.mask.shape) == ((64, 64, 3), (16, 16))
    assert picture.mask.float().mean() / 255 == pytest.approx(0.5, abs=0.01)


@pytest.mark.skipif(sys.platform == "win32", reason="asks for the peak of the memory")
def test_memory_does_not_grow_with_the_size_of_photos(tmp_path: Path) -> None:
    for number in range(8):
        drawn(6000, 4000, number).save(tmp_path / f"{number}.jpg", quality=70)
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from support.package import use_checkout\n"
        "use_checkout()\n"
        "from textual_inversion.trainer.data.picture_folder import read_folder\n"
        "from textual_inversion.trainer.settings import Settings\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "read = read_folder(Path(sys.argv[1]), settings=Settings(resolution=256))\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print((after - before) // (1024 if sys.platform != 'darwin' else 1024**2))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
    )  # fmt: skip
    assert int(run.stdout) < 120  # megabytes; whole, they would take 8 x 72, as floats 8 x 288


def test_a_name_that_is_no_text_can_be_told_of_and_read_as_a_caption(tmp_path: Path) -> None:
    """Archives from systems of other encodings leave such names behind."""
    path = tmp_path / os.fsdecode(b"my caf\xe9 3.png")
    try:
        Image.new("RGB", (9, 9)).save(path)
    except OSError:
        pytest.skip("this file system keeps no such name")
    (picture,) = read_folder(tmp_path, "names").pictures
    assert (picture.source, picture.caption) == ("my caf? 3.png", "my caf?")


def test_where_captions_come_from(tmp_path: Path) -> None:
    picture_file(tmp_path / "01-a_red_mug.png", half_red())
    picture_file(tmp_path / "b.png", half_red())
    (tmp_path / "b.txt").write_text("\ufeffa blue mug", encoding="utf-8")
    captions = {
        source: [picture.caption for picture in read_folder(tmp_path, source).pictures]
        for source in ("files", "names", "none")
    }
    assert captions == {
        "files": [None, "a blue mug"],
        "names": ["a red mug", "a blue mug"],
        "none": [None, None],
    }


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("scans.jpg", repeated_scan),
        ("scans.jpg", lambda: repeated_scan(between=b"\0" * 9)),
        ("markers.jpg", lambda: many_markers(b"\xff\xfe\0\2")),
        ("filling.jpg", lambda: many_markers(b"\xff")),
        ("chunks.png", many_chunks),
    ],
    ids=["scans", "scans with filling", "markers", "filling", "chunks"],
)
def test_pictures_that_are_made_to_take_minutes(
    name: str, content: Callable[[], bytes], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content())
    began = time.process_time()
    with pytest.raises(InputError, match=f"“{name}” has far more parts than a picture needs"):
        read_folder(tmp_path)
    assert time.process_time() - began < 2


def test_photos_with_much_behind_and_between_are_read(tmp_path: Path) -> None:
    """Telephones put films behind their photos, in which any byte can occur, and small ones in."""
    photo = drawn(6000, 4000)
    exif = Image.Exif()
    exif[ExifTags.Base.MakerNote] = repeated_scan(60, side=16)
    photo.save(tmp_path / "photo.jpg", progressive=True, quality=70, exif=exif)
    with (tmp_path / "photo.jpg").open("ab") as file:
        file.write(b"\xff\xda\0\0" * 1000)
    (picture,) = read_folder(tmp_path, settings=Settings(resolution=256)).pictures
    assert picture.pixels.shape == (256, 256, 3)
