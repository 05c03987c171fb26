"""What we write is read by the host's own loader, the one behind `embedding:name` in a prompt."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from support.programs import IN_PART, READ, WORDS, WRITTEN, asked, outcome
from support.wild import G, rows
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.files.writing import write_embedding
from torch import Tensor

pytestmark = pytest.mark.host


@pytest.mark.parametrize(("format", "word"), asked("ComfyUI"))
def test_the_host_does_as_recorded(
    format: str, word: str, tmp_path: Path, host_modules: ModuleType
) -> None:
    vectors = WORDS[word].vectors
    write_embedding(WORDS[word], tmp_path / f"w{WRITTEN[format].suffix}", format=WRITTEN[format])
    read = {key for key, rows in vectors.items() if is_read(tmp_path, key, rows)}
    expected = outcome("ComfyUI", format, word)
    if expected == IN_PART:
        assert read < {*vectors}
        assert read
    else:
        assert read == ({*vectors} if expected == READ else set())


def is_read(folder: Path, key: str, vectors: Tensor) -> bool:
    from comfy.sd1_clip import load_embed

    read = load_embed("w", str(folder), vectors.shape[1], key)
    if read is None or read.shape[-1] != vectors.shape[1]:
        return False  # The host says so in its log, and drops it.
    # The host takes one vector without a second dimension, too.
    return torch.equal(read.reshape(vectors.shape), vectors)


@pytest.mark.parametrize(
    "vectors", [{"clip_g": G}, {"gemma2_2b": rows(2, 2304)}], ids=["SDXL refiner", "Lumina2"]
)
def test_other_encoders(
    vectors: dict[str, Tensor], tmp_path: Path, host_modules: ModuleType
) -> None:
    word = Embedding("w", vectors, {"a": "note"})
    write_embedding(word, tmp_path / "w.safetensors")
    assert all(is_read(tmp_path, key, rows) for key, rows in vectors.items())
