"""What we write is read by the host's own loader, the one behind `embedding:name` in a prompt."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from support.wild import T5, G, H, L, rows
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.files.writing import write_embedding
from torch import Tensor

pytestmark = pytest.mark.host


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin"])
@pytest.mark.parametrize("vectors", [{"clip_l": L}, {"clip_h": H}], ids=["SD1", "SD2"])
def test_one_encoder(
    vectors: dict[str, Tensor], suffix: str, tmp_path: Path, host_modules: ModuleType
) -> None:
    assert_host_reads(vectors, suffix, tmp_path)


@pytest.mark.parametrize(
    "vectors",
    [
        {"clip_l": L, "clip_g": G},
        {"clip_l": L, "clip_g": G, "t5xxl": T5},
        {"clip_g": G},
        {"gemma2_2b": rows(2, 2304)},
    ],
    ids=["SDXL", "SD3", "SDXL refiner", "Lumina2"],
)
def test_other_encoders(
    vectors: dict[str, Tensor], tmp_path: Path, host_modules: ModuleType
) -> None:
    assert_host_reads(vectors, ".safetensors", tmp_path)


def assert_host_reads(vectors: dict[str, Tensor], suffix: str, folder: Path) -> None:
    from comfy.sd1_clip import load_embed

    write_embedding(Embedding("my-word", vectors, {"a": "note"}), folder / f"my-word{suffix}")
    for key, tensor in vectors.items():
        assert torch.equal(load_embed("my-word", str(folder), tensor.shape[1], key), tensor)
