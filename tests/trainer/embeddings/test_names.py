"""What new words may be called, on every disk."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
import torch
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.embeddings.names import new_name, same_name
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.files.whole_files import try_folder
from textual_inversion.trainer.files.writing import write_embedding
from textual_inversion.trainer.settings import PAIR_SUFFIX


@pytest.mark.parametrize(
    "name", ["CON", "nul", "aux", "COM1.txt", "lpt9", "com¹", "word.", "漢" * 79, "😀" * 60]
)
def test_names_that_some_disk_cannot_keep(name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of an embedding"):
        new_name(name)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (" mug.safetensors ", "mug"),
        ("mug.PT", "mug"),
        ("v1.5-style.bin", "v1.5-style"),
        ("console", "console"),
        ("com10", "com10"),
        (unicodedata.normalize("NFD", "café"), "café"),
    ],
)
def test_names_as_they_are_kept(given: str, name: str) -> None:
    assert new_name(given) == name
    assert unicodedata.is_normalized("NFC", new_name(given))


@pytest.mark.parametrize("name", ["a" * 200, "漢" * 66, "😀" * 50])
def test_the_longest_names_are_written_with_all_that_is_added(name: str, tmp_path: Path) -> None:
    longest = f"{new_name(name)}{PAIR_SUFFIX}-interrupted"
    try_folder(tmp_path, f"{longest}.safetensors")
    assert not list(tmp_path.iterdir())
    path = tmp_path / f"{longest}.safetensors"
    write_embedding(Embedding(longest, {"clip_l": torch.ones(1, 768)}), path)
    assert path.is_file()


def test_names_that_are_the_same_on_some_disks() -> None:
    assert same_name("Plain", "plain")
    assert same_name("café", unicodedata.normalize("NFD", "Café"))
    assert not same_name("plain", "plain-2")
