"""Options from files, the command that made a word, and trying things out."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.toy_model import ToyModel
from textual_inversion.demo.command import MODELS
from textual_inversion.trainer.cli import main as cli
from textual_inversion.trainer.cli.configuration import command_of, read_toml
from textual_inversion.trainer.cli.dry_run import plan
from textual_inversion.trainer.data.pictures import Picture, as_unlike
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.files.reading import read_embedding
from textual_inversion.trainer.files.writing import write_embedding
from textual_inversion.trainer.settings import RatingSettings

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="this Python has no tomllib, and no tomli may be there"
)


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    """A run of three steps on the tiny model of the demo, which needs nothing else."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(2):
        pixels = random.integers(0, 255, (140, 150, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return ["--model", "tiny-demo", "--images", str(folder), "--name", "my-toy",
            "--output", str(tmp_path / "words"), "--steps", "3", "--previews", "0",
            "--evaluations", "0"]  # fmt: skip


def run(*arguments: str) -> int:
    return cli.main(arguments, models=MODELS)


def test_the_tiny_model_is_found_by_its_name(options: list[str], tmp_path: Path, capsys) -> None:
    assert run("train", *options, "--quiet") == 0
    out, err = capsys.readouterr()
    target = tmp_path / "words" / "my-toy.safetensors"
    assert (out.split(), err) == ([str(target)], "")
    word = read_embedding(target)
    assert word.metadata["sd_checkpoint_name"] == "tiny-demo"
    # Of the size that it was made for.
    assert word.metadata["modelspec.resolution"] == "128x128"
    assert run("inspect", str(target), "--model", "tiny-demo") == 0
    assert "near " in capsys.readouterr().out


def test_the_tiny_model_goes_to_the_device_that_is_asked_for(options: list[str], capsys) -> None:
    assert run("train", *options, "--device", "nope", "--dry-run") == 2
    assert "The device “nope” is not available: leave --device out" in capsys.readouterr().err
    assert run("train", *options, "--device", "cpu", "--dry-run") == 0
    # Any machine has this one, though it only knows shapes.
    assert MODELS["tiny-demo"].load(device=torch.device("meta")).device.type == "meta"


def test_the_command_that_made_a_word_makes_it_again(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", *options, "--init", "red disk", "--no-flip", "--seed", "7") == 0
    target = tmp_path / "words" / "my-toy.safetensors"
    capsys.readouterr()
    assert run("inspect", "--command", str(target)) == 0
    program, *command = shlex.split(capsys.readouterr().out)
    assert program == "textual-inversion"
    assert command[:5] == ["train", "--model", "tiny-demo", "--images", "PICTURES"]
    command[4] = str(tmp_path / "pictures")
    assert run(*command, "--output", str(tmp_path / "again")) == 0
    again = read_embedding(tmp_path / "again" / "my-toy.safetensors")
    assert again.fingerprint == read_embedding(target).fingerprint


def test_commands_of_other_words(tmp_path: Path) -> None:
    plain = Embedding("w", {"clip_l": torch.ones(1, 768)})
    with pytest.raises(InputError, match="The notes of “w” do not say how it was made"):
        command_of(plain)
    notes = {
        "textual_inversion.settings": json.dumps({"name": "w", "objective": "pair", "flip": True})
    }
    told = command_of(Embedding("w", plain.vectors, notes))
    assert told == (
        "textual-inversion train-negative --model MODEL --images PICTURES --name=w --flip "
        "--objective=pair"
    )
    for broken in ("[]", "{", "5"):
        with pytest.raises(InputError, match="do not say how"):
            command_of(Embedding("w", plain.vectors, {"textual_inversion.settings": broken}))


def test_options_in_a_file_and_from_it(options: list[str], tmp_path: Path, capsys) -> None:
    path = tmp_path / "run.toml"
    more = ["--init", 'a "red" disk\\', "--flip", "--learning-rate", "0.01", "--zoom", "0.5"]
    assert run("train", *options, *more, "--write-config", str(path)) == 0
    assert capsys.readouterr().out.strip() == str(path)
    assert not (tmp_path / "words").exists()
    written = read_toml(path)
    assert written == {
        "model": "tiny-demo",
        "images": str(tmp_path / "pictures"),
        "name": "my-toy",
        "output": str(tmp_path / "words"),
        "steps": 3,
        "previews": 0,
        "evaluations": 0,
        "init_words": 'a "red" disk\\',
        "flip": True,
        "learning_rate": "0.01",
        "zoom": 0.5,
    }
    assert run("train", *options, "--write-config", str(path)) == 2
    assert "add --overwrite" in capsys.readouterr().err
    # What is typed counts more.
    assert run("train", "--config-file", str(path), "--steps", "2", "--no-flip") == 0
    noted = read_embedding(tmp_path / "words" / "my-toy.safetensors").metadata
    settings = json.loads(noted["textual_inversion.settings"])
    assert (settings["steps"], settings["flip"], settings["zoom"]) == (2, False, 0.5)
    assert settings["init_words"] == 'a "red" disk\\'


def test_a_switch_may_be_off_in_a_file(options: list[str], tmp_path: Path, capsys) -> None:
    path = tmp_path / "run.toml"
    switches = ("offload", "overwrite", "dry_run", "quiet", "verbose")
    path.write_text("".join(f"{name} = false\n" for name in (*switches, "flip")))
    for code in (0, 2):  # which does not replace the file
        assert run("train", *options, "--config-file", str(path)) == code
    assert "add --overwrite" in capsys.readouterr().err
    assert run("train", *options, "--config-file", str(path), "--overwrite") == 0


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text elsewhere")
def test_names_that_are_no_text(options: list[str], tmp_path: Path, capsys) -> None:
    path = Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.toml"))
    assert run("train", *options, "--write-config", str(path)) == 0
    assert read_toml(path)["name"] == "my-toy"
    other = tmp_path / "run.toml"
    pictures = os.fsdecode(b"caf\xe9")
    assert run("train", *options, "--images", pictures, "--write-config", str(other)) == 2
    assert "“caf?” is not UTF-8, as all of a TOML file has to be" in capsys.readouterr().err
    assert not other.exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("steps = ", "run.toml” cannot be read"),
        ("[section]\nsteps = 5", "section in the configuration is not a text, a number"),
        ("step = 5", "unrecognized arguments: --step=5"),
        ("steady = false", "unrecognized arguments: --no-steady"),
        ("steps = 'many'", "invalid int value: 'many'"),
    ],
)
def test_files_that_are_no_configuration(content: str, sentence: str, tmp_path, capsys) -> None:
    path = tmp_path / "run.toml"
    path.write_text(content)
    needed = ["--model", "m", "--images", "i", "--name", "n"]
    try:
        code = run("train", *needed, "--config-file", str(path))
    except SystemExit as stopped:  # argparse's own
        code = stopped.code
    assert code == 2
    assert sentence in capsys.readouterr().err


def test_a_configuration_that_is_not_there(tmp_path: Path, capsys) -> None:
    needed = ["--model", "m", "--images", "i", "--name", "n"]
    path = tmp_path / "none.toml"
    assert run("train", *needed, "--config-file", str(path)) == 2
    sentence = f"“{path}” cannot be read (No such file or directory): give a TOML file in UTF-8."
    assert capsys.readouterr().err == f"{sentence}\n"


def test_a_dry_run_tells_and_keeps_nothing(options: list[str], tmp_path: Path, capsys) -> None:
    (tmp_path / "pictures" / "0.txt").write_text("a disk")
    before = {path.name for path in tmp_path.iterdir()}
    more = ["--run", str(tmp_path / "runs" / "here"), "--steps", "1000", "--dry-run"]
    assert run("train", *options, *more) == 0
    out = capsys.readouterr().out
    target = tmp_path / "words" / "my-toy.safetensors"
    assert out.startswith("“my-toy” would be learned for clip_l from 2 pictures of 128 pixels, in ")
    assert f"1000 steps of 4, and written as {target}." in out
    assert "Captions without the word: 0.png." in out
    assert "1000 steps take about " in out
    if os.name == "posix":
        assert "GB of memory." in out
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_dry_run_counts_all_that_is_compared_and_names_both_words(tmp_path: Path) -> None:
    liked = [Picture(torch.rand(64, 64, 3), f"a cat {number}") for number in range(12)]
    settings = RatingSettings(name="taste", word_for="both", steps=2, resolution=64)
    pictures = [*liked, *map(as_unlike, liked)]
    told = plan(ToyModel(), pictures, settings, tmp_path / "taste.safetensors")
    assert told.startswith("“taste” would be learned for clip_l from 24 pictures")
    files = f"{tmp_path / 'taste.safetensors'} and {tmp_path / 'taste-neg.safetensors'}"
    assert f"written as {files}.\n" in told


def test_a_dry_run_of_a_few_steps_takes_no_more_than_these(options: list[str], capsys) -> None:
    assert run("train", *options, "--steps", "9", "--dry-run") == 0
    assert "\n9 steps take about " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--steps", "0"], "--steps is 0: it must be at least 1."),
        (["--num-vectors", "0"], "--num-vectors is 0: it must be at least 1."),
        (["--stop-early"], "--stop-early is on but evaluations is 0"),
    ],
)
def test_errors_name_options(options: list[str], more: list[str], sentence: str, capsys) -> None:
    assert run("train", *options, *more) == 2
    assert sentence in capsys.readouterr().err


