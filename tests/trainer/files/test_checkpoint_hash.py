"""The hash of a checkpoint, from what other tools have written beside it, or from the file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from support.wild import L
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.files.checkpoint_hash import CheckpointHash, known_hash

HASH = "6CE0161689B3853ACAA03779EC93EAFE75A02F4CED659BEE03F50797806FA2FA"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.sha256", HASH),
        ("model.safetensors.sha256", f"{HASH.lower()}  model.safetensors\n"),
        ("model.metadata.json", json.dumps({"sha256": HASH.lower()})),
        ("model.civitai.info", json.dumps({"files": [{"hashes": {"SHA256": HASH}}]})),
    ],
)
def test_hashes_of_other_tools(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    assert known_hash(tmp_path / "model.safetensors") == "6ce0161689"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.sha256", "no hash"),
        ("other.sha256", HASH),
        ("model.metadata.json", "["),
        ("model.metadata.json", "[" * 100_000),
        ("model.metadata.json", json.dumps({"sha256": 5})),
        ("model.civitai.info", json.dumps({"files": 2 * [{"hashes": {"SHA256": HASH}}]})),
        ("model.civitai.info", json.dumps({"files": [{"hashes": 5}]})),
    ],
)
def test_what_says_nothing(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    assert known_hash(tmp_path / "model.safetensors") == ""


def test_a_hash_that_is_worked_out(tmp_path: Path) -> None:
    word = Embedding("w", {"clip_l": L}, {"other": "note"})
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    found = CheckpointHash(tmp_path / "model.safetensors").noted_in(word)
    expected = hashlib.sha256(b"weights").hexdigest()[:10]
    assert found.metadata == {"other": "note", "sd_checkpoint": expected}
    known = Embedding("w", {"clip_l": L}, {"sd_checkpoint": "known"})
    assert CheckpointHash(tmp_path / "model.safetensors").noted_in(known) is known
    for nothing in (tmp_path, tmp_path / "absent"):
        assert CheckpointHash(nothing).noted_in(word) is word


def test_a_hash_noted_beside_the_checkpoint_is_not_worked_out(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "model.sha256").write_text(HASH)
    found = CheckpointHash(tmp_path / "model.safetensors").noted_in(Embedding("w", {"clip_l": L}))
    assert found.metadata == {"sd_checkpoint": "6ce0161689"}
