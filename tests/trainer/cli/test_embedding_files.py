"""The commands that work on embedding files, in processes of their own and in this one."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from textual_inversion.trainer.cli import main as cli
from textual_inversion.trainer.cli.embedding_files import FILE_COMMANDS
from textual_inversion.trainer.embeddings.drawing import WIDTH
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.files.reading import read_embedding
from textual_inversion.trainer.files.writing import write_embedding


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rows = torch.randn(2, 768, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "word.safetensors"
    notes = {"modelspec.title": "A word", "modelspec.trigger_phrase": "word"}
    write_embedding(Embedding("word", {"clip_l": rows}, notes), path)
    return path


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "textual_inversion", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
    )


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that bad input leaves."""
    capsys.readouterr()
    assert cli.main([str(a) for a in arguments], further=FILE_COMMANDS) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_the_commands_in_processes_of_their_own(source: Path, tmp_path: Path) -> None:
    done = run("convert", source, tmp_path / "other.pt")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == str(tmp_path / "other.pt")
    told = run("inspect", tmp_path / "other.pt")
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith("other: for Stable Diffusion 1\n")
    assert run("inspect", tmp_path / "absent.pt").returncode == 2


def test_convert_to_every_format(source: Path, tmp_path: Path, capsys) -> None:
    before = read_embedding(source).vectors["clip_l"]
    for suffix in (".safetensors", ".pt", ".bin", ".png"):
        target = tmp_path / f"new{suffix}"
        assert cli.main(["convert", str(source), str(target)], FILE_COMMANDS) == 0
        word = read_embedding(target)
        assert word.name == "new"
        assert torch.equal(word.vectors["clip_l"], before)
    notes = read_embedding(tmp_path / "new.safetensors").metadata
    assert notes == {"modelspec.title": "A word", "modelspec.trigger_phrase": "new"}
    assert "exists already" in refused(capsys, "convert", other(tmp_path), tmp_path / "new.pt")
    overwriting = ["convert", str(other(tmp_path)), str(tmp_path / "new.pt"), "--overwrite"]
    assert cli.main(overwriting, FILE_COMMANDS) == 0
    assert float(read_embedding(tmp_path / "new.pt").vectors["clip_l"][0, 0]) == 1


def other(folder: Path) -> Path:
    save_file({"emb_params": torch.ones(1, 768)}, folder / "ones.safetensors")
    return folder / "ones.safetensors"


def test_convert_for_onetrainer(source: Path, tmp_path: Path, capsys) -> None:
    """It spells one name as no other tool, and calls T5 otherwise than ComfyUI does."""
    flux = tmp_path / "flux.safetensors"
    save_file({"clip_l": torch.ones(2, 768), "t5xxl": torch.ones(2, 4096)}, flux)
    for given, names in ((source, {"emp_params"}), (flux, {"clip_l", "t5"})):
        target = tmp_path / f"for-{given.stem}.safetensors"
        assert cli.main(["convert", str(given), str(target), "--onetrainer"], FILE_COMMANDS) == 0
        assert set(load_file(target)) == names
        before, after = (read_embedding(path) for path in (given, target))
        assert after.renamed(before.name).fingerprint == before.fingerprint
        back = ["convert", str(target), str(tmp_path / "back" / target.name)]
        (tmp_path / "back").mkdir(exist_ok=True)
        assert cli.main(back, FILE_COMMANDS) == 0
        assert set(load_file(back[-1])) == set(load_file(given))
    # The same vectors, but not as they are asked for.
    existing = refused(capsys, "convert", source, source, "--onetrainer")
    assert "exists already" in existing
    wrong = refused(capsys, "convert", source, tmp_path / "new.pt", "--onetrainer")
    assert wrong.strip().endswith("needs a suffix that names its format: .safetensors.")


