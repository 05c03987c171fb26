"""The command line from end to end on a tiny model, and what bad input gets."""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from support.tiny_models import TinyParts, pictures, tiny
from textual_inversion.trainer.cli import main as cli
from textual_inversion.trainer.cli import options as cli_options
from textual_inversion.trainer.cli.train import train_to_file
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.files.checkpoint_hash import CheckpointHash
from textual_inversion.trainer.files.reading import read_embedding
from textual_inversion.trainer.files.writing import write_embedding
from textual_inversion.trainer.runs import training
from textual_inversion.trainer.runs.ratings import DISLIKED, LIKED, RatingFolder
from textual_inversion.trainer.runs.run_folder import RunFolder
from textual_inversion.trainer.runs.training import train_and_keep
from textual_inversion.trainer.settings import Settings

SCRIPT = Path(sysconfig.get_path("scripts")) / "textual-inversion"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for i in range(2):
        pixels = random.integers(0, 255, (70, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    (folder / "1.txt").write_text("a red photo of [name]")
    return folder


@pytest.fixture
def options(saved_sd1: Path, images: Path, tmp_path: Path) -> dict[str, object]:
    """A run of two steps that succeeds."""
    return {
        "--model": saved_sd1,
        "--images": images,
        "--output": tmp_path,
        "--name": "my-toy",
        "--init": "toy cat",
        "--steps": 2,
        "--resolution": 64,
        "--previews": 0,
        "--device": "cpu",
    }


def arguments(options: dict[str, object], *more: str) -> list[str]:
    return ["train", *(str(part) for pair in options.items() for part in pair), *more]


def refused(capsys: pytest.CaptureFixture[str], options: dict[str, object], *more: str) -> str:
    """The one line that a run with bad input leaves."""
    capsys.readouterr()
    assert cli.main(arguments(options, *more)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


@pytest.mark.skipif(not SCRIPT.exists(), reason="the package is not installed")
def test_train_from_end_to_end(options, tmp_path: Path) -> None:
    options |= {"--num-vectors": 3, "--previews": 2, "--output": tmp_path / "new" / "folder"}
    run = subprocess.run(
        [SCRIPT, *arguments(options)], capture_output=True, text=True, env=ENVIRONMENT
    )
    assert run.returncode == 0, run.stderr
    target = tmp_path / "new" / "folder" / "my-toy.safetensors"
    preview = target.with_name("my-toy.preview.png")
    assert run.stdout.split() == [str(target), str(preview)]
    word = read_embedding(target)
    assert word.vectors["clip_l"].shape == (3, 32)
    assert Image.open(preview).size == (2 * 72, 2 * 72)
    with safe_open(target, "pt") as file:
        notes = file.metadata()
    assert notes["sd_checkpoint_name"] == "tiny-sd1"
    assert notes["textual_inversion.steps"] == "2"
    assert str(tmp_path) not in str(notes)
    # Lines, because no terminal is there for a bar.
    assert "my-toy: step 2/2 · loss " in run.stderr
    assert "\r" not in run.stderr
    assert "Traceback" not in run.stderr
    assert "arning" not in run.stderr


def test_the_hash_of_the_checkpoint_is_noted(tmp_path: Path) -> None:
    """As AUTOMATIC1111 shows it, which reads it from the word's `.pt`."""
    checkpoint, target = tmp_path / "model.safetensors", tmp_path / "my-toy.pt"
    checkpoint.write_bytes(b"weights")
    settings = Settings(name="my-toy", init_words="toy", steps=1, resolution=64, previews=0)
    model = tiny("sd1", tmp_path / "tokens").model()
    train_to_file(model, pictures(), settings, target, CheckpointHash(checkpoint), overwrite=False)
    expected = hashlib.sha256(b"weights").hexdigest()[:10]
    assert torch.load(target, weights_only=True)["sd_checkpoint"] == expected


def test_module_can_be_run() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "textual_inversion.trainer.cli", "train", "--help"],
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, "PYTHONIOENCODING": "utf-8"},
    )
    assert run.returncode == 0
    for option in ("--init", "--num-vectors", "--learning-rate", "--start-from"):
        assert option in run.stdout


