"""Folders that take no files are known before anything is learned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.files.whole_files import make_folder, try_folder, write_whole


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
        with pytest.raises(InputError, match="embeddings” cannot be made"):
            ask(tmp_path / "embeddings")


def test_a_name_that_is_too_long_for_the_disk(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Nothing can be written into .* name too long"):
        try_folder(tmp_path, "x" * 300)


@pytest.mark.parametrize(
    "ask",
    [
        lambda folder: try_folder(folder, "word.safetensors"),
        lambda folder: write_whole(folder / "word.safetensors", bytes(100_000)),
    ],
)
def test_a_full_disk(ask: Callable[[Path], None], tmp_path: Path) -> None:
    with disk_for(1000), pytest.raises(InputError, match="the space on the disk"):
        ask(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_sentence_is_not_hidden_by_what_cannot_be_cleaned_up(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"“word\.pt” cannot be written"):
        write_whole(tmp_path / "file" / "word.pt", b"")
