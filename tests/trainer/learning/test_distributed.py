"""Several processes: one word together, or a list of words, each in one of them."""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from textual_inversion.trainer.cli.train_list import read_table
from textual_inversion.trainer.data.batches import Batch
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.files.reading import read_embedding
from textual_inversion.trainer.learning.distributed import Processes
from textual_inversion.trainer.presets import NONE
from textual_inversion.trainer.settings import Settings

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
SETTINGS = {"--resolution": 64, "--previews": 0, "--device": "cpu", "--evaluations": 1}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    chance = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(chance.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(
            folder / f"{i}.png"
        )
    return folder


def run(processes: int, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.run(
        [sys.executable, *launcher, "-m", "textual_inversion", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=check,
    )


def options(**more: object) -> list[object]:
    return [part for pair in (SETTINGS | more).items() for part in pair]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{"--steps": 3}, {"--steps": 60, "--patience": "fast", "--weighting": "measured"}],
    ids=["steps", "end"],
)
def test_two_processes_learn_what_one_learns(
    saved_sd1: Path, images: Path, tmp_path: Path, changes: dict
) -> None:
    """The same global batch; the first process alone writes, and keeps the run."""
    words = []
    for processes in (1, 2):
        output = tmp_path / str(processes)
        done = run(
            processes, "train", "--model", saved_sd1, "--images", images, "--output", output,
            "--name", "toy", "--init", "toy", "--batch-size", 4, "--flip",
            "--run-folder", output / "runs", *options(**changes),
        )  # fmt: skip
        kept = [output / "runs" / "toy_00001", output / "toy.safetensors"]
        assert done.stdout.split() == [str(path) for path in kept]
        words.append(read_embedding(output / "toy.safetensors"))
    one, two = (word.vectors["clip_l"] for word in words)
    # Rounding grows with the steps.
    torch.testing.assert_close(one, two, atol=1e-5 * changes["--steps"] / 3, rtol=1e-4)
    made = {word.metadata["textual_inversion.steps"] for word in words}
    assert len(made) == 1
    losses = [float(word.metadata["textual_inversion.loss"]) for word in words]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.slow
def test_a_list_of_words_is_spread_and_goes_on(
    saved_sd1: Path, images: Path, tmp_path: Path
) -> None:
    table = tmp_path / "words.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "images", "num_vectors", "unlike_images"])
        writer.writerows(
            [
                ["one", "images", "1", "images"],
                ["two", "images", "2", ""],
                ["bad", "none", "1", ""],
                ["worse", "images", "1", "nowhere"],
            ]
        )
    command = ["train-list", table, "--model", saved_sd1, "--output", tmp_path / "out",
               "--init", "toy", "--steps", 2, *options()]  # fmt: skip
    done = run(2, *command, check=False)
    for name, folder in (("bad", "none"), ("worse", "nowhere")):
        assert f"{name}: There is no folder “{tmp_path / folder}”" in done.stderr
    files = {name: tmp_path / "out" / f"{name}.safetensors" for name in ("one", "two")}
    assert set(done.stdout.split()) == {str(path) for path in files.values()}
    assert read_embedding(files["two"]).num_vectors == 2

    before = files["two"].stat().st_mtime_ns
    files["one"].unlink()
    table.write_text("name,images\none,images\ntwo,images\n")
    done = run(2, *command)
    assert done.stdout.split() == [str(files["one"])]
    assert files["two"].stat().st_mtime_ns == before


def test_parts_of_a_batch_are_the_batch() -> None:
    batch = Batch(torch.rand(4, 1, 2, 2), torch.rand(4, 1, 2, 2), torch.arange(4), "abcd", None)
    parts = [Processes(rank, 2).part_of(batch) for rank in range(2)]
    assert torch.equal(torch.cat([p.latents for p in parts]), batch.latents)
    assert "".join(p for part in parts for p in part.prompts) == "abcd"


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(InputError, match="batch_size must be a multiple of 2, not 3"):
        Processes(0, 2).check(Settings(batch_size=3))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name\na\n", "needs the columns name and images"),
        ("name,images\n", "names no word"),
        ("name,images,colour\na,b,c\n", "has a column “colour”"),
        ("name,images\na,b\na,c\n", "names “a” twice"),
        ("name,images\na,b\nA,c\n", "names “a” twice"),
        ("name,images\na\n", "line 2 has more or fewer cells"),
        ("name,images,steps\na,b,many\n", "steps in line 2 is “many”, where a number is needed"),
        ("name,images,flip\na,b,perhaps\n", "flip in line 2 is “perhaps”: write true or false"),
        ("name,images\na b,c\n", "line 2: “a b” cannot be the name"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "words.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_table(
            path, argparse.Namespace(template_file=None, preset=NONE, kind=Settings, model="m")
        )
