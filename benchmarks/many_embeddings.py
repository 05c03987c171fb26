"""What thousands of embeddings cost a real ComfyUI: its start, the cards, and everything else.

    COMFYUI_PATH=... python benchmarks/many_embeddings.py [--count 5000]

The embeddings are small safetensors files with a thumbnail in their notes, every other one with a
preview picture beside it, in some sub-folders. Two servers are measured one after the other: one
without any embeddings, for its start and memory, and one with all of them.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from support.comfyui import find_comfyui
from support.package import use_checkout
from support.server import Server, make_base_directory

CARDS = "/textual_inversion/embeddings"
AT_ONCE = 8
NODES = ("TextualInversionLoad", "TextualInversionApplyNegative")
"""Our nodes with a list of embeddings among their inputs."""


def write_embeddings(folder: Path, count: int) -> None:
    """Many files; of the pictures there are only a few kinds, which readers cannot know."""
    use_checkout()
    from textual_inversion.trainer.files.thumbnails import thumbnail

    noise = np.random.default_rng(0)
    pictures = [
        Image.fromarray(noise.integers(0, 256, (32, 32, 3), dtype=np.uint8)).resize((512, 512))
        for _ in range(8)
    ]
    notes = [thumbnail(torch.from_numpy(np.asarray(p) / np.float32(255))) for p in pictures]
    contents = []
    for number, picture in enumerate(pictures):
        path = folder / f"preview-{number}.png"
        picture.save(path)
        contents.append(path.read_bytes())
        path.unlink()
    for number in range(count):
        path = folder / f"folder-{number % 10}" / f"word-{number:05d}.safetensors"
        path.parent.mkdir(exist_ok=True)
        words = {"clip_l": torch.full((2, 768), number / count)}
        metadata = {"modelspec.thumbnail": notes[number % 8], "title": path.stem}
        save_file(words, path, metadata)
        if number % 2:
            path.with_suffix(".preview.png").write_bytes(contents[number % 8])


def seconds(url: str, path: str) -> tuple[float, bytes]:
    """How long an answer takes, and the answer."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=300)
    begin = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    content = answer.read()
    taken = time.perf_counter() - begin
    if answer.status != 200:
        raise RuntimeError(f"{path}: {answer.status} {content[:200]!r}")
    connection.close()
    return taken, content


def at_once(url: str, path: str) -> float:
    """How long the slowest of some requests takes that come together."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return max(taken for taken, _ in pool.map(lambda _: seconds(url, path), range(AT_ONCE)))


class Meanwhile:
    """Asks for the page's own files while a block lasts; `slowest` is the longest answer."""

    def __init__(self, url: str) -> None:
        self.slowest, self._url, self._over = 0.0, url, threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        while not self._over.is_set():
            for path in ("/", "/extensions/core/none.js", "/api/extensions"):
                try:
                    self.slowest = max(self.slowest, seconds(self._url, path)[0])
                except RuntimeError:
                    continue
            time.sleep(0.05)

    def __enter__(self) -> Meanwhile:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def started(comfyui: Path, base: Path) -> tuple[Server, float]:
    """A server, and how long its start took."""
    server = Server(comfyui, base)
    begin = time.perf_counter()
    server.start()
    return server, time.perf_counter() - begin


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=5000)
    count = parser.parse_args().count
    comfyui, figures = find_comfyui(), {}
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        make_base_directory(base)
        starts: dict[str, list[float]] = {"empty": [], "full": []}
        for _ in range(2):
            server, taken = started(comfyui, base)
            starts["empty"].append(taken)
            seconds(server.url, CARDS)
            server.stop()
        write_embeddings(base / "models" / "embeddings", count)
        server, taken = started(comfyui, base)
        starts["full"].append(taken)
        server.stop()
        server, taken = started(comfyui, base)
        starts["full"].append(taken)
        try:
            url = server.url
            figures = {"embeddings": count, "start": min(starts["full"])}
            figures["start, more than without any"] = min(starts["full"]) - min(starts["empty"])
            before = server.memory().now
            with Meanwhile(url) as meanwhile:
                figures[f"{AT_ONCE} at once, first"] = at_once(url, CARDS)
            figures["the page's own files meanwhile"] = meanwhile.slowest
            figures["memory, more than before, MB"] = (server.memory().now - before) / 1e6
            figures["one, later"] = min(seconds(url, CARDS)[0] for _ in range(5))
            figures[f"{AT_ONCE} at once, later"] = at_once(url, CARDS)
            taken, content = min(seconds(url, CARDS) for _ in range(3))
            assert len(json.loads(content)) == count
            for node in NODES:
                asked = [seconds(url, f"/object_info/{node}")[0] for _ in range(4)]
                figures[f"object_info of {node}"] = min(asked[1:])
        finally:
            server.stop()
        server, _ = started(comfyui, base)
        try:
            figures["one, first"] = seconds(server.url, CARDS)[0]
        finally:
            server.stop()
    print(json.dumps({key: round(value, 3) for key, value in figures.items()}, indent=1))


if __name__ == "__main__":
    main()
