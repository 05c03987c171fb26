"""Feeds damaged and forged embedding files to all that reads them.

    cd tests && python -m tools.fuzz_files --count 200000 --seed 1

A file must be read or refused with an InputError, in little time and memory. Damage is done
to whole files and to what checksums and compression would protect: the pickle inside a zip
file, the header of safetensors, the JSON inside a picture, the chunks of a PNG file.
"""

from __future__ import annotations

import argparse
import base64
import json
import pickletools
import random
import re
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

if __name__ == "__main__":
    from support.package import hide_repository_root, use_checkout

    hide_repository_root()
    use_checkout()

from support.wild import LAYOUTS, WILD, a1111, paper, rows, write
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.files.picture_files import encode_pixels, write_picture
from textual_inversion.trainer.files.reading import read_embedding, read_notes
from textual_inversion.trainer.files.thumbnails import preview_picture

Mutate = Callable[[bytes, random.Random], bytes]
MEMORY = 64 * 1024 * 1024
"""What reading may take beside four times the size of the file."""


@dataclass
class Report:
    """What became of the files."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, BaseException]] = field(default_factory=list)
    slowest: float = 0.0
    largest: int = 0
    peak_growth: int = 0


def run(count: int, seed: int, folder: Path, keep: Path | None = None) -> Report:
    """Read `count` damaged files.

    Args:
        count: how many.
        seed: of the damage; the same seed gives the same files.
        folder: for one file at a time.
        keep: where files go that raise anything but InputError.
    """
    rng, report, seeds = random.Random(seed), Report(), list(corpus(folder))
    for suffix, content in seeds:
        _read(suffix, content, folder, report, None)
    before, report.outcomes = peak_memory(), Counter()
    for _ in range(count):
        suffix, content = rng.choice(seeds)
        mutate = rng.choice(MUTATIONS[suffix])
        try:
            content = mutate(content, rng)
        except Exception:
            # Damage on top of a format needs the format whole.
            content = damage(content, rng)
        _read(suffix, content, folder, report, keep)
    report.peak_growth = peak_memory() - before
    return report


def corpus(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Suffix and content of whole files of every format, small ones and real ones."""
    small: list[tuple[str, object]] = [
        (suffix, content)
        for suffix, content, expected in LAYOUTS.values()
        if all(tensor.shape[-1] < 4096 for tensor in expected.values())
    ]
    small += [(".pt", a1111(rows(1, 8))), (".pt", paper({"*": rows(1, 8)}))]
    for number, (suffix, content) in enumerate(small):
        yield suffix, write(content, folder / f"whole-{number}{suffix}").read_bytes()
    torch.save(a1111(rows(1, 8)), folder / "old.pt", _use_new_zipfile_serialization=False)
    yield ".pt", (folder / "old.pt").read_bytes()
    picture = write_picture(a1111(rows(1, 8)), Image.new("RGB", (64, 64), (99, 99, 99)))
    yield ".png", picture
    webp = BytesIO()
    Image.open(BytesIO(picture)).save(webp, "WEBP", lossless=True)
    yield ".webp", webp.getvalue()
    for path in sorted(WILD.rglob("*.*")) if WILD.is_dir() else []:
        if path.is_file() and path.stat().st_size < 50_000:
            yield path.suffix, path.read_bytes()


# Damage


