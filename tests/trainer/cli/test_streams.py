"""Output that cannot be written or shown, and input from a pipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.files.reading import read_embedding, suffix_of
from textual_inversion.trainer.files.writing import FORMATS, write_embedding

ROWS = torch.randn(2, 768, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "漢字.safetensors"
    write_embedding(Embedding("漢字", {"clip_l": ROWS}, {"note": "x" * 200}), path)
    return path


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "textual_inversion", *map(str, arguments)],
        env=environment,
        **{"capture_output": True, **options},
    )


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_a_terminal_of_any_encoding(encoding: str, source: Path) -> None:
    done = run("inspect", source, env={"PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, b"")
    word = done.stdout.split(b":")[0].decode(encoding)
    assert word == ("漢字" if encoding == "utf-8" else r"\u6f22\u5b57")
    wrong = run("inspect", source.with_name("無.pt"), env={"PYTHONIOENCODING": encoding})
    assert wrong.returncode == 2
    assert b"Traceback" not in wrong.stderr


@pytest.mark.skipif(os.name != "posix", reason="pipes of a shell")
def test_a_pipe_that_nobody_reads(source: Path) -> None:
    shell = f"{sys.executable} -m textual_inversion inspect {' '.join([str(source)] * 500)}"
    script = f"{shell} | head -n 1 >/dev/null; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_device(source: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = run("inspect", source, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr.decode().strip() == "The output cannot be written: No space left on device."


@pytest.mark.parametrize("format", FORMATS)
def test_from_standard_input_to_standard_output(format: str, source: Path, tmp_path: Path) -> None:
    encoded = run("convert", source, "-", "--format", format)
    assert (encoded.returncode, encoded.stderr) == (0, b"")
    assert suffix_of(encoded.stdout) in (FORMATS[format].suffix, ".pt")
    back = run("convert", "-", tmp_path / "back.safetensors", input=encoded.stdout)
    assert back.returncode == 0, back.stderr
    assert torch.equal(read_embedding(tmp_path / "back.safetensors").vectors["clip_l"], ROWS)
    told = json.loads(run("inspect", "-", "--json", input=encoded.stdout).stdout)
    assert told[0]["file"] == "-"
    assert [encoder["key"] for encoder in told[0]["encoders"]] == ["clip_l"]
    assert run("preview", "-", input=encoded.stdout).stdout.startswith(b"\x89PNG")
    assert run("inspect", "-", input=b"nothing").returncode == 2
