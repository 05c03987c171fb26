"""Kills real runs at random moments, and starts two at once, in the server or as commands.

    cd tests && python -m tools.reliability kill command --count 50 --seed 1
    cd tests && python -m tools.reliability kill server --count 50 --seed 1
    cd tests && python -m tools.reliability pairs command --count 50
    cd tests && python -m tools.reliability pairs server --count 50

`kill`: a run is killed with SIGKILL again and again, each time after a time drawn at random, and
goes on until it comes to its end; then the next one. What is in its folder has to be whole after
each death, no temporary file may be older than the next start, and in the end its losses and its
word have to be the same to the bit as those of a run that was left alone. `pairs`: two processes
learn the same word in one folder of runs, started together. Each has to come to its end in a folder
of its own, with the same losses and the same word.

Prints JSON; the exit code says whether anything was wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

if __name__ == "__main__":
    from support.package import hide_repository_root, use_checkout

    hide_repository_root()
    use_checkout()

from support.client import Host
from support.comfyui import find_comfyui
from support.graph import Graph
from support.server import Server, make_base_directory
from support.tiny_models import tiny
from support.training import train
from textual_inversion.__main__ import main as command_line
from textual_inversion.trainer.files.reading import read_embedding
from textual_inversion.trainer.runs.checkpoints import load_state
from textual_inversion.trainer.runs.run_folder import FINISHED, RunFolder, list_runs

NAME, SAVE_EVERY, PREVIEW_EVERY = "killed", 7, 15
PART = 2
"""A run lives for at most this part of the time that it takes, so that it dies several times."""


class Command:
    """`textual-inversion train` in a process, forked from this one, which has loaded all it needs.

    Args:
        base: for its model, its pictures and the word.
        runs: the folder of runs.
        steps: of each.
    """

    def __init__(self, base: Path, runs: Path, steps: int) -> None:
        self.runs, self.words, self.steps = runs, base / "words", steps
        self._base, self._process, self._log = base, 0, base / "log.txt"
        images = base / "images"
        images.mkdir(parents=True)
        noise = np.random.default_rng(0)
        for number in range(2):
            pixels = noise.integers(0, 256, (70, 90, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(images / f"{number}.png")
        (base / "tokenizer").mkdir()
        tiny("sd1", base / "tokenizer").pipeline().save_pretrained(base / "model")

    def begin(self, seed: int) -> None:
        """Start it."""
        options = {
            "model": self._base / "model", "images": self._base / "images", "output": self.words,
            "name": NAME, "init": "toy cat", "steps": self.steps, "resolution": 64, "seed": seed,
            "save-every": SAVE_EVERY, "preview-every": PREVIEW_EVERY, "previews": 1,
            "run": self.runs, "device": "cpu",
        }  # fmt: skip
        given = [str(text) for key, value in options.items() for text in (f"--{key}", value)]
        self._log.write_text("")
        self._process = os.fork()
        if self._process == 0:
            log = os.open(self._log, os.O_WRONLY | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.stdout = os.fdopen(1, "w", buffering=1)
            sys.stderr = os.fdopen(2, "w", buffering=1)
            sys.argv[1:] = ["train", *given, "--overwrite"]
            code = 1
            try:
                code = command_line()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)

    def wait_until_begun(self) -> None:
        """Until it has said in which folder it keeps its run."""
        while str(self.runs) not in self._log.read_text():
            if self.ends_within(0):
                return
            time.sleep(0.01)

    def ends_within(self, seconds: float) -> bool:
        """Whether it comes to its end in this time."""
        end = time.monotonic() + seconds
        while self._process:
            ended, status = os.waitpid(self._process, os.WNOHANG)
            if ended:
                self._process = 0
                if status:
                    raise RuntimeError(self._log.read_text()[-2000:])
            elif time.monotonic() > end:
                return False
            else:
                time.sleep(0.005)
        return True

    def kill(self) -> None:
        """SIGKILL."""
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        self._process = 0

    def close(self) -> None:
        """Leave nothing running."""
        if self._process:
            self.kill()


class InServer:
    """Our training node in a real ComfyUI.

    Args:
        base: the server's own folder.
        output: its output folder, which it may share.
        steps: of each run.
    """

    def __init__(self, base: Path, output: Path, steps: int) -> None:
        make_base_directory(base)
        self.steps = steps
        self.runs, self.words = output / "textual_inversion", base / "models" / "embeddings"
        arguments = ("--output-directory", str(output), "--cache-none")
        self._server = Server(find_comfyui(), base, arguments)
        self._host: Host | None = None
        self._queued = ""

    def begin(self, seed: int) -> None:
        """Queue the graph, in a new server if there is none."""
        if self._host is None:
            self._server.start()
            self._host = Host(self._server)
        graph = Graph()
        model = graph.add("TextualInversionDemoModel")
        pictures = graph.add("TextualInversionDemoPictures", concept="sun-disk", count=3, seed=0)
        train(
            graph, model, pictures[0], name=NAME, captions=pictures[1], init_words=pictures[2],
            steps=self.steps, seed=seed, save_every=SAVE_EVERY, preview_every=PREVIEW_EVERY,
            previews=1,
        )  # fmt: skip
        self._queued = self._host.queue(graph)

    def wait_until_begun(self) -> None:
        """Until the graph is executed."""
        assert self._host is not None
        self._host.wait_for_progress(self._queued)

    def ends_within(self, seconds: float) -> bool:
        """Whether it comes to its end in this time."""
        assert self._host is not None
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._host.get(f"/history/{self._queued}"):
                self._host.wait(self._queued)
                return True
            time.sleep(min(0.1, max(0.0, end - time.monotonic())))
        return False

    def kill(self) -> None:
        """SIGKILL to the server."""
        self._server.kill()
        self.close()

    def close(self) -> None:
        """Leave nothing running."""
        host, self._host = self._host, None
        if host is not None:
            with suppress(Exception):
                host.close()
        self._server.stop()


Surface = Command | InServer


@dataclass(frozen=True)
class Outcome:
    """What a run has learned: its losses by step, and its word."""

    losses: list[tuple[int, float]]
    word: str

    @classmethod
    def of(cls, run: RunFolder) -> Outcome:
        """That of a finished run."""
        return cls([(r.step, r.loss) for r in run.losses()], run.word().fingerprint)


def torn(surface: Surface) -> list[str]:
    """What is not whole, in the folders of the runs and among the words."""
    wrong = []
    for run in list_runs(surface.runs):
        files = [
            *((load_state, run.checkpoint_file(step)) for step in run.checkpoints()),
            *((read_embedding, run.word_file(step)) for step in run.words()),
            *((_read_picture, run.preview_file(step)) for step in run.previews()),
        ]
        for read, path in files:
            try:
                read(path)
            except Exception as error:
                wrong.append(f"{run.id}/{path.name}: {error}")
        if not (run.settings() and run.status()):
            wrong.append(f"{run.id} has no settings or status")
    for path in surface.words.glob("[!.]*.safetensors"):
        read_embedding(path)
    return wrong


def _read_picture(path: Path) -> None:
    with Image.open(path) as picture:
        picture.load()


def leftovers(surface: Surface) -> list[str]:
    """Temporary files that nobody has cleared away."""
    folders = (surface.runs, surface.words)
    return [path.name for folder in folders for path in folder.rglob(".*.tmp")]


def finish(surface: Surface, seed: int) -> float:
    """A run, or the rest of one, to its end; the seconds it took once it was opened."""
    surface.begin(seed)
    surface.wait_until_begun()
    begun = time.monotonic()
    assert surface.ends_within(3600)
    return time.monotonic() - begun


def kill(surface: Surface, count: int, seed: int, minutes: float) -> dict[str, object]:
    """Kill runs `count` times, or as often as there is time for."""
    end = time.monotonic() + 60 * minutes
    rng, wrong, deaths, runs, left, late = random.Random(seed), list[str](), 0, 1, 0, 0
    steps_at_death: list[int] = []
    finish(surface, seed)  # the first one takes longer
    longest = finish(surface, seed)
    whole = Outcome.of(list_runs(surface.runs)[0])
    known = {run.id for run in list_runs(surface.runs)}
    while True:
        old = {*leftovers(surface)}
        surface.begin(seed)
        surface.wait_until_begun()
        wrong += [f"older than the start: {name}" for name in old & {*leftovers(surface)}]
        on = deaths < count and time.monotonic() < end
        ended = surface.ends_within(rng.uniform(0, longest / PART) if on else 3600)
        if not ended:
            surface.kill()
            deaths += 1
            left += len(leftovers(surface))
            wrong += [f"death {deaths}: {text}" for text in torn(surface)]
            rows = list_runs(surface.runs)[0].losses()
            steps_at_death.append(rows[-1].step if rows else 0)
            # Between the last write and the message of its end, there is no more to go on with.
            newest = list_runs(surface.runs)[0]
            ended = newest.id not in known and newest.status().get("status") == FINISHED
            late += ended
        if not ended:
            continue
        new = [run for run in list_runs(surface.runs) if run.id not in known]
        known |= {run.id for run in new}
        runs += len(new)
        if len(new) != 1:
            wrong.append(f"death {deaths}: {len(new)} runs instead of one")
        for run in new:
            if run.status().get("status") != FINISHED or Outcome.of(run) != whole:
                wrong.append(f"{run.id} is not as the one that was left alone")
        wrong += [f"left behind: {name}" for name in leftovers(surface)]
        if not on:
            break
    return {
        "deaths": deaths,
        "runs": runs - 1,
        "seconds of a run": round(longest, 1),
        "temporary files found at a death": left,
        "deaths of runs that had ended": late,
        "steps at death": f"{min(steps_at_death)} to {max(steps_at_death)} of {surface.steps}",
        "wrong": wrong,
    }


def pairs(surfaces: Sequence[Surface], count: int, minutes: float) -> dict[str, object]:
    """Start two at once, `count` times; each time a word of its own."""
    end = time.monotonic() + 60 * minutes
    wrong, shared, made = list[str](), 0, 0
    known: set[str] = set()
    for seed in range(count):
        if time.monotonic() > end:
            break
        made += 1
        for surface in surfaces:
            surface.begin(seed)
        for surface in surfaces:
            if not surface.ends_within(3600):
                wrong.append(f"pair {seed} did not end")
        new = [run for run in list_runs(surfaces[0].runs) if run.id not in known]
        known |= {run.id for run in new}
        if len(new) != 2 or any(run.status().get("status") != FINISHED for run in new):
            wrong.append(f"pair {seed}: {[(run.id, run.status()) for run in new]}")
            continue
        first, second = (Outcome.of(run) for run in new)
        if first != second or len(first.losses) != surfaces[0].steps:
            wrong.append(f"pair {seed}: the two differ")
        starts = sorted(str(run.settings().get("began")) for run in new)
        shared += starts[1] <= min(str(run.status().get("changed")) for run in new)
        wrong += [f"pair {seed}: {text}" for surface in surfaces for text in leftovers(surface)]
    wrong += torn(surfaces[0])
    return {"pairs": made, "at the same time": shared, "wrong": wrong}


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["kill", "pairs"])
    parser.add_argument("where", choices=["command", "server"])
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--steps", type=int, default=40, help="of each run")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--minutes", type=float, default=600, help="after which no more is begun")
    options = parser.parse_args(arguments)
    kind = Command if options.where == "command" else InServer
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        shared = Path(folder) / "shared"
        shared.mkdir()
        surfaces = [
            stack.enter_context(closing(kind(Path(folder) / str(number), shared, options.steps)))
            for number in range(1 if options.what == "kill" else 2)
        ]
        if options.what == "kill":
            answer = kill(surfaces[0], options.count, options.seed, options.minutes)
        else:
            answer = pairs(surfaces, options.count, options.minutes)
    print(json.dumps({**answer, "seconds": round(time.monotonic() - began)}, indent=1))
    return 1 if answer["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
