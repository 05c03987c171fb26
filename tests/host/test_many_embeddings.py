"""Folders of thousands of embeddings: looked through at once, read once, for all who ask."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file
from support.client import Host
from support.http import ask

VECTORS = {"emb_params": torch.ones(1, 768)}


def test_what_lies_in_the_folders(host_modules: ModuleType, tmp_path: Path) -> None:
    from textual_inversion.nodes.host.embedding_files import present

    first, second = tmp_path / "first", tmp_path / "second"
    (first / "below" / "deep").mkdir(parents=True)
    second.mkdir()
    for path in (
        first / "a.safetensors", first / "a.preview.png", first / "below" / "b.PT",
        first / "below" / "deep" / "c.png", first / "d.bin", first / "d.png", first / "note.txt",
        first / "e.preview.png", second / "a.safetensors", second / "f.webp",
    ):  # fmt: skip
        path.write_bytes(b"content")
    (first / "link.pt").symlink_to(tmp_path / "gone.pt")
    (first / "linked").symlink_to(second, target_is_directory=True)
    found = present([first, second, tmp_path / "not made yet"])
    assert {name: file.has_picture for name, file in found.items()} == {
        "a.safetensors": True, "below/b.PT": False, "below/deep/c.png": False, "d.bin": True,
        "f.webp": False, "link.pt": False,
    }  # fmt: skip
    assert found["a.safetensors"].path == str(first / "a.safetensors")
    assert (found["d.bin"].size, found["d.bin"].stem) == (7, "d")
    assert (found["link.pt"].is_link, found["link.pt"].size) == (True, -1)
    assert present([tmp_path / "not made yet"]) == {}


def test_links_that_lead_to_themselves_hide_nothing(
    host_modules: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import folder_paths
    from textual_inversion.nodes.host import library
    from textual_inversion.nodes.page.cards import cards
    from textual_inversion.trainer.errors import InputError

    monkeypatch.setitem(folder_paths.folder_names_and_paths, "embeddings", ([str(tmp_path)], set()))
    save_file(VECTORS, tmp_path / "word.safetensors")
    (tmp_path / "loop.pt").symlink_to(tmp_path / "loop.pt")
    assert library.negatives_first() == library.list_files() == ["loop.pt", "word.safetensors"]
    assert [bool(card["error"]) for card in cards()] == [True, False]
    with pytest.raises(InputError, match=r"There is no embedding “loop\.pt”"):
        library.read("loop.pt")


def test_what_a_killed_server_was_writing_is_cleared_away(
    host_modules: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import folder_paths
    from textual_inversion.nodes.page.runs import clear_away, runs_folder

    words = tmp_path / "words"
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "embeddings", ([str(words)], set()))
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    clear_away()  # No folder need be there.
    kept = words / "below" / "word.pt"
    run = runs_folder() / "word_00001"
    left = [kept.with_name(".word.pt.01234567.tmp"), run / "words" / ".step.pt.89abcdef.tmp"]
    for path in (kept, *left):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half of a wo")
        os.utime(path, (1_700_000_000, 1_700_000_000))
    clear_away()
    assert [path.exists() for path in (kept, *left)] == [True, False, False]


def test_a_file_is_read_once_until_it_changes(host_modules: ModuleType, tmp_path: Path) -> None:
    from textual_inversion.nodes.host.embedding_files import EmbeddingFile, Known, present

    read: list[str] = []

    def note(file: EmbeddingFile) -> str:
        read.append(file.name)
        return Path(file.path).read_text()

    known = Known(note)
    # As many as nobody would keep by number.
    for number in range(5000):
        (tmp_path / f"{number:04d}.pt").write_text(str(number))
    assert known.of(sorted(present([tmp_path]).values())) == [str(n) for n in range(5000)]
    assert len(read) == 5000
    read.clear()
    (tmp_path / "0007.pt").write_text("longer than before")
    (tmp_path / "0008.pt").write_text("x")
    os.utime(tmp_path / "0008.pt", (1, 1))
    (tmp_path / "0009.pt").unlink()
    again = known.of(sorted(present([tmp_path]).values()))
    assert read == ["0007.pt", "0008.pt"]
    assert again[6:10] == ["6", "longer than before", "x", "10"]
    # What is gone was forgotten.
    (tmp_path / "0009.pt").write_text("9")
    known.of([])
    known.of(present([tmp_path]).values())
    assert len(read) == 2 + 5000


def test_one_reads_for_all(host_modules: ModuleType) -> None:
    """Those who come together share an answer, which is never older than their question."""
    from textual_inversion.nodes.page.one_reader import OneReader

    begun: list[int] = []
    at_once, most = 0, 0
    lock = threading.Lock()

    def read() -> int:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
            begun.append(len(begun))
        time.sleep(0.1)
        with lock:
            at_once -= 1
        return begun[-1]

    async def ask_often() -> list[int]:
        reader = OneReader(read)
        first = asyncio.create_task(reader.ask())
        await asyncio.sleep(0.05)
        late = [asyncio.create_task(reader.ask()) for _ in range(8)]
        await asyncio.sleep(0)
        late[0].cancel()
        answers = await asyncio.gather(first, *late, return_exceptions=True)
        assert isinstance(answers.pop(1), asyncio.CancelledError)
        return [answer for answer in answers if isinstance(answer, int)]

    assert asyncio.run(ask_often()) == [0] + [1] * 7
    assert (most, len(begun)) == (1, 2)


def test_those_who_come_at_the_same_time_share_one_reading(
    host_modules: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from textual_inversion.nodes.page import one_reader
    from textual_inversion.nodes.page.one_reader import OneReader

    monkeypatch.setattr(one_reader, "GATHERING", 1.0)  # On a busy machine a moment is long.
    begun: list[int] = []

    async def ask_together() -> None:
        reader = OneReader(lambda: begun.append(1))
        asked = []
        for _ in range(8):
            asked.append(asyncio.create_task(reader.ask()))
            await asyncio.sleep(0.0005)  # As requests come in, one after the other.
        await asyncio.gather(*asked)

    asyncio.run(ask_together())
    assert len(begun) == 1


def test_an_error_is_told_to_all_and_ends_nothing(host_modules: ModuleType) -> None:
    from textual_inversion.nodes.page.one_reader import OneReader

    broken = True

    def read() -> str:
        if broken:
            raise OSError("gone")
        return "here"

    async def ask_twice() -> str:
        nonlocal broken
        reader = OneReader(read)
        for answer in await asyncio.gather(
            *(reader.ask() for _ in range(3)), return_exceptions=True
        ):
            assert isinstance(answer, OSError)
        broken = False
        return await reader.ask()

    assert asyncio.run(ask_twice()) == "here"


def test_pictures_are_looked_at_when_they_are_asked_for(host: Host) -> None:
    save_file(VECTORS, host.embeddings / "many-unseen.safetensors")
    (host.embeddings / "many-unseen.preview.png").write_bytes(b"no picture at all")
    save_file(VECTORS, host.embeddings / "many-plain.safetensors")

    def card(name: str) -> dict:
        _, _, content = ask(host, "/textual_inversion/embeddings")
        return next(c for c in json.loads(content) if c["name"] == name)

    assert card("many-unseen")["preview"] is True
    assert card("many-plain")["preview"] is False
    asked = "/textual_inversion/embeddings/preview?file=many-unseen.safetensors"
    assert ask(host, asked)[0] == 404
    # A changed file is another card at once.
    path = host.embeddings / "many-plain.safetensors"
    save_file({"emb_params": torch.ones(4, 768)}, path)
    assert card("many-plain")["vectors"] == 4
    path.write_bytes(b"nothing")
    assert "many-plain" in card("many-plain")["error"]
    path.unlink()
    with pytest.raises(StopIteration):
        card("many-plain")
