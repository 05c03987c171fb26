"""The demo, as a newcomer runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image


def demo(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "textual_inversion", "demo", "--output", "here", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_the_demo_teaches_and_tells(tmp_path: Path) -> None:
    from textual_inversion.trainer.files.reading import read_embedding

    run = demo(tmp_path, "--concept", "sun-disk")
    assert run.returncode == 0, run.stderr
    assert run.stdout.rstrip().endswith(f"Look at {Path('here') / 'story.png'}")
    words, learned = (
        float(re.search(rf"^{name} +([\d.]+)", run.stdout, re.MULTILINE)[1])
        for name in ("words alone", "learned word")
    )
    assert learned <= 0.35 * words

    written = {path.name for path in (tmp_path / "here").iterdir()}
    assert written == {"sun-disk.safetensors", "loss.csv", "story.png"}
    assert read_embedding(tmp_path / "here" / "sun-disk.safetensors").name == "sun-disk"
    with Image.open(tmp_path / "here" / "story.png") as story:
        assert min(story.size) > 500
    header, *rows = (tmp_path / "here" / "loss.csv").read_text().splitlines()
    assert header == "step,loss,evaluation"
    evaluations = [float(row.split(",")[2]) for row in rows if row.split(",")[2]]
    assert evaluations[-1] < evaluations[0]


def test_an_unknown_concept_lists_the_known_ones(tmp_path: Path) -> None:
    run = demo(tmp_path, "--concept", "unicorn")
    assert run.returncode == 2
    assert "ember-star" in run.stderr
    assert not (tmp_path / "here").exists()


def test_bad_input_is_told_before_the_lesson(tmp_path: Path) -> None:
    run = demo(tmp_path, "--steps", "0")
    assert (run.returncode, run.stderr) == (2, "steps is 0: it must be at least 1.\n")
    (tmp_path / "here").write_text("no folder")
    run = demo(tmp_path)
    assert (run.returncode, run.stdout) == (2, "")
    assert "cannot be created" in run.stderr