def damage(content: bytes, rng: random.Random) -> bytes:
    """Change some bytes: flip, set, cut, repeat, insert numbers of ill repute."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 1, 2, 8))):
        at = rng.randrange(len(data) + 1)
        # Half of the damage goes to the first 300 bytes, where formats keep their sizes.
        at = min(at, rng.randrange(300)) if rng.random() < 0.3 else at
        size = rng.choice((1, 1, 2, 4, 8, rng.randrange(1, 300)))
        match rng.choice((0, 0, 0, 1, 1, 2, 3, 4, 5)):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at : at + size] = rng.randbytes(min(size, len(data) - at))
            case 2:
                del data[at : at + size]
            case 3:
                source = rng.randrange(len(data) + 1)
                data[at:at] = data[source : source + size]
            case 4:
                number = rng.choice((0, 1, 0x7F, 0xFF, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63 - 1))
                data[at : at + 8] = struct.pack(rng.choice("<>") + "Q", number)
            case 5:
                del data[at:]
    return bytes(data)


def damage_text(content: bytes, rng: random.Random) -> bytes:
    """Change JSON: exchange its numbers, words and brackets, or damage it as bytes."""
    parts = (
        b"0",
        b"-1",
        b"9" * 30,
        b"NaN",
        b"1e999",
        b"null",
        b"[]",
        b"{}",
        b'""',
        b"[[[",
        b'"F64"',
    )
    tokens = re.split(rb"([\[\]{}:, ]|\"[^\"]*\")", content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        tokens[rng.randrange(len(tokens))] = rng.choice((*parts, rng.choice(tokens)))
    content = b"".join(tokens)
    return content if rng.random() < 0.7 else damage(content, rng)


def damage_zip(content: bytes, rng: random.Random) -> bytes:
    """Damage the entries of a zip file; its directory and checksums are right again."""
    out = BytesIO()
    with zipfile.ZipFile(BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            entry = old.read(name)
            if name.endswith("data.pkl"):
                entry = forge_pickle(entry, rng) if rng.random() < 0.5 else damage(entry, rng)
            elif rng.random() < 0.2:
                entry = damage(entry, rng)
            new.writestr(name, entry)
    return out.getvalue()


def forge_pickle(program: bytes, rng: random.Random) -> bytes:
    """Insert instructions that mean something, with sizes and names that are too much."""
    evil = (
        b"cos\nsystem\n",
        b"cbuiltins\neval\n",
        b"ctorch._utils\n_rebuild_parameter\n",
        b"ctorch\nFloatStorage\n",
        b"ccollections\nOrderedDict\n",
        b"ctorch.nn.modules.container\nParameterDict\n",
        b"\x8a\x08" + struct.pack("<q", 2**62),
        b"J" + struct.pack("<i", -1),
        b"J" + struct.pack("<i", 2**31 - 1),
        b"r" + struct.pack("<I", 2**32 - 1),
        *(bytes([code]) for code in b"()}]0123RQbutase\x81\x85\x86\x87\x88N."),
    )
    pieces = [position or 0 for _, _, position in pickletools.genops(program)]
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        # In place of some instructions, or between two of them.
        at = rng.randrange(len(pieces) - 1)
        start, end = pieces[at], pieces[min(at + rng.choice((0, 1, 1, 2)), len(pieces) - 1)]
        stolen = rng.randrange(len(pieces) - 1)
        piece = rng.choice((*evil, *[program[pieces[stolen] : pieces[stolen + 1]]] * 20))
        program = program[:start] + piece + program[end:]
        pieces = [
            p if p <= start else p + len(piece) - (end - start)
            for p in pieces
            if p <= start or p >= end
        ]
    return program


def damage_header(content: bytes, rng: random.Random) -> bytes:
    """Damage the header of safetensors and give its length as it is then."""
    size = int.from_bytes(content[:8], "little")
    header = damage_text(content[8 : 8 + size], rng)
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def damage_chunk(content: bytes, rng: random.Random) -> bytes:
    """Damage one chunk of a PNG file and give its checksum as it is then."""
    chunks, at = [], 8
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += size + 12
    chosen = rng.randrange(len(chunks))
    out = content[:8]
    for number, (kind, body) in enumerate(chunks):
        if number == chosen:
            body = damage(body, rng)[: 2**20]
        crc = zlib.crc32(kind + body)
        out += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)
    return out


def damage_json(content: bytes, rng: random.Random) -> bytes:
    """Damage the JSON in a picture, in its text or its pixels."""
    with Image.open(BytesIO(content)) as picture:
        text = base64.b64decode(picture.text.get("sd-ti-embedding") or b"e30=")
    encoded = damage_text(text if len(text) < 20_000 else json.dumps({"name": "x"}).encode(), rng)
    out, grey = BytesIO(), np.full((64, 64, 3), 99, np.uint8)
    if rng.random() < 0.5:
        packed = zlib.compress(encoded)
        packed = damage(packed, rng) if rng.random() < 0.3 else packed
        Image.fromarray(encode_pixels(packed, grey)).save(out, "PNG", compress_level=1)
    else:
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_text("sd-ti-embedding", base64.b64encode(encoded).decode())
        Image.fromarray(grey).save(out, "PNG", pnginfo=info, compress_level=1)
    return out.getvalue()


MUTATIONS: dict[str, Sequence[Mutate]] = {
    ".safetensors": (damage, damage_header, damage_header),
    ".pti": (damage, damage_header),
    ".pt": (damage, damage_zip, damage_zip),
    ".bin": (damage, damage_zip, damage_zip),
    ".ckpt": (damage, damage_zip, damage_zip),
    ".png": (damage, damage_chunk, damage_json, damage_json),
    ".webp": (damage,),
}


# Reading


def _read(suffix: str, content: bytes, folder: Path, report: Report, keep: Path | None) -> None:
    path = folder / f"damaged{suffix}"
    # A new file each time: some file systems write to the disk when an old one is cut.
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    report.largest = max(report.largest, len(content))
    # Not by the clock: on a busy machine that tells of the others.
    start = time.process_time()
    try:
        preview_picture(path, read_notes(path))
        read_embedding(path)
        report.outcomes["read"] += 1
    except InputError as error:
        report.outcomes[_sort_of_refusal(str(error))] += 1
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        report.outcomes["failed"] += 1
        report.failures.append((suffix, error))
        if keep is not None:
            (keep / f"failure-{len(report.failures)}{suffix}").write_bytes(content)
    report.slowest = max(report.slowest, time.process_time() - start)


def _sort_of_refusal(message: str) -> str:
    words = message.partition("” ")[2].split()
    return "refused: " + " ".join(words[:5])


def peak_memory() -> int:
    """The most memory that this process has used, in bytes; 0 where that cannot be told."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> int:
    """Run from the command line; 0 where every file was read or refused."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for files that make the reader fail")
    options = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        report = run(options.count, options.seed, Path(folder), options.keep)
    for outcome, count in report.outcomes.most_common():
        print(f"{count:8} {outcome}")
    for suffix, error in report.failures[:20]:
        print(f"FAILED on a {suffix} file: {error!r}")
    print(
        f"{options.count} files in {time.perf_counter() - start:.0f} s; the slowest took "
        f"{report.slowest * 1000:.0f} ms, the largest had {report.largest} bytes, memory grew by "
        f"{report.peak_growth / 2**20:.1f} MB at most"
    )
    return int(bool(report.failures) or report.peak_growth > 4 * report.largest + MEMORY)


if __name__ == "__main__":
    raise SystemExit(main())
