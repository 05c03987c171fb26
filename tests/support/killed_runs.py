"""Kills a training run at every single thing it does to its folder, and goes on with it.

For a process of its own: it forks, which is only safe before torch has threads.
"""

from __future__ import annotations

import builtins
import io
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from textual_inversion.trainer.data.pictures import Picture
from textual_inversion.trainer.files.reading import read_embedding
from textual_inversion.trainer.runs.checkpoints import load_state
from textual_inversion.trainer.runs.run import open_run
from textual_inversion.trainer.runs.run_folder import FINISHED, list_runs
from textual_inversion.trainer.runs.run_inputs import fingerprints
from textual_inversion.trainer.runs.training import train_and_keep
from textual_inversion.trainer.settings import Settings

from support.toy_model import ToyModel

SETTINGS = Settings(
    init_words="cat", steps=5, resolution=64, learning_rate="0.05", save_every=2, preview_every=3,
    evaluations=2,
)  # fmt: skip


class Deadly:
    """Kills this process at the n-th thing it does to a file, half-way if that can be."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, half_way: Callable[[], object] = lambda: None) -> None:
        self.left -= 1
        if self.left == 0:
            half_way()
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(self, owner: Any, name: str) -> None:
        """Count calls of a function: death comes before it, or after it."""
        original = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self()
            result = original(*args, **kwargs)
            self()
            return result

        setattr(owner, name, call)

    def wrap_writing(self) -> None:
        """Count what is written to files that were opened for it: death comes half-way."""
        original = io.open

        def opened(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            handle = original(file, mode, *args, **kwargs)
            if not set(mode) & set("wax+"):
                return handle
            write = handle.write

            def deadly_write(content: Any) -> Any:
                self(lambda: (write(content[: len(content) // 2]), handle.flush()))
                return write(content)

            return _Writing(handle, deadly_write)

        io.open = builtins.open = opened


class _Writing:
    """A file with another `write`."""

    def __init__(self, handle: Any, write: Callable[[Any], Any]) -> None:
        self._handle, self.write = handle, write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)

    def __enter__(self) -> _Writing:
        return self

    def __exit__(self, *reason: object) -> None:
        self._handle.close()


def learn(parent: Path, until: int = 0) -> list[tuple[int, float, str]]:
    """Train, or go on with it, to the end or until a step; what happened at each."""
    model = ToyModel()
    pictures = [Picture(torch.tensor([0.8, 0.4, 0.3]).expand(64, 64, 3))]
    seen = []
    with open_run(parent, SETTINGS, fingerprints(model, pictures)) as run:
        for progress, *_ in train_and_keep(run, model, pictures, SETTINGS):
            seen.append((progress.step, progress.loss, progress.last.fingerprint))
            if progress.step == until:
                return seen
        run.end(FINISHED)
    return seen


def killed(parent: Path, at: int) -> bool:
    """Train in a process that dies at the n-th thing; False if it came to its end before."""
    child = os.fork()
    if child == 0:
        deadly = Deadly(at)
        # A place to die at, but no wait for the disk: what reaches it is up to the system.
        os.fsync = lambda file: None
        for owner, name in ((os, "fsync"), (os, "replace"), (os, "rename"), (os, "unlink"),
                            (os, "mkdir")):  # fmt: skip
            deadly.wrap(owner, name)
        deadly.wrap_writing()
        learn(parent)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    assert os.waitstatus_to_exitcode(status) == 0, "the run failed by itself"
    return False


def complaints(parent: Path, whole: list[tuple[int, float, str]]) -> list[str]:
    """What is wrong with what a killed run has left, and with going on from it."""
    wrong = []
    runs = list_runs(parent)
    done = 0
    for folder in runs:
        for step in folder.checkpoints():
            load_state(folder.checkpoint_file(step))
        for step in folder.words():
            read_embedding(folder.word_file(step))
        for step in folder.previews():
            if not folder.preview_file(step).read_bytes().endswith(b"IEND\xaeB`\x82"):
                wrong.append(f"preview {step} is half written")
        rows = folder.losses()
        if [(r.step, r.loss) for r in rows] != [(s, x) for s, x, _ in whole[: len(rows)]]:
            wrong.append("other losses")
        done = len(rows)
        kept = max(folder.checkpoints(), default=0)
        if done - kept > SETTINGS.save_every:
            wrong.append(f"{done - kept} steps are lost")
        if folder.status().get("status") == FINISHED:
            # Nothing is left to be done: a new run would be begun.
            return wrong if len(rows) == SETTINGS.steps else ["finished without all losses"]
        if folder.checkpoints() and folder.status().get("status") != "running":
            wrong.append(f"the status is {folder.status()}")
    rest = learn(parent)
    if rest != whole[len(whole) - len(rest) :]:
        wrong.append("going on gave something else")
    if whole[-1][0] - done + SETTINGS.save_every < len(rest):
        wrong.append(f"{len(rest)} steps were made again after {done}")
    runs = list_runs(parent)
    if len(runs) != 1 or runs[0].status().get("status") != FINISHED:
        wrong.append(f"there are the runs {[r.id for r in runs]}")
    if [r.step for r in runs[0].losses()] != [step for step, *_ in whole]:
        wrong.append("the losses have gaps")
    if leftovers := [p.name for p in parent.rglob("*.tmp")]:
        wrong.append(f"left behind: {leftovers}")
    return wrong


def main(base: Path) -> None:
    """Die once at each place; prints JSON, `{"deaths": …, "failures": […]}`.

    Args:
        base: an empty folder.
    """
    torch.set_num_threads(1)
    whole = learn(base / "whole")
    failures, at = [], 0
    while True:
        at += 1
        parent = base / "killed"
        if not killed(parent, at):
            break
        failures += [f"death {at}: {complaint}" for complaint in complaints(parent, whole)]
        shutil.rmtree(parent)
    print(json.dumps({"deaths": at - 1, "failures": failures}))