def test_a_blend_and_its_command(tmp_path: Path, capsys) -> None:
    for name, value in (("cat-toy", 1.0), ("mug", 2.0)):
        word = Embedding(name, {"clip_l": torch.full((2, 96), value)})
        write_embedding(word, tmp_path / f"{name}.safetensors")
    target = tmp_path / "new.safetensors"
    expression = '0.5 * cat-toy + mug[0:2] + 0 * [red (disk:2)] | usual("mug.safetensors")'
    blend = ["blend", expression, str(target), "--words", str(tmp_path), "--model", "tiny-demo"]
    assert run(*blend) == 0
    assert capsys.readouterr().out.strip() == str(target)
    assert read_embedding(target).num_vectors == 4
    assert torch.equal(read_embedding(target).vectors["clip_l"][:2], torch.full((2, 96), 2.5))
    assert run("inspect", "--command", str(target)) == 0
    assert shlex.split(capsys.readouterr().out)[2] == expression
    assert run(*blend) == 2
    assert "add --overwrite" in capsys.readouterr().err
    for wrong, sentence in (
        ("cup", "There is no embedding “cup” in"),
        ("mug +", "cannot be read at its end"),
        ("[red]", "needs a model"),
    ):
        assert run("blend", wrong, str(tmp_path / "x.pt"), "--words", str(tmp_path)) == 2
        assert sentence in capsys.readouterr().err
    write_embedding(read_embedding(tmp_path / "mug.safetensors"), tmp_path / "mug.pt")
    assert run("blend", "mug", str(tmp_path / "x.pt"), "--words", str(tmp_path)) == 2
    assert "may be “mug.pt” or “mug.safetensors”" in capsys.readouterr().err


def test_a_blend_is_drawn(tmp_path: Path, capsys) -> None:
    target = tmp_path / "new.safetensors"
    blend = ["blend", "[red disk]", str(target), "--draw", "2"]
    assert run(*blend) == 2
    assert "Drawing needs a model" in capsys.readouterr().err
    for wrong in (("--resolution", "77"), ("--seed", f"{2**70}")):
        assert run(*blend, "--model", "tiny-demo", *wrong) == 2
        assert f"{wrong[0][2:]} is {wrong[1]}: it must be" in capsys.readouterr().err
    assert not target.exists()
    assert run(*blend, "--model", "tiny-demo") == 0
    picture = tmp_path / "new.preview.png"
    assert capsys.readouterr().out.split() == [str(target), str(picture)]
    pixels = np.asarray(Image.open(picture), dtype=np.float32)
    assert pixels.shape == (128, 256, 3)
    # The tiny model knows what red is, wherever it draws it.
    assert (pixels[..., 0] - pixels[..., 1]).max(axis=(0, 1)) > 60
    assert not np.array_equal(pixels[:, :128], pixels[:, 128:])
