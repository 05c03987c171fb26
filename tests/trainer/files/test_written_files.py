"""Writing embeddings: what is in the files, that they are whole, and that other tools load them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.wild import T5, G, H, L, rows
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.files.reading import READABLE_SUFFIXES, read_embedding
from textual_inversion.trainer.files.safetensors_files import HASH
from textual_inversion.trainer.files.writing import (
    DIFFUSERS_SAFETENSORS,
    FORMATS,
    ONETRAINER,
    Format,
    write_embedding,
)

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


@pytest.mark.parametrize("format", [FORMATS["diffusers"], DIFFUSERS_SAFETENSORS])
@pytest.mark.parametrize("kept", ["clip_l", "clip_g"])
def test_one_half_is_not_joined_with_what_an_older_word_left(
    kept: str, format: Format, tmp_path: Path
) -> None:
    path = tmp_path / f"my-word{format.suffix}"
    halves = write_embedding(DOUBLE, path, format=format)
    path.unlink()
    word = Embedding("my-word", {kept: DOUBLE.vectors[kept] * 2})
    if kept == "clip_g":  # Two of one encoder are no word of SDXL.
        assert write_embedding(word, path, format=format) == [path]
        return
    with pytest.raises(InputError, match=r"my-word_2.* already exists"):
        write_embedding(word, path, format=format)
    assert [*tmp_path.iterdir()] == halves[1:]
    write_embedding(word, path, overwrite=True, format=format)
    assert [*tmp_path.iterdir()] == [path]
    assert read_embedding(path).fingerprint == word.fingerprint


def test_a_name_that_the_disk_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be written \(File name too long\)"):
        write_embedding(SINGLE, tmp_path / f"{'x' * 300}.pt")


@pytest.mark.parametrize("embedding", [DOUBLE, TRIPLE], ids=["SDXL", "SD3"])
def test_round_trip_of_several_encoders(embedding: Embedding, tmp_path: Path) -> None:
    read = read_embedding(save(embedding, tmp_path))
    assert read.fingerprint == embedding.fingerprint
    assert {k: v for k, v in read.metadata.items() if k != HASH} == embedding.metadata
    for name, format in list(FORMATS.items())[1:]:
        if (name, embedding) != ("diffusers", DOUBLE):
            with pytest.raises(InputError, match=r"clip_l and clip_g.* save it as \.safetensors"):
                save(embedding, tmp_path, format.suffix)


@pytest.mark.parametrize("format", [FORMATS["diffusers"], DIFFUSERS_SAFETENSORS])
def test_the_two_files_of_diffusers(format: Format, tmp_path: Path) -> None:
    path = tmp_path / f"my-word{format.suffix}"
    other = tmp_path / f"my-word_2{format.suffix}"
    assert write_embedding(DOUBLE, path, format=format) == [path, other]
    assert read_embedding(path).fingerprint == DOUBLE.fingerprint
    read = load_file if format.suffix == ".safetensors" else torch.load
    assert torch.equal(read(path)["<my-word>"], L)
    assert torch.equal(read(other)["<my-word>"], G)
    path.unlink()
    with pytest.raises(InputError, match=r"“my-word_2.* already exists"):
        write_embedding(DOUBLE, path, format=format)
    assert not path.exists()


def test_no_half_of_two_files_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full: list[int] = []

    def sync(descriptor: int) -> None:
        full.append(descriptor)
        if len(full) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", sync)
    with pytest.raises(InputError, match=r"_2.bin” cannot be written \(No space left"):
        save(DOUBLE, tmp_path, ".bin")
    assert not list(tmp_path.iterdir())


def test_half_precision(tmp_path: Path) -> None:
    for format in FORMATS.values():
        path = tmp_path / f"my-word{format.suffix}"
        write_embedding(SINGLE, path, dtype=torch.float16)
        assert torch.equal(read_embedding(path).vectors["clip_l"], L.half().float())
    assert load_file(tmp_path / "my-word.safetensors")["emb_params"].dtype == torch.float16
    assert torch.load(tmp_path / "my-word.bin")["<my-word>"].dtype == torch.float16
    with pytest.raises(InputError, match="values too large for float16"):
        write_embedding(
            Embedding("far", {"clip_l": L * 1e9}), tmp_path / "far.pt", dtype=torch.float16
        )


WRITE_ALL = """
import sys, torch
from pathlib import Path
from textual_inversion.trainer.files import writing
from textual_inversion.trainer.files.reading import read_embedding
folder, source = map(Path, sys.argv[1:])
word = read_embedding(source, "my-word")
for format in (*writing.FORMATS.values(), writing.ONETRAINER, writing.DIFFUSERS_SAFETENSORS):
    writing.write_embedding(word, folder / f"my-word{format.suffix}", format=format, overwrite=True)
    print(*map(str, [folder / f"my-word{format.suffix}"]))
    (folder / f"my-word{format.suffix}").rename(folder / str(len(list(folder.iterdir()))))
