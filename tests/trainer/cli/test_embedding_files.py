"""The commands that work on embedding files, in processes of their own and in this one."""

from __future__ import annotations

import hashlib
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
from support.golden import shortened
from support.wild import WILD
from textual_inversion.trainer.cli import main as cli
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
    assert cli.main([str(a) for a in arguments]) == 2
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
        assert cli.main(["convert", str(source), str(target)]) == 0
        word = read_embedding(target)
        assert word.name == "new"
        assert torch.equal(word.vectors["clip_l"], before)
    notes = read_embedding(tmp_path / "new.safetensors").metadata
    hashed = notes.pop("modelspec.hash_sha256")
    assert notes == {"modelspec.title": "A word", "modelspec.trigger_phrase": "new"}
    content = (tmp_path / "new.safetensors").read_bytes()
    data = content[8 + int.from_bytes(content[:8], "little") :]
    assert hashed == f"0x{hashlib.sha256(data).hexdigest()}"
    assert "already exists" in refused(capsys, "convert", other(tmp_path), tmp_path / "new.pt")
    overwriting = ["convert", str(other(tmp_path)), str(tmp_path / "new.pt"), "--overwrite"]
    assert cli.main(overwriting) == 0
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
        assert cli.main(["convert", str(given), str(target), "--onetrainer"]) == 0
        assert set(load_file(target)) == names
        before, after = (read_embedding(path) for path in (given, target))
        assert after.renamed(before.name).fingerprint == before.fingerprint
        back = ["convert", str(target), str(tmp_path / "back" / target.name)]
        (tmp_path / "back").mkdir(exist_ok=True)
        assert cli.main(back) == 0
        assert set(load_file(back[-1])) == set(load_file(given))
    # The same vectors, but not as they are asked for.
    existing = refused(capsys, "convert", source, source, "--onetrainer")
    assert "already exists" in existing
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
    alone = tmp_path / "alone.safetensors"
    assert "choose one of “one”, “two” with --word" in refused(capsys, "convert", lora, alone)
    assert cli.main(["inspect", str(lora)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("one: for Stable Diffusion 1\n")
    assert "\n\ntwo: for Stable Diffusion 1\n" in told
    many = tmp_path / "many.safetensors"
    save_file({f"<w{i}>": torch.full((768,), 1.0 + i) for i in range(17)}, many)
    assert cli.main(["inspect", str(many)]) == 0
    told = capsys.readouterr().out
    assert all(f"w{i}: for Stable" in told for i in range(17))
    target = tmp_path / "second.safetensors"
    assert cli.main(["convert", str(lora), str(target), "--word", "two"]) == 0
    assert float(read_embedding(target).vectors["clip_l"][0, 0]) == 2


def test_inspect_with_a_model_names_the_nearest_words(saved_sd1: Path, tmp_path: Path, capsys):
    from transformers import CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(saved_sd1 / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(saved_sd1 / "text_encoder")
    number = tokenizer("cat", add_special_tokens=False).input_ids[0]
    row = encoder.get_input_embeddings().weight[[number]].detach()
    path = tmp_path / "w.safetensors"
    write_embedding(Embedding("w", {"clip_l": 2 * row}), path)
    assert cli.main(["inspect", str(path), "--model", str(saved_sd1)]) == 0
    out = capsys.readouterr().out
    assert f"near {tokenizer.decode(number).strip()} 1.00" in out
    assert "A word of the vocabulary is" in out
    assert "model_index.json" in refused(capsys, "inspect", path, "--model", tmp_path)


def test_preview(source: Path, tmp_path: Path, capsys) -> None:
    assert cli.main(["preview", str(source)]) == 0
    preview = tmp_path / "word.vectors.png"  # What `train` draws is called word.preview.png.
    assert capsys.readouterr().out.strip() == str(preview)
    assert Image.open(preview).size[0] == WIDTH
    assert "already exists" in refused(capsys, "preview", source)
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
    assert cli.main(list(map(str, arguments))) == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000
    out = capsys.readouterr().out
    assert "near" in out
    assert "1.00" in out
    save_file({"a": torch.ones(2, 2)}, tmp_path / "other.safetensors")
    other = refused(capsys, "inspect", word, "--model", tmp_path / "other.safetensors")
    assert "holds no CLIP text encoder" in other
    absent = refused(capsys, "inspect", word, "--model", tmp_path / "model.ckpt")
    assert "give a diffusers folder" in absent


def some_words(folder: Path) -> list[Path]:
    """A folder with words, what is in it beside them, and a file that cannot be read."""
    (folder / "deep").mkdir()
    paths = [folder / "a.safetensors", folder / "deep" / "b.pt"]
    for number, path in enumerate(paths, 1):
        write_embedding(Embedding(path.stem, {"clip_l": torch.full((1, 768), number)}), path)
    Image.new("RGB", (64, 64), "red").save(folder / "a.png")
    Image.new("RGB", (64, 64), "red").save(folder / "a.preview.png")
    (folder / "notes.txt").write_text("no embedding")
    return paths


def test_files_and_folders(tmp_path: Path, capsys) -> None:
    folder, target = tmp_path / "words", tmp_path / "new"
    folder.mkdir()
    target.mkdir()
    first, second = some_words(folder)
    assert cli.main(["inspect", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert [line.split(":")[0] for line in out.splitlines() if "for Stable" in line] == ["a", "b"]
    assert err == ""
    assert cli.main(["convert", str(folder), str(target), "--format", "diffusers"]) == 0
    assert capsys.readouterr().out.split() == [str(target / "a.bin"), str(target / "b.bin")]
    assert read_embedding(target / "b.bin").vectors["clip_l"][0, 0] == 2
    assert cli.main(["preview", str(first), str(second), "--output", str(target)]) == 0
    assert {path.name for path in target.glob("*.png")} == {"a.vectors.png", "b.vectors.png"}
    capsys.readouterr()
    (folder / "broken.pt").write_bytes(b"x")
    assert cli.main(["convert", str(folder), str(target)]) == 2
    out, err = capsys.readouterr()
    assert len(out.split()) == 2
    assert err.startswith("“broken.pt” is damaged")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no embedding files" in refused(capsys, "inspect", empty)
    several = refused(capsys, "convert", first, second, tmp_path / "c.pt")
    assert "Several files can only be converted into a folder" in several


def test_into_a_lora_and_out_of_it(source: Path, tmp_path: Path, capsys) -> None:
    style = tmp_path / "style.safetensors"
    save_file({"lora_te_x.lora_down.weight": torch.ones(2, 2)}, style)
    other(tmp_path)
    both, words = tmp_path / "both.safetensors", tmp_path / "words"
    words.mkdir()
    command = ["bundle", style, source, tmp_path / "ones.safetensors", "--output", both]
    assert cli.main(list(map(str, command))) == 0
    assert capsys.readouterr().out.strip() == str(both)
    assert "add --overwrite" in refused(capsys, *command)
    assert cli.main(["convert", str(both), str(words)]) == 0
    for name in ("word", "ones"):
        before, after = (
            read_embedding(folder / f"{name}.safetensors") for folder in (tmp_path, words)
        )
        assert after.fingerprint == before.fingerprint


def test_picked_encoders_and_half_precision(tmp_path: Path, capsys) -> None:
    flux, target = tmp_path / "flux.safetensors", tmp_path / "for-forge.safetensors"
    save_file({"clip_l": torch.ones(2, 768), "t5xxl": torch.ones(2, 4096)}, flux)
    command = ["convert", str(flux), str(target), "--encoders", "clip_l", "--dtype", "float16"]
    assert cli.main(command) == 0
    (rows,) = load_file(target).values()
    assert (rows.shape, rows.dtype) == ((2, 768), torch.float16)
    command[4] = "clip_l, clip_g"
    wrong = refused(capsys, *command)
    assert "has no vectors for “clip_g”: --encoders takes some of clip_l, t5xxl" in wrong


def test_json_of_vectors_that_are_very_long(tmp_path: Path, capsys) -> None:
    path = tmp_path / "huge.safetensors"
    write_embedding(Embedding("huge", {"clip_l": torch.full((1, 4), 2e37)}), path)
    assert cli.main(["inspect", str(path), "--json"]) == 0
    out = capsys.readouterr().out
    assert "Infinity" not in out
    (row,) = json.loads(out)[0]["encoders"][0]["rows"]
    assert (row["length"], row["likeness"]) == (pytest.approx(4e37), [1])


def test_two_words_are_compared(source: Path, tmp_path: Path, capsys) -> None:
    command = ["inspect", "--compare", str(source), str(other(tmp_path))]
    assert cli.main(command) == 0
    assert capsys.readouterr().out.startswith("word and ones:\nclip_l: ")
    assert "takes two words, and these files hold 1" in refused(capsys, *command[:3])


GOLDEN = Path(__file__).with_name("inspected.json")


def test_what_inspect_says_of_community_files(capsys: pytest.CaptureFixture[str]) -> None:
    """Recorded; `python -m tools.golden` in tests/ writes it anew."""
    if not WILD.is_dir():
        pytest.skip("no community files beside the repository")
    assert cli.main(["inspect", str(WILD), "--json"]) == 2
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert "reneg_sd1.5.bin" in err
    assert shortened(json.loads(out)) == json.loads(GOLDEN.read_text(encoding="utf-8"))
