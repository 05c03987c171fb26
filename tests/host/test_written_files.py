"""What we write is read by the host's own loader, the one behind `embedding:name` in a prompt."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from support.wild import T5, G, H, L, rows
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.files.writing import (
    DIFFUSERS_SAFETENSORS,
    FORMATS,
    ONETRAINER,
    Format,
    write_embedding,
)
from torch import Tensor

pytestmark = pytest.mark.host


READ = [*list(FORMATS.values())[:3], ONETRAINER, DIFFUSERS_SAFETENSORS]


@pytest.mark.parametrize("format", READ, ids=[*list(FORMATS)[:3], "--onetrainer", "--diffusers"])
@pytest.mark.parametrize(
    "vectors", [{"clip_l": L}, {"clip_l": L[:1]}, {"clip_h": H}], ids=["SD1", "SD1, one", "SD2"]
)
def test_one_encoder(
    vectors: dict[str, Tensor], format: Format, tmp_path: Path, host_modules: ModuleType
) -> None:
    assert_host_reads(vectors, format, tmp_path)


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
    assert_host_reads(vectors, FORMATS["safetensors"], tmp_path)


def test_onetrainers_names_for_sdxl(tmp_path: Path, host_modules: ModuleType) -> None:
    assert_host_reads({"clip_l": L, "clip_g": G}, ONETRAINER, tmp_path)


def assert_host_reads(vectors: dict[str, Tensor], format: Format, folder: Path) -> None:
    from comfy.sd1_clip import load_embed

    path = folder / f"my-word{format.suffix}"
    write_embedding(Embedding("my-word", vectors, {"a": "note"}), path, format=format)
    for key, tensor in vectors.items():
        read = load_embed("my-word", str(folder), tensor.shape[1], key)
        # The host takes one vector without a second dimension, too.
        assert torch.equal(read.reshape(tensor.shape), tensor)