"""


def test_the_same_content_has_the_same_bytes(tmp_path: Path) -> None:
    """In processes of their own: A1111's short hash and other indexes hang on a file's bytes."""
    notes = {f"note {i}": str(i) for i in range(30)} | {"word": "漢字"}
    source = tmp_path / "source.safetensors"
    write_embedding(Embedding("source", {"clip_l": L}, notes), source)
    hashes = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        subprocess.run(
            [sys.executable, "-c", WRITE_ALL, str(folder), str(source)],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        files = sorted(folder.iterdir())
        assert len(files) == len(FORMATS) + 2
        hashes.append([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])
    assert hashes[0] == hashes[1]


def test_notes_have_an_order(tmp_path: Path) -> None:
    notes = {f"note {i}": str(i) for i in range(30)}
    path = tmp_path / "word.safetensors"
    save_file({"emb_params": L}, path, dict(reversed(notes.items())))  # in an order of chance
    assert list(read_embedding(path).metadata) == sorted(notes)


def test_notes_say_the_new_name() -> None:
    """Whoever wrote them; but a title in a person's words stays."""
    word = Embedding("old", {"clip_l": L}, {"name": "old", "modelspec.title": "old", "step": "5"})
    assert word.renamed("new").metadata == {
        "name": "new",
        "modelspec.title": "new",
        "modelspec.trigger_phrase": "new",
        "step": "5",
    }
    titled = Embedding("old", {"clip_l": L}, {"name": '"old"', "modelspec.title": "A toy"})
    assert titled.renamed("new").metadata == {
        "name": '"new"',
        "modelspec.title": "A toy",
        "modelspec.trigger_phrase": "new",
    }


def test_safetensors_layout(tmp_path: Path) -> None:
    with safe_open(save(SINGLE, tmp_path), "pt") as file:
        assert file.keys() == ["emb_params"]
        assert {k: v for k, v in file.metadata().items() if k != HASH} == SINGLE.metadata
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
    one = Embedding("one", {"clip_l": L[:1]})
    write_embedding(one, tmp_path / "one.bin")
    # As its first files had it: InvokeAI and refiners read only that.
    assert torch.equal(torch.load(tmp_path / "one.bin", weights_only=True)["<one>"], L[0])
    assert read_embedding(tmp_path / "one.bin").fingerprint == one.fingerprint


def test_same_vectors_are_not_written_again(tmp_path: Path) -> None:
    path = save(SINGLE, tmp_path)
    before = path.stat()
    write_embedding(Embedding("my-word", {"clip_l": L}, {"other": "notes"}), path)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_another_word_is_not_overwritten(tmp_path: Path) -> None:
    path = save(SINGLE, tmp_path)
    before = path.read_bytes()
    other = Embedding("my-word", {"clip_l": L + 1})
    with pytest.raises(InputError, match=r"“my-word.safetensors” already exists"):
        write_embedding(other, path)
    assert path.read_bytes() == before
    write_embedding(other, path, overwrite=True)
    assert read_embedding(path).fingerprint == other.fingerprint
    path.write_text("not an embedding")
    with pytest.raises(InputError, match="already exists"):
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


@pytest.mark.parametrize(
    "format",
    [*list(FORMATS.values())[:3], ONETRAINER, DIFFUSERS_SAFETENSORS],
    ids=[*list(FORMATS)[:3], "--onetrainer", "--diffusers"],
)
def test_diffusers_loads_what_we_write(format: Format, tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    from support.tiny_models import tiny

    learned = rows(3, 32)
    path = tmp_path / f"my-word{format.suffix}"
    write_embedding(Embedding("my-word", {"clip_l": learned}), path, format=format)
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


def test_diffusers_loads_its_two_files(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    from support.tiny_models import tiny

    vectors = {"clip_l": rows(1, 32), "clip_g": rows(1, 48)}
    path = tmp_path / "my-word.safetensors"
    files = write_embedding(Embedding("my-word", vectors), path, format=DIFFUSERS_SAFETENSORS)
    pipeline = tiny("sdxl", tmp_path / "model").pipeline()
    parts = (
        ("clip_l", pipeline.text_encoder, pipeline.tokenizer),
        ("clip_g", pipeline.text_encoder_2, pipeline.tokenizer_2),
    )
    for file, (key, encoder, tokenizer) in zip(files, parts, strict=True):
        pipeline.load_textual_inversion(str(file), text_encoder=encoder, tokenizer=tokenizer)
        token = tokenizer.convert_tokens_to_ids("<my-word>")
        assert torch.equal(encoder.get_input_embeddings().weight[[token]], vectors[key])


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
