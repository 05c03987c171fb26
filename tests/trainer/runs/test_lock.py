"""Two at once: each run's folder belongs to one process, and to nobody once that is dead."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.paths import ROOT
from support.toy_model import ToyModel
from textual_inversion.trainer.data.pictures import Picture
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.runs.live import describe
from textual_inversion.trainer.runs.lock import FILE_NAME, HeldError, RunLock, holder
from textual_inversion.trainer.runs.run import Run, open_run
from textual_inversion.trainer.runs.run_folder import RunFolder, list_runs
from textual_inversion.trainer.runs.run_inputs import fingerprints
from textual_inversion.trainer.settings import Settings

PICTURES = [Picture(torch.tensor([0.8, 0.4, 0.3]).expand(64, 64, 3))]
SETTINGS = Settings(init_words="cat", steps=12, resolution=64)

IN_PROCESS = (
    "from support.package import hide_repository_root, use_checkout;"
    "hide_repository_root(); use_checkout();"
    "from pathlib import Path; import sys;"
)
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "tests"), "OMP_NUM_THREADS": "1"}


def start(parent: Path) -> Run:
    return open_run(parent, SETTINGS, fingerprints(ToyModel(), PICTURES))


def test_the_second_is_told_by_whom_and_begins_its_own(tmp_path: Path) -> None:
    with start(tmp_path) as first:
        losses = first.folder.loss_file.read_bytes()
        with start(tmp_path) as second:
            assert second.folder.id == "my-word_00002"
            assert first.folder.id in second.notice
            assert f"process {os.getpid()} on {socket.gethostname()}" in second.notice
        assert first.folder.loss_file.read_bytes() == losses
        assert first.notice == ""
    with start(tmp_path) as third:
        assert third.folder.id == "my-word_00002", "the newest that nobody holds"


def test_what_others_are_shown_of_it(tmp_path: Path) -> None:
    with start(tmp_path) as run:
        shown = describe(run.folder)
        assert shown["status"] == "running"
        assert f"process {os.getpid()}" in shown["message"]
    assert describe(run.folder)["status"] == "interrupted"


def test_a_killed_owner_holds_nothing(tmp_path: Path) -> None:
    code = IN_PROCESS + (
        "from textual_inversion.trainer.runs.lock import RunLock;"
        "from textual_inversion.trainer.runs.run_folder import RunFolder;"
        "lock = RunLock(RunFolder(Path(sys.argv[1]))); print('held', flush=True);"
        "sys.stdin.read()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    folder = RunFolder(tmp_path)
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"held\n"
    assert f"process {owner.pid} " in holder(folder)
    with pytest.raises(HeldError, match=f"process {owner.pid} "):
        RunLock(folder)
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    assert f"process {owner.pid} " in (tmp_path / FILE_NAME).read_text(), "its words are left"
    assert holder(folder) == ""
    RunLock(folder).release()


def test_a_process_id_is_not_trusted(tmp_path: Path) -> None:
    """The words in the file may name a process that has the number by chance."""
    with start(tmp_path) as run:
        path = run.folder.path / FILE_NAME
    path.write_text(f"process {os.getppid()} on {socket.gethostname()} since always")
    with start(tmp_path) as again:
        assert again.folder == run.folder
        assert again.notice == ""


def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("precious")
    run = tmp_path / "run"
    run.mkdir()
    (run / FILE_NAME).symlink_to(tmp_path / "outside")
    assert holder(RunFolder(run)) == ""
    with pytest.raises(InputError, match="cannot be written"):
        RunLock(RunFolder(run))
    assert (tmp_path / "outside").read_text() == "precious"


def test_fifty_pairs_started_together(tmp_path: Path) -> None:
    code = IN_PROCESS + "from support.run_pairs import main; main(Path(sys.argv[1]), 50)"
    command = [sys.executable, "-c", code, str(tmp_path)]
    output = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert output.returncode == 0, output.stderr
    assert json.loads(output.stdout) == {"pairs": 50, "failures": []}
    assert output.stderr == ""
    assert len(list_runs(tmp_path / "pair-0")) == 2
