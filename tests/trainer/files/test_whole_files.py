"""Files are written whole; folders that take none are known before anything is learned."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.paths import ROOT
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.files import whole_files
from textual_inversion.trainer.files.whole_files import (
    make_folder,
    remove_abandoned,
    try_folder,
    write_whole,
)

SLOW_WRITER = """
from support.package import hide_repository_root, use_checkout
hide_repository_root()
use_checkout()
import sys
from pathlib import Path
from textual_inversion.trainer.files.whole_files import write_whole
def content():
    yield b"first half"
    print("begun", flush=True)
    sys.stdin.read()
    yield b", second half"
write_whole(Path(sys.argv[1]), content())
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
LONG_AGO = (1_700_000_000, 1_700_000_000)


@contextmanager
def disk_for(count: int) -> Iterator[None]:
    """Files can have so many bytes and no more, as on a disk that is full then."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_folder_is_made_and_tried(tmp_path: Path) -> None:
    try_folder(tmp_path / "new" / "folder", "word.safetensors")
    assert not list((tmp_path / "new" / "folder").iterdir())


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "embeddings").write_text("")
    for ask in (make_folder, lambda path: try_folder(path, "word.safetensors")):
        with pytest.raises(InputError, match="embeddings” cannot be created"):
            ask(tmp_path / "embeddings")


def test_a_name_that_is_too_long_for_the_disk(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Nothing can be written to .* name too long"):
        try_folder(tmp_path, "x" * 300)


@pytest.mark.parametrize(
    "ask",
    [
        lambda folder: try_folder(folder, "word.safetensors"),
        lambda folder: write_whole(folder / "word.safetensors", bytes(100_000)),
    ],
)
def test_a_full_disk(ask: Callable[[Path], None], tmp_path: Path) -> None:
    with disk_for(1000), pytest.raises(InputError, match="the free disk space"):
        ask(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_sentence_is_not_hidden_by_what_cannot_be_cleaned_up(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"“word\.pt” cannot be written"):
        write_whole(tmp_path / "file" / "word.pt", b"")


@pytest.mark.parametrize("tries", [3, 99])
def test_windows_waits_for_those_who_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tries: int
) -> None:
    """It replaces no file that somebody has open; here it seems so for a number of tries."""
    path, refused, replace = tmp_path / "status.json", iter(range(tries)), Path.replace
    path.write_bytes(b"old")

    def refusing(self: Path, target: Path) -> Path:
        if next(refused, None) is not None:
            raise PermissionError(errno.EACCES, "Access is denied")
        return replace(self, target)

    monkeypatch.setattr(whole_files, "_POSIX", False)
    monkeypatch.setattr(Path, "replace", refusing)
    if tries == 99:
        with pytest.raises(InputError, match=r"cannot be written \(Access is denied\)"):
            write_whole(path, b"new")
    else:
        write_whole(path, b"new")
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [
        ("status.json", b"old" if tries == 99 else b"new")
    ]


@contextmanager
def writing(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has begun to write a file, and ends it when its input ends."""
    command = [sys.executable, "-c", SLOW_WRITER, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT
    ) as process:
        assert process.stdout.readline() == b"begun\n"
        if os.name != "posix":
            # As if it had been at it for long.
            (unfinished,) = path.parent.glob(".*.tmp")
            os.utime(unfinished, LONG_AGO)
        yield process


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_what_a_killed_process_left_goes_at_the_next_start(tmp_path: Path) -> None:
    with writing(tmp_path / "word.safetensors") as process:
        process.send_signal(signal.SIGKILL)
    assert len([*tmp_path.iterdir()]) == 1
    try_folder(tmp_path, "another.safetensors")
    assert not [*tmp_path.iterdir()]


def test_what_another_process_is_writing_stays(tmp_path: Path) -> None:
    path = tmp_path / "word.safetensors"
    with writing(path) as process:
        remove_abandoned(tmp_path)
        write_whole(tmp_path / "other.safetensors", b"")
        process.communicate(b"")
    assert path.read_bytes() == b"first half, second half"
    assert not [*tmp_path.glob(".*")]


def test_only_temporary_files_of_our_own_go(tmp_path: Path) -> None:
    """Nothing of other forms or in other folders."""
    below, elsewhere = tmp_path / "words" / "below", tmp_path / "elsewhere"
    for folder in (below, elsewhere):
        folder.mkdir(parents=True)
    (below / "link").symlink_to(elsewhere, target_is_directory=True)
    names = [".word.tmp", ".word.pt.notes-on.tmp", "word.pt.01234567.tmp"]
    stays = [*(below / name for name in names), elsewhere / ".word.pt.01234567.tmp"]
    goes = [below / ".word.pt.01234567.tmp", below.parent / ".w.safetensors.89abcdef.tmp"]
    for path in (*stays, *goes):
        path.write_bytes(b"half of a wo")
        os.utime(path, LONG_AGO)
    remove_abandoned(below.parent, below=True)
    assert [path.exists() for path in (*stays, *goes)] == [True] * len(stays) + [False] * 2


def test_a_folder_that_is_only_tried(tmp_path: Path) -> None:
    (tmp_path / "present").mkdir()
    try_folder(tmp_path / "present" / "new" / "folder", "word.safetensors", keep=False)
    try_folder(tmp_path / "present", "word.safetensors", keep=False)
    assert [*tmp_path.rglob("*")] == [tmp_path / "present"]


@pytest.mark.skipif(os.name != "posix", reason="needs the lock of POSIX systems")
def test_a_file_that_is_cleared_away_before_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between making a file and locking it, another process may look at it."""
    original, seen = whole_files.take, []

    def late(file: int) -> bool | None:
        if not seen:
            seen.extend(tmp_path.iterdir())
            remove_abandoned(tmp_path)
        return original(file)

    monkeypatch.setattr(whole_files, "take", late)
    write_whole(tmp_path / "word.pt", b"content")
    assert len(seen) == 1
    assert [*tmp_path.iterdir()] == [tmp_path / "word.pt"]
    assert (tmp_path / "word.pt").read_bytes() == b"content"
