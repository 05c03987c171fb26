"""Pairs of processes that open the same run at the same moment.

For a process of its own: it forks, which is only safe before torch has threads.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

import torch
from textual_inversion.trainer.runs.checkpoints import load_state
from textual_inversion.trainer.runs.run_folder import FINISHED, list_runs

from support.killed_runs import SETTINGS, learn


def pair(parent: Path) -> list[int]:
    """Two processes train the same at once; their exit codes."""
    gate, opener = os.pipe()
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            os.close(opener)
            os.read(gate, 1)  # returns when the last writer closes
            try:
                learn(parent)
            except BaseException:
                traceback.print_exc(file=sys.stderr)
                os._exit(1)
            os._exit(0)
        children.append(child)
    os.close(gate)
    os.close(opener)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def complaints(parent: Path, whole: list[tuple[int, float, str]]) -> list[str]:
    """What is wrong with the two runs that a pair should have left."""
    wrong = []
    runs = list_runs(parent)
    if len(runs) != 2:
        wrong.append(f"there are the runs {[run.id for run in runs]}")
    for run in runs:
        if run.status().get("status") != FINISHED:
            wrong.append(f"{run.id} is {run.status()}")
        if [(r.step, r.loss) for r in run.losses()] != [(s, x) for s, x, _ in whole]:
            wrong.append(f"{run.id} has other losses")
        if run.word(SETTINGS.steps).fingerprint != whole[-1][2]:
            wrong.append(f"{run.id} has another word")
        for step in run.checkpoints():
            load_state(run.checkpoint_file(step))
    if leftovers := [path.name for path in parent.rglob("*.tmp")]:
        wrong.append(f"left behind: {leftovers}")
    return wrong


def main(base: Path, count: int) -> None:
    """Half of the pairs begin a run, the other half find one that was cut short.

    Prints JSON, `{"pairs": …, "failures": […]}`.
    """
    torch.set_num_threads(1)
    whole = learn(base / "whole")
    failures = []
    for number in range(count):
        parent = base / f"pair-{number}"
        if number % 2:
            learn(parent, until=3)
        codes = pair(parent)
        if codes != [0, 0]:
            failures.append(f"pair {number}: exit codes {codes}")
        failures += [f"pair {number}: {text}" for text in complaints(parent, whole)]
    print(json.dumps({"pairs": count, "failures": failures}))
