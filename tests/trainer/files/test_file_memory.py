"""Files that ask for much more memory than their size, and large ones that do not need it."""

from __future__ import annotations

import base64
import os
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save
from support.hostile_pictures import many_chunks, many_markers, repeated_scan
from support.paths import ROOT
from support.wild import L, a1111, rows, write
from textual_inversion.trainer.files.picture_files import encode_pixels, write_picture
from textual_inversion.trainer.files.reading import read_embedding
from textual_inversion.trainer.files.thumbnails import preview_picture
from tools.fuzz_files import MEMORY


def archive_of_many_parts() -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for i in range(20_000):
            archive.writestr(f"archive/data/{i}", b"")
    return file.getvalue()


def deflated_zeros() -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 100_000_000)
    return file.getvalue()


def one_storage_many_times() -> bytes:
    """A list of ten thousand views of the same megabyte."""
    count = 250_000
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n"
    storage = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x08tQ"
    view = b"(" + storage + b"K\x00K\x01J" + struct.pack("<i", count) + b"\x86K\x01K\x01\x86tR"
    program = b"\x80\x02](" + tensor + view + b"q\x00" + b"h\x00" * 10_000 + b"e."
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/data/0", b"\1" * count * 4)
    return file.getvalue()


def empty_containers() -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02](" + b"}" * 250_000 + b"e.")
    return file.getvalue()


def text_of_brackets() -> bytes:
    info = PngInfo()
    text = b"[" + b"{}," * 690_000 + b"{}]"
    info.add_text("sd-ti-embedding", base64.b64encode(text).decode())
    file = BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def pixels_of_brackets() -> bytes:
    data: bytes = zlib.compress(b"[" + b"{}," * 690_000 + b"{}]")
    file = BytesIO()
    grey = np.full((1500, 1950, 3), 99, np.uint8)
    Image.fromarray(encode_pixels(data, grey)).save(file, "PNG")
    return file.getvalue()


def large_picture() -> bytes:
    file = BytesIO()
    Image.new("RGBA", (1500, 2000), (255, 255, 255, 255)).save(file, "PNG")
    return file.getvalue()


def huge_picture(format: str, mode: str, size: tuple[int, int], **options: object) -> bytes:
    """Of few bytes, and of nearly as many pixels as are decoded for a preview."""
    file = BytesIO()
    Image.new(mode, size).save(file, format, **options)
    return file.getvalue()


def huge_thumbnail() -> bytes:
    jpeg = huge_picture("JPEG", "CMYK", (2600, 2640), progressive=True, subsampling=0)
    content = base64.b64encode(jpeg).decode()
    return save({"emb_params": L}, {"modelspec.thumbnail": f"data:image/jpeg;base64,{content}"})


def header_of_small_parts() -> bytes:
    header = b'{"__metadata__":{' + b",".join(b'"%x":""' % i for i in range(170_000)) + b"}}"
    return struct.pack("<Q", len(header)) + header


def header_of_empty_tensors() -> bytes:
    entry = b'"%x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    header = b"{" + b",".join(entry % i for i in range(35_000)) + b"}"
    return struct.pack("<Q", len(header)) + header


def many_vectors() -> bytes:
    file = BytesIO()
    torch.save(a1111(torch.ones(5000, 768, dtype=torch.float16)), file)
    return file.getvalue()


def many_vectors_in_a_picture() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), np.uint8)
    content: bytes = write_picture(a1111(rows(75, 1024)), Image.fromarray(noise))
    return content


def beside(content: bytes) -> bytes:
    """A word whose picture this is."""
    noted = f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
    return save({"emb_params": L}, {"modelspec.thumbnail": noted})


def tall_table() -> bytes:
    head = b'{"emb_params":{"dtype":"F32","shape":[4000000,1],"data_offsets":[0,16000000]}}'
    return struct.pack("<Q", len(head)) + head + bytes(16_000_000)


BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "archive of many parts": (".pt", archive_of_many_parts),
    "deflated zeros": (".pt", deflated_zeros),
    "one storage many times": (".pt", one_storage_many_times),
    "empty containers": (".bin", empty_containers),
    "text of brackets": (".png", text_of_brackets),
    "pixels of brackets": (".png", pixels_of_brackets),
    "large picture": (".png", large_picture),
    "huge picture": (".png", lambda: huge_picture("PNG", "RGBA", (2600, 2640))),
    "huge WebP": (".webp", lambda: huge_picture("WEBP", "RGBA", (1790, 1800), lossless=True)),
    "huge thumbnail": (".safetensors", huge_thumbnail),
    "a scan again and again": (".safetensors", lambda: beside(repeated_scan())),
    "many chunks": (".png", many_chunks),
    "a tall table": (".safetensors", tall_table),
    "header of small parts": (".safetensors", header_of_small_parts),
    "header of empty tensors": (".safetensors", header_of_empty_tensors),
    "many vectors": (".pt", many_vectors),
    "many vectors in a picture": (".png", many_vectors_in_a_picture),
}
HONEST = {
    "many vectors", "many vectors in a picture", "huge thumbnail", "a scan again and again",
}  # fmt: skip

MEASURE = """
import os, sys, time
from pathlib import Path
from support.package import use_checkout
use_checkout()
from tools.fuzz_files import peak_memory
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.files.reading import read_embedding, read_notes
from textual_inversion.trainer.files.thumbnails import preview_picture

def read(path):
    path = Path(path)
    preview_picture(path, read_notes(path))
    try:
        read_embedding(path)
    except InputError as error:
        return str(error)
    return "read"

for path in sys.argv[1::2]:  # What the first use of a reader loads is no part of a file.
    read(path)
for path in sys.argv[2::2]:
    if not os.fork():  # The peak of a new process is its own.
        before, start = peak_memory(), time.process_time()
        said = read(path)
        print(peak_memory() - before, time.process_time() - start, said, sep="|", flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, int, float, str]]:
    """Bomb -> its size, the growth of memory, seconds, and what was said."""
    folder = tmp_path_factory.mktemp("bombs")
    arguments, sizes = [], []
    for number, (suffix, make) in enumerate(BOMBS.values()):
        path = folder / f"bomb-{number}{suffix}"
        path.write_bytes(make())
        content = {"emb_params": L} if suffix == ".safetensors" else a1111(L)
        suffix = ".png" if suffix == ".webp" else suffix
        arguments += [str(write(content, folder / f"word-{number}{suffix}")), str(path)]
        sizes.append(path.stat().st_size)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT / "tests")},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    lines = [line.split("|") for line in done.stdout.splitlines()]
    return {
        kind: (size, int(grown), float(seconds), said)
        for kind, size, (grown, seconds, said) in zip(BOMBS, sizes, lines, strict=True)
    }


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no measure of peak memory")
@pytest.mark.parametrize("kind", BOMBS)
def test_memory_and_time_are_bounded(
    kind: str, measured: dict[str, tuple[int, int, float, str]]
) -> None:
    """Four times the file and 64 MB, in a process of its own; to show it in a list, too."""
    size, grown, seconds, said = measured[kind]
    assert grown <= 4 * size + MEMORY, said
    assert seconds < 4
    assert (said == "read") == (kind in HONEST)


@pytest.mark.parametrize("filling", [b"\xff\xe1\0\2", b"\xff\xff", b"\xff\0", b"\xff\x01"])
def test_a_picture_beside_a_word_is_passed_over_at_once(filling: bytes, tmp_path: Path) -> None:
    path = write({"emb_params": L}, tmp_path / "word.safetensors")
    (tmp_path / "word.jpg").write_bytes(many_markers(filling))
    start = time.process_time()
    assert preview_picture(path, {}) is None
    assert time.process_time() - start < 1


def test_pictures_of_many_ordinary_parts_are_shown(tmp_path: Path) -> None:
    path = write({"emb_params": L}, tmp_path / "word.safetensors")
    noise = np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "word.png")
    assert preview_picture(path, {})
    (tmp_path / "word.png").unlink()
    profile = bytes(3_000_000)  # of a printer: some fifty parts of a JPEG
    Image.fromarray(noise).save(
        tmp_path / "word.jpg", progressive=True, quality=95, icc_profile=profile
    )
    assert preview_picture(path, {})


def test_large_lora_is_not_read(tmp_path: Path) -> None:
    """Beside a bundled word, the tensors of a LoRA stay on the disk."""
    big = {"lora_unet_x.lora_up.weight": torch.ones(5000, 4000)}
    path = write(big | {"bundle_emb.a.clip_l": L}, tmp_path / "style.safetensors")
    tracemalloc.start()
    embedding = read_embedding(path)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    assert torch.equal(embedding.vectors["clip_l"], L)