def test_convert_refuses(source: Path, tmp_path: Path, capsys) -> None:
    assert "suffix" in refused(capsys, "convert", source, tmp_path / "new.ckpt")
    assert "cannot be the name" in refused(capsys, "convert", source, tmp_path / "a b.pt")
    assert "no folder" in refused(capsys, "convert", source, tmp_path / "absent" / "new.pt")
    both = tmp_path / "both.safetensors"
    save_file({"clip_l": torch.ones(1, 768), "clip_g": torch.ones(1, 1280)}, both)
    assert "one encoder" in refused(capsys, "convert", both, tmp_path / "new.pt")
    assert not list(tmp_path.glob("new.*"))


def test_one_word_of_several(tmp_path: Path, capsys) -> None:
    lora = tmp_path / "lora.safetensors"
    tensors = {f"bundle_emb.{name}.emb_params": torch.full((1, 768), x) for name, x in
               (("one", 1.0), ("two", 2.0))}  # fmt: skip
    save_file(tensors, lora)
    assert "choose one of “one”, “two”" in refused(capsys, "inspect", lora)
    target = tmp_path / "second.safetensors"
    assert cli.main(["convert", str(lora), str(target), "--word", "two"], FILE_COMMANDS) == 0
    assert float(read_embedding(target).vectors["clip_l"][0, 0]) == 2


def test_inspect_with_a_model_names_the_nearest_words(saved_sd1: Path, tmp_path: Path, capsys):
    from transformers import CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(saved_sd1 / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(saved_sd1 / "text_encoder")
    number = tokenizer("cat", add_special_tokens=False).input_ids[0]
    row = encoder.get_input_embeddings().weight[[number]].detach()
    path = tmp_path / "w.safetensors"
    write_embedding(Embedding("w", {"clip_l": 2 * row}), path)
    assert cli.main(["inspect", str(path), "--model", str(saved_sd1)], FILE_COMMANDS) == 0
    out = capsys.readouterr().out
    assert f"near {tokenizer.decode(number).strip()} 1.00" in out
    assert "A word of the vocabulary is" in out
    assert "model_index.json" in refused(capsys, "inspect", path, "--model", tmp_path)


def test_preview(source: Path, tmp_path: Path, capsys) -> None:
    assert cli.main(["preview", str(source)], FILE_COMMANDS) == 0
    preview = tmp_path / "word.vectors.png"  # What `train` draws is called word.preview.png.
    assert capsys.readouterr().out.strip() == str(preview)
    assert Image.open(preview).size[0] == WIDTH
    assert "exists already" in refused(capsys, "preview", source)
    assert ".png" in refused(capsys, "preview", source, "--output", tmp_path / "a.jpg")
    missing = tmp_path / "absent" / "a.png"
    assert "cannot be written" in refused(capsys, "preview", source, "--output", missing)


def test_inspect_reads_little_of_a_checkpoint(
    saved_sd1: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Words come from the table of the text encoder alone; the file claims to have 8 GB."""
    table = torch.randn(40, 768, generator=torch.Generator().manual_seed(5)).half()
    word = tmp_path / "word.safetensors"
    write_embedding(Embedding("word", {"clip_l": 3 * table[[9]].float()}), word)
    size, rest = table.numel() * 2, 8 * 1024**3
    shapes = {
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": {
            "dtype": "F16", "shape": list(table.shape), "data_offsets": [0, size],
        },
        "model.diffusion_model.everything_else": {
            "dtype": "U8", "shape": [rest], "data_offsets": [size, size + rest],
        },
    }  # fmt: skip
    header = json.dumps(shapes).encode()
    checkpoint = tmp_path / "model.safetensors"
    with checkpoint.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header + table.numpy().tobytes())
        file.truncate(8 + len(header) + size + rest)  # takes no space on the disk
    arguments = ["inspect", word, "--model", checkpoint, "--config", saved_sd1]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert cli.main(list(map(str, arguments)), FILE_COMMANDS) == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000
    out = capsys.readouterr().out
    assert "near" in out
    assert "1.00" in out
    save_file({"a": torch.ones(2, 2)}, tmp_path / "other.safetensors")
    other = refused(capsys, "inspect", word, "--model", tmp_path / "other.safetensors")
    assert "holds no CLIP text encoder" in other
    absent = refused(capsys, "inspect", word, "--model", tmp_path / "model.ckpt")
    assert "give a diffusers folder" in absent