def watched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Settings]]:
    """The pictures and settings with which the real loop is called from now on."""
    original, seen = training.train, []

    def train(*arguments, **others):
        seen.append(arguments[1:3])
        return original(*arguments, **others)

    monkeypatch.setattr(training, "train", train)
    return seen


def test_offloading_learns_the_same(options, tmp_path: Path, capsys) -> None:
    """Of all blocks, or of those for which there is no room, which is told; none without a limit.

    The tiny model is 200 kB.
    """
    words, told = [], []
    for more in ([], ["--offload"], ["--memory", "0.0001"], ["--memory", "1"]):
        options["--output"] = tmp_path / "-".join(["words", *more])
        assert cli.main(arguments(options, *more)) == 0
        words.append(read_embedding(options["--output"] / "my-toy.safetensors").vectors["clip_l"])
        lines = capsys.readouterr().err.splitlines()
        told.append([line.partition(": ")[2] for line in lines if line.startswith("Memory")])
    print(told)
    assert not told[0]
    assert [len(lines) for lines in told[1:]] == [1, 1, 1]
    assert "block by block" in told[2][0]
    assert "all of them stay" in told[3][0]
    for other in words[1:]:
        torch.testing.assert_close(other, words[0])


def test_a_limit_of_memory_that_is_no_number_is_refused(options, capsys) -> None:
    assert cli.main(arguments(options, "--memory", "much")) == 2
    assert "--memory is “much”: write auto, or a number of GB such as 8." in capsys.readouterr().err


def test_every_setting_reaches_the_run(options, tmp_path: Path, monkeypatch) -> None:
    seen = watched(monkeypatch)
    options |= {
        "--learning-rate": "0.01:5, 1e-3",
        "--batch-size": 3,
        "--seed": 9,
        "--alpha": "mask",
    }
    assert cli.main(arguments(options, "--flip", "--checkpointing")) == 0
    ((_, settings),) = seen
    assert settings.init_words == "toy cat"
    assert settings.learning_rate == "0.01:5, 1e-3"
    assert (settings.batch_size, settings.alpha) == (3, "mask")
    assert settings.flip
    assert settings.checkpointing


def test_what_is_unusual_and_what_was_learned_is_told(options, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    (folder / "a.txt").write_text("a cat")
    assert cli.main(arguments(options | {"--images": folder, "--steps": 6})) == 0
    out, err = capsys.readouterr()
    assert out.split() == [str(tmp_path / "my-toy.safetensors")]
    lines = [line.strip() for line in err.splitlines()]
    first, second = lines[:2]
    assert first.startswith("Captions without the word: a.png.")
    assert second.startswith("Smaller than the resolution of 64: a.png (40 x 40).")
    assert any(line.startswith("6 steps take about") for line in lines)
    assert any(line.startswith("step 6: ") and "on the fixed batch" in line for line in lines)
    assert any(line.startswith("After step 6 the loss on the fixed batch is") for line in lines)


def test_other_formats_and_going_on_from_a_word(options, tmp_path: Path) -> None:
    assert cli.main(arguments(options, "--format", "a1111")) == 0
    first = tmp_path / "my-toy.pt"
    assert read_embedding(first).vectors.keys() == {"width_32"}
    options |= {"--name": "next", "--learning-rate": "1e-9", "--start-from": first}
    assert cli.main(arguments(options, "--num-vectors", "7")) == 0
    before, after = read_embedding(first), read_embedding(tmp_path / "next.safetensors")
    torch.testing.assert_close(after.vectors["clip_l"], before.vectors["width_32"])


def test_existing_file_is_refused_before_anything_is_loaded(
    options, tmp_path: Path, capsys, monkeypatch
) -> None:
    target = tmp_path / "my-toy.safetensors"
    target.write_bytes(b"precious")
    with monkeypatch.context() as patch:
        patch.setattr(cli_options, "DiffusersModel", None)
        assert "already exists: choose another --name, or add --overwrite" in refused(
            capsys, options
        )
    assert target.read_bytes() == b"precious"
    assert cli.main(arguments(options, "--overwrite")) == 0
    assert read_embedding(target).num_vectors == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"--name": "my toy"}, "“my toy” cannot be the name of an embedding"),
        ({"--steps": 0}, "steps is 0: it must be at least 1"),
        ({"--learning-rate": "fast"}, "The learning rate “fast” cannot be read"),
        ({"--images": "missing"}, "There is no folder “missing”"),
        ({"--model": "missing"}, "There is no model at “missing”"),
        ({"--device": "warp"}, "The device “warp” is not available"),
        ({"--start-from": "missing.pt"}, "“missing.pt” does not exist"),
    ],
)
def test_bad_input_gets_one_line(change, sentence, options, capsys) -> None:
    assert sentence in refused(capsys, options | change)


