"""Words inside LoRA files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.wild import G, L, lora, rows, write
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.files.bundles import bundle
from textual_inversion.trainer.files.reading import read_embedding, read_words

ONE = Embedding("one", {"clip_l": L})
BOTH = Embedding("both", {"clip_l": L + 1, "clip_g": G})
THREE = Embedding("three", {"clip_l": L, "t5xxl": rows(2, 4096)})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    # Numbers of one byte before others, an odd number of them: nothing may come to stand askew.
    odd = {"lora_te_a.alpha": torch.zeros(3, dtype=torch.uint8)}
    return write(lora() | odd, tmp_path / "style.safetensors", {"ss_steps": "5"})


def test_in_and_out_again(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "both.safetensors"
    bundle(source, [ONE, BOTH, THREE], target)
    before, after = load_file(source), load_file(target)
    assert {k: v for k, v in after.items() if k in before}.keys() == before.keys()
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())
    # OneTrainer's names.
    assert {key for key in after if key not in before} == {
        "bundle_emb.one.clip_l",
        "bundle_emb.both.clip_l",
        "bundle_emb.both.clip_g",
        "bundle_emb.three.clip_l",
        "bundle_emb.three.t5",
    }
    assert sorted(read_words(target)) == ["both", "one", "three"]
    for word in (ONE, BOTH, THREE):
        assert read_embedding(target, word.name).fingerprint == word.fingerprint
    content = target.read_bytes()
    data = content[8 + int.from_bytes(content[:8], "little") :]
    with safe_open(target, "pt") as file:
        assert file.metadata() == {
            "ss_steps": "5",
            "modelspec.hash_sha256": f"0x{hashlib.sha256(data).hexdigest()}",
        }


def test_into_the_same_file(source: Path) -> None:
    with pytest.raises(InputError, match="already exists"):
        bundle(source, [ONE], source)
    bundle(source, [ONE], source, overwrite=True)
    bundle(source, [BOTH], source, overwrite=True, dtype=torch.float16)
    assert sorted(read_words(source)) == ["both", "one"]
    assert load_file(source)["bundle_emb.both.clip_g"].dtype == torch.float16
    before = source.read_bytes()
    with pytest.raises(InputError, match="would hold two words “one”"):
        bundle(source, [ONE], source, overwrite=True)
    assert source.read_bytes() == before


def test_what_carries_no_words(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "new.safetensors"
    embedding = tmp_path / "word.safetensors"
    save_file({"emb_params": L}, embedding)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(source.read_bytes()[:-1])
    nonsense = tmp_path / "nonsense.safetensors"
    nonsense.write_bytes(b"\x04" + b"\0" * 7 + b"[[1]")
    for path, reason in (
        (embedding, "is not a LoRA"),
        (cut, "is damaged"),
        (nonsense, "is damaged"),
        (tmp_path / "absent.safetensors", "does not exist"),
        (tmp_path, "is not a .safetensors file"),
    ):
        with pytest.raises(InputError, match=reason):
            bundle(path, [ONE], target)
    with pytest.raises(InputError, match=r"does not end in \.safetensors"):
        bundle(source, [ONE], tmp_path / "new.pt")
    assert not target.exists()
