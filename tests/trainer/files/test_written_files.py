"""Writing embeddings: what is in the files, that they are whole, and that other tools load them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from support.wild import T5, G, H, L, rows
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.files.reading import READABLE_SUFFIXES, read_embedding
from textual_inversion.trainer.files.writing import FORMATS, Format, write_embedding

SINGLE = Embedding("my-word", {"clip_l": L}, {"sd_checkpoint": "c35782bad8", "step": "70"})
SECOND = Embedding("my-word", {"clip_h": H})
DOUBLE = Embedding("my-word", {"clip_l": L, "clip_g": G}, {"modelspec.title": "my word"})
TRIPLE = Embedding("my-word", {"clip_l": L, "clip_g": G, "t5xxl": T5})
ALL_FORMATS = pytest.mark.parametrize("format", FORMATS.values(), ids=list(FORMATS))


def save(embedding: Embedding, folder: Path, suffix: str = ".safetensors") -> Path:
    path = folder / f"my-word{suffix}"
    write_embedding(embedding, path)
    return path


@ALL_FORMATS
@pytest.mark.parametrize("embedding", [SINGLE, SECOND], ids=["SD1", "SD2"])
def test_round_trip(embedding: Embedding, format: Format, tmp_path: Path) -> None:
    read = read_embedding(save(embedding, tmp_path, format.suffix))
    assert read.fingerprint == embedding.fingerprint
    assert [p.name for p in tmp_path.iterdir()] == [f"my-word{format.suffix}"]


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
def test_conversion_keeps_every_bit(source: str, target: str, tmp_path: Path) -> None:
    first = read_embedding(save(SINGLE, tmp_path, FORMATS[source].suffix))
    path = tmp_path / f"copy{FORMATS[target].suffix}"
    write_embedding(first, path)
    assert read_embedding(path, "my-word").fingerprint == SINGLE.fingerprint


@pytest.mark.parametrize("embedding", [DOUBLE, TRIPLE], ids=["SDXL", "SD3"])
def test_round_trip_of_several_encoders(embedding: Embedding, tmp_path: Path) -> None:
    read = read_embedding(save(embedding, tmp_path))
    assert read.fingerprint == embedding.fingerprint
    assert read.metadata == embedding.metadata
    for format in list(FORMATS.values())[1:]:
        with pytest.raises(InputError, match=r"clip_l and clip_g.* save it as \.safetensors"):
            save(embedding, tmp_path, format.suffix)


def test_safetensors_layout(tmp_path: Path) -> None:
    with safe_open(save(SINGLE, tmp_path), "pt") as file:
        assert file.keys() == ["emb_params"]
        assert file.metadata() == SINGLE.metadata
    assert load_file(tmp_path / "my-word.safetensors")["emb_params"].dtype == torch.float32
    write_embedding(DOUBLE, tmp_path / "double.safetensors")
    assert set(load_file(tmp_path / "double.safetensors")) == {"clip_l", "clip_g"}
    for name, key, width in (("refiner", "clip_g", 1280), ("tiny", "clip_l", 32)):
        path = tmp_path / f"{name}.safetensors"
        write_embedding(Embedding(name, {key: rows(2, width)}), path)
        assert list(load_file(path)) == [key]
        assert read_embedding(path).widths == {key: width}


def test_a1111_layout(tmp_path: Path) -> None:
    data = torch.load(save(SINGLE, tmp_path, ".pt"), weights_only=True)
    assert torch.equal(data["string_to_param"].pop("*"), L)
    assert data == {
        "string_to_token": {"*": 265},
        "string_to_param": {},
        "name": "my-word",
        "step": 70,
        "sd_checkpoint": "c35782bad8",
        "sd_checkpoint_name": None,
    }


def test_diffusers_layout(tmp_path: Path) -> None:
    data = torch.load(save(SINGLE, tmp_path, ".bin"), weights_only=True)
    assert list(data) == ["<my-word>"]
    assert torch.equal(data["<my-word>"], L)


def test_same_vectors_are_not_written_again(tmp_path: Path) -> None:
    path = save(SINGLE, tmp_path)
    before = path.stat()
    write_embedding(Embedding("my-word", {"clip_l": L}, {"other": "notes"}), path)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_another_word_is_not_overwritten(tmp_path: Path) -> None:
    path = save(SINGLE, tmp_path)
    before = path.read_bytes()
    other = Embedding("my-word", {"clip_l": L + 1})
    with pytest.raises(InputError, match=r"“my-word.safetensors” exists already"):
        write_embedding(other, path)
    assert path.read_bytes() == before
    write_embedding(other, path, overwrite=True)
    assert read_embedding(path).fingerprint == other.fingerprint
    path.write_text("not an embedding")
    with pytest.raises(InputError, match="exists already"):
        write_embedding(other, path)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_error_leaves_nothing(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(SINGLE, tmp_path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os if step == "fsync" else Path, step, full)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\)"):
        write_embedding(Embedding("my-word", {"clip_l": L + 1}), path, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["folder/word.pt", "word", "word.ckpt", "word.txt", "word.pti"])
def test_paths_that_cannot_be_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be written|needs a suffix"):
        write_embedding(SINGLE, tmp_path / name)
    assert not list(tmp_path.iterdir())


@ALL_FORMATS
def test_zeros_are_not_written(format: Format, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing but zeros"):
        save(Embedding("my-word", {"clip_l": L * 0}), tmp_path, format.suffix)
    assert not list(tmp_path.iterdir())


def test_what_is_written_is_listed_as_readable() -> None:
    assert {format.suffix for format in FORMATS.values()} <= READABLE_SUFFIXES


def test_what_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="more than 2 MB of notes"):
        save(Embedding("my-word", {"clip_l": L}, {"note": "x" * 3_000_000}), tmp_path)
    with pytest.raises(InputError, match="too many vectors"):
        save(Embedding("my-word", {"clip_l": rows(6000, 768)}), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_the_most_vectors(suffix: str, tmp_path: Path) -> None:
    embedding = Embedding("my-word", {"clip_l": rows(5461, 768)})
    assert read_embedding(save(embedding, tmp_path, suffix)).fingerprint == embedding.fingerprint


# Other readers of what we write


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin"])
def test_diffusers_loads_what_we_write(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    from support.tiny_models import tiny

    learned = rows(3, 32)
    path = save(Embedding("my-word", {"clip_l": learned}), tmp_path, suffix)
    pipeline = tiny("sd1", tmp_path / "model").pipeline()
    pipeline.load_textual_inversion(str(path), token="my-word")
    tokens = pipeline.tokenizer.convert_tokens_to_ids(["my-word", "my-word_1", "my-word_2"])
    vocabulary = pipeline.text_encoder.get_input_embeddings().weight
    assert torch.equal(vocabulary[tokens], learned)


def test_diffusers_takes_the_word_from_its_own_format(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    from support.tiny_models import tiny

    path = save(Embedding("my-word", {"clip_l": rows(1, 32)}), tmp_path, ".bin")
    pipeline = tiny("sd1", tmp_path / "model").pipeline()
    pipeline.load_textual_inversion(str(path))
    assert "<my-word>" in pipeline.tokenizer.get_vocab()


def test_diffusers_loads_both_encoders(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    from support.tiny_models import tiny

    vectors = {"clip_l": rows(2, 32), "clip_g": rows(2, 48)}
    stored = load_file(save(Embedding("my-word", vectors), tmp_path))
    pipeline = tiny("sdxl", tmp_path / "model").pipeline()
    for key, encoder, tokenizer in (
        ("clip_l", pipeline.text_encoder, pipeline.tokenizer),
        ("clip_g", pipeline.text_encoder_2, pipeline.tokenizer_2),
    ):
        pipeline.load_textual_inversion(
            {"my-word": stored[key]}, "my-word", text_encoder=encoder, tokenizer=tokenizer
        )
        tokens = tokenizer.convert_tokens_to_ids(["my-word", "my-word_1"])
        assert torch.equal(encoder.get_input_embeddings().weight[tokens], vectors[key])


def test_what_a_killed_process_left_goes_with_the_next_word(tmp_path: Path) -> None:
    """Not what another process may be writing now, and nothing of other names or forms."""
    old = [".my-word.safetensors.01234567.tmp", ".my-word-interrupted.pt.89abcdef.tmp"]
    others = [".my-other.pt.01234567.tmp", ".my-word.tmp", ".my-word.pt.notes-on.tmp"]
    for name in (*old, *others, ".my-word.safetensors.76543210.tmp"):
        (tmp_path / name).write_bytes(b"half of a wo")
        if not name.endswith("76543210.tmp"):
            os.utime(tmp_path / name, (1_700_000_000, 1_700_000_000))
    save(SINGLE, tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*others, ".my-word.safetensors.76543210.tmp", "my-word.safetensors"}
