"""How much faster several processes learn: one word together, or the words of a list.

    python benchmarks/scaling.py [--processes 1 2] [--model FOLDER] [--device cpu]

Starts the command line under `torchrun`, as a user does, with the same batch of each step and
the same list for every number of processes, on one thread each. Reading the model is left out of
the times. Without a model, a small one of random weights is made. Processes scale only as far
as each has a core or a GPU of its own.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from support.package import hide_repository_root, use_checkout

PICTURES = 4
WARM_UP = 2
"""Steps that are not timed: the first ones allocate."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--model", type=Path, help="a diffusers folder; default: random")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=8, help="of all processes together")
    parser.add_argument("--size", type=int, default=256, help="side of the pictures in pixels")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--words", type=int, default=4, help="of the list")
    options = parser.parse_args()

    hide_repository_root()
    use_checkout()
    with tempfile.TemporaryDirectory() as work:
        base = Path(work)
        images = _pictures(base / "images", options.size)
        model = options.model or _small_model(base)
        common = [
            *("--model", model, "--device", options.device, "--resolution", options.size),
            *("--batch-size", options.batch, "--init", "toy", "--previews", 0),
            *("--evaluations", 1, "--steps", options.steps),
        ]
        print("| processes | seconds per step | speed-up | words per minute | speed-up | "
              "farthest from one process |")  # fmt: skip
        print("| --- | --- | --- | --- | --- | --- |")
        first: tuple[float, float, torch.Tensor] | None = None
        for processes in options.processes:
            folder = base / str(processes)
            seconds, word = _one_word(processes, images, folder, common)
            pace = _list(processes, options.words, images, folder, common)
            first = first or (seconds, pace, word)
            print(
                f"| {processes} | {seconds:.3f} | {first[0] / seconds:.2f} | {pace:.1f} | "
                f"{pace / first[1]:.2f} | {float((word - first[2]).abs().max()):.0e} |",
                flush=True,
            )


def _one_word(
    processes: int, images: Path, folder: Path, common: list[object]
) -> tuple[float, torch.Tensor]:
    """Seconds of a step that the processes share, and the word's rows, one below the other."""
    from textual_inversion.trainer.files.reading import read_embedding

    runs = folder / "run"
    command = ["--images", images, "--output", folder, "--name", "together", "--run-folder", runs]
    _torchrun(processes, "train", *command, *common)
    (losses,) = runs.rglob("loss.csv")
    with losses.open(newline="") as file:
        passed = [float(row["seconds"]) for row in csv.DictReader(file)]
    each = (passed[-1] - passed[WARM_UP - 1]) / (len(passed) - WARM_UP)
    rows = read_embedding(folder / "together.safetensors").vectors.values()
    return each, torch.cat([v.flatten() for v in rows])


def _list(processes: int, words: int, images: Path, folder: Path, common: list[object]) -> float:
    """Words per minute, from when the first one is written: until then, the model is read."""
    table = folder / "words.csv"
    names = [f"word-{i}" for i in range(words)]
    table.write_text("name,images\n" + "".join(f"{name},{images}\n" for name in names))
    output = folder / "list"
    _torchrun(processes, "train-list", table, "--output", output, *common)
    written = sorted((output / f"{name}.safetensors").stat().st_mtime for name in names)
    # The first words of all processes end together.
    return 60 * (words - processes) / (written[-1] - written[processes - 1])


def _torchrun(processes: int, *arguments: object) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "textual_inversion", *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)


def _pictures(folder: Path, size: int) -> Path:
    folder.mkdir()
    for i in range(PICTURES):
        Image.new("RGB", (size, size), (60 * i, 90, 160)).save(folder / f"{i}.png")
    return folder


def _small_model(base: Path) -> Path:
    """Of random weights, in the format of diffusers."""
    from support.tiny_models import tiny

    tiny("sd1", base / "tokenizer").pipeline().save_pretrained(base / "model")
    return base / "model"


if __name__ == "__main__":
    main()