def test_usage_errors_are_argparse_own(options, capsys) -> None:
    for bad in ({"--steps": "many"}, {"--learn": "face"}, {"--format": "zip"}, {"--unknown": 1}):
        with pytest.raises(SystemExit) as stopped:
            cli.main(arguments(options | bad))
        assert stopped.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_pictures_and_captions_that_cannot_be_used(options, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    options |= {"--images": folder}
    assert "holds no pictures" in refused(capsys, options)
    (folder / "a.png").write_bytes(b"not a picture")
    assert "“a.png” cannot be read as a picture" in refused(capsys, options)
    Image.new("RGB", (80, 80)).save(folder / "a.png")
    (folder / "a.txt").write_text("a cat")
    assert "None of the templates has a place" in refused(capsys, options | {"--templates": "a"})
    options["--template-file"] = folder / "missing.txt"
    assert "missing.txt” cannot be read" in refused(capsys, options)


def test_templates_and_captions_reach_the_model(options, images, tmp_path, monkeypatch) -> None:
    seen = watched(monkeypatch)
    (tmp_path / "subject.txt").write_text("a [name]\n[filewords], [name]")
    options |= {"--template-file": tmp_path, "--captions": "none", "--drop-tags": 0.1}
    assert cli.main(arguments(options, "--shuffle-tags", "--buckets")) == 0
    ((pictures, settings),) = seen
    assert [picture.caption for picture in pictures] == [None, None]
    assert settings.templates == "a [name]\n[filewords], [name]"
    assert settings.shuffle_tags
    assert settings.buckets


def test_embedding_for_another_model(options, tmp_path: Path, capsys) -> None:
    other = tmp_path / "other.safetensors"
    write_embedding(Embedding("other", {"clip_l": torch.rand(2, 768)}), other)
    line = refused(capsys, options | {"--start-from": other})
    assert "768 wide (it is for Stable Diffusion 1)" in line
    assert "reads 32" in line


def test_format_that_cannot_hold_two_encoders(
    options, sdxl: TinyParts, tmp_path: Path, capsys
) -> None:
    sdxl.pipeline().save_pretrained(tmp_path / "xl")
    options |= {"--model": tmp_path / "xl"}
    assert "AUTOMATIC1111 reads one encoder's" in refused(capsys, options, "--format", "a1111")
    assert cli.main(arguments(options)) == 0
    assert read_embedding(tmp_path / "my-toy.safetensors").widths == {"clip_l": 32, "clip_g": 48}


def interrupted_after(step: int, reason: BaseException):
    """The real loop, ended from outside after a step."""
    original = training.train

    def train(*arguments, **others):
        for progress in original(*arguments, **others):
            yield progress
            if progress.step == step:
                raise reason

    return train


@pytest.mark.parametrize(
    ("reason", "code", "sentence"),
    [
        (KeyboardInterrupt(), 130, ""),
        (torch.cuda.OutOfMemoryError("17 GiB"), 1, "too little memory: lower --batch-size"),
    ],
)
def test_what_was_learned_outlives_the_run(
    reason, code, sentence, options, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(training, "train", interrupted_after(3, reason))
    options |= {"--steps": 1000, "--previews": 2}
    assert cli.main(arguments(options)) == code
    target = tmp_path / "my-toy-interrupted.safetensors"
    out, err = capsys.readouterr()
    assert out.split() == [str(target)]
    assert sentence in err
    assert read_embedding(target).metadata["textual_inversion.steps"] == "3"
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    assert cli.main(arguments(options)) == code  # an earlier one is in nobody's way


def test_diverged_run_keeps_the_last_good_word(
    options, tmp_path: Path, capsys, monkeypatch
) -> None:
    from textual_inversion.trainer.learning.loop import DivergedError

    good = Embedding("my-toy", {"clip_l": torch.rand(1, 32)})
    for last_good in (None, good):
        error = DivergedError("The loss was no longer a number at step 3.", last_good)
        monkeypatch.setattr(training, "train", interrupted_after(2, error))
        assert cli.main(arguments(options)) == 1
        assert "no longer a number at step 3.\n" in capsys.readouterr().err
        monkeypatch.undo()
        found = [path.name for path in tmp_path.iterdir()]
        assert found == (["my-toy-interrupted.safetensors"] if last_good else [])


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_in_a_terminal_and_the_end_of_a_container(
    sent: signal.Signals, code: int, options, tmp_path: Path
) -> None:
    options |= {"--steps": 100_000, "--run": tmp_path / "runs"}
    run = subprocess.Popen(
        [sys.executable, "-m", "textual_inversion.trainer.cli", *arguments(options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
        # A shell in the background hands its children an ignored SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    seen = b""
    while b"loss" not in seen:  # the bar shows a first step
        part = os.read(run.stderr.fileno(), 1000)
        assert part, seen.decode()
        seen += part
    run.send_signal(sent)
    if sent == signal.SIGTERM:
        run.send_signal(sent)  # Often the process gets one, and its group another.
    _, err = run.communicate(timeout=60)
    assert run.returncode == code
    assert b"Traceback" not in err
    word = read_embedding(tmp_path / "my-toy-interrupted.safetensors")
    folder = RunFolder(tmp_path / "runs" / "my-toy_00001")
    assert folder.status()["status"] == "interrupted"
    assert str(folder.checkpoints()[-1]) == word.metadata["textual_inversion.steps"]


def test_what_cannot_be_written_is_known_before_anything_is_loaded(
    options, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(cli_options, "DiffusersModel", None)
    (tmp_path / "file").write_text("")
    line = refused(capsys, options | {"--output": tmp_path / "file"})
    assert "file” cannot be created" in line
    line = refused(capsys, options | {"--run": tmp_path / "file" / "runs"})
    assert "runs” cannot be created" in line
    (tmp_path / "My-Toy.safetensors").write_bytes(b"precious")
    assert "My-Toy.safetensors” already exists" in refused(capsys, options)
    line = refused(capsys, options | {"--name": "漢" * 79})
    assert "it takes 237 bytes, and files can have names of 200" in line
    (tmp_path / "other.preview.png").write_bytes(b"precious")
    line = refused(capsys, options | {"--name": "other", "--previews": 2})
    assert "other.preview.png” already exists" in line


def test_a_word_that_cannot_be_written_at_the_end(
    options, tmp_path: Path, capsys, monkeypatch
) -> None:
    """The folder is taken away while the word is learned."""
    folder = tmp_path / "gone"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    original = training.train

    def train(*arguments, **others):
        yield from original(*arguments, **others)
        folder.rmdir()

    monkeypatch.setattr(training, "train", train)
    assert cli.main(arguments(options | {"--output": folder, "--previews": 1})) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    sentence = "What was learned is in “"
    place = err.strip().splitlines()[-1].partition(sentence)[2].partition("”")[0]
    assert place == str(tmp_path / "temporary")
    assert read_embedding(Path(place) / "my-toy.safetensors").num_vectors == 1


def test_an_interrupted_run_goes_on(
    options, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options |= {"--steps": 3, "--preview-every": 2}
    assert cli.main(arguments(options)) == 0
    whole = read_embedding(tmp_path / "my-toy.safetensors")

    def interrupt(*arguments: object, **others: object) -> Iterator[object]:
        steps = train_and_keep(*arguments, **others)
        yield from itertools.islice(steps, 2)
        raise KeyboardInterrupt

    options |= {"--run": tmp_path / "runs", "--output": tmp_path / "again"}
    monkeypatch.setattr(training, "train_and_keep", interrupt)
    assert cli.main(arguments(options)) == 130
    monkeypatch.undo()
    capsys.readouterr()
    assert cli.main(arguments(options)) == 0
    folder = RunFolder(tmp_path / "runs" / "my-toy_00001")
    target = tmp_path / "again" / "my-toy.safetensors"
    assert capsys.readouterr().out.split() == [str(folder.path), str(target)]
    assert read_embedding(target).fingerprint == whole.fingerprint
    assert [row.step for row in folder.losses()] == [1, 2, 3]
    assert folder.previews() == [2]
    assert folder.status()["status"] == "finished"


def rated_folders(folder: Path, pairs: int) -> tuple[Path, Path]:
    """Liked and disliked pictures of as many prompts, with captions."""
    random = np.random.default_rng(1)
    sides = folder / "liked", folder / "disliked"
    for side in sides:
        side.mkdir()
        for i in range(pairs):
            pixels = random.integers(0, 255, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(side / f"{i}.png")
            (side / f"{i}.txt").write_text(f"a red photo {i}")
    return sides


def test_a_word_is_trained_from_ratings(options, tmp_path: Path, capsys) -> None:
    """From two folders, and from a folder of ratings the same; too few pairs are refused."""
    liked, disliked = rated_folders(tmp_path, 12)
    del options["--images"], options["--init"]
    options |= {"--previews": 1, "--num-vectors": 2}
    command = ["train-ratings", *arguments(options)[1:]]
    assert cli.main([*command, "--liked", str(liked), "--disliked", str(disliked)]) == 0
    target = tmp_path / "my-toy.safetensors"
    word = read_embedding(target)
    assert word.metadata["modelspec.is_negative_embedding"] == "true"
    # Liked pictures, then what is drawn without and with the word.
    assert Image.open(tmp_path / "my-toy.preview.png").size == (72, 3 * 72)
    capsys.readouterr()
    assert cli.main(["inspect", "--command", str(target)]) == 0
    assert "train-ratings --model tiny-sd1 --ratings RATINGS" in capsys.readouterr().out

    ratings = RatingFolder(tmp_path / "ratings")
    for side, rating in ((liked, LIKED), (disliked, DISLIKED)):
        for path in sorted(side.glob("*.png")):
            pixels = torch.from_numpy(np.array(Image.open(path))) / 255
            key = ratings.add(pixels, path.with_suffix(".txt").read_text()).key
            ratings.rate(key, rating)
    again = [*command, "--overwrite", "--ratings", str(ratings.path)]
    assert cli.main(again) == 0
    assert read_embedding(target).widths == word.widths

    ratings.rate(ratings.all()[0].key, DISLIKED)
    capsys.readouterr()
    assert cli.main(again) == 2
    told = capsys.readouterr().err
    assert told.startswith("11 liked and 13 disliked pictures make 11 pairs of one prompt: 1 more")
    assert cli.main([*command, "--overwrite", "--liked", str(liked)]) == 2
    assert "Give --liked and --disliked, or --ratings alone." in capsys.readouterr().err


def test_a_pair_of_words_is_trained(options, tmp_path: Path) -> None:
    """The same options, and files that say which word is for the negative prompt."""
    command = ["train-negative", *arguments(options | {"--previews": 1})[1:]]
    command += ["--objective", "pair", "--guidance", "4"]
    assert cli.main(command) == 0
    positive, negative = (tmp_path / f"{name}.safetensors" for name in ("my-toy", "my-toy-neg"))
    words = [read_embedding(path) for path in (positive, negative)]
    told = [word.metadata["modelspec.is_negative_embedding"] for word in words]
    assert told == ["false", "true"]
    assert not torch.equal(words[0].vectors["clip_l"], words[1].vectors["clip_l"])
    # Pictures, then drawn without and with the negative.
    assert Image.open(tmp_path / "my-toy.preview.png").size == (72, 3 * 72)
    # The second name, too, is looked at before any time is spent.
    positive.unlink()
    assert cli.main(command) == 2
