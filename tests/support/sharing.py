"""Plain `pytest` uses the whole machine: files of tests are shared among several processes.

How many follows from the cores, from the memory that is free and from what there is to do, by the
seconds that each file once took (`durations.json`). The longest files come first, so that no
process is left alone with one at the end. Whoever passes `-n` decides; without pytest-xdist, tests
run one after another.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from .paths import ROOT

RECORD = Path(__file__).with_name("durations.json")
"""Seconds of each file on a machine of two cores; `pytest --record-durations` writes them anew."""

UNKNOWN = 5.0
"""Seconds of a file that is not recorded, and of a test that is named."""

WORTH_A_PROCESS = 20
"""Seconds of tests for which to start one: it imports torch anew, and may start a server."""

MEMORY = 6 << 30
"""What a process takes, with its server and its models."""

ALONE = (
    *("keyword", "lf", "stepwise", "usepdb", "trace", "help", "version"),
    *("collectonly", "setuponly", "setupplan", "showfixtures", "show_fixtures_per_test"),
)
"""Options after which there is little to do, or which need the terminal."""

PLAN: pytest.StashKey[str] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """How the record is kept true."""
    parser.addoption(
        "--record-durations",
        action="store_true",
        help=f"write into tests/support/{RECORD.name} how long each file of this run took",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Decide before pytest-xdist acts on its options."""
    options = config.option
    if hasattr(config, "workerinput"):
        return
    work = expected(config.args, config.invocation_params.dir)
    if config.pluginmanager.hasplugin("xdist"):
        alone = options.capture == "no" or any(getattr(options, name, False) for name in ALONE)
        if options.numprocesses is None and not options.tx and not alone:
            count = processes_for(work, cores(), free_memory())
            options.numprocesses = count if count > 1 else None
        elif options.numprocesses in ("auto", "logical"):
            options.numprocesses = config.hook.pytest_xdist_auto_num_workers(config=config)
        if options.numprocesses and options.dist == "no":
            # What takes long to set up is shared within a file. In the order of the record.
            options.dist, options.loadscopereorder = "loadfile", False
    processes = getattr(options, "numprocesses", None) or 1
    threads = max(1, cores() // processes)
    if processes > 1:
        # Each process, or the server that it waits for, has its share of the cores.
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    if config.getoption("record_durations"):
        config.pluginmanager.register(Recorder())
    config.stash[PLAN] = announced(work, processes)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """For `-n auto`; the variable that pytest-xdist reads comes first."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return max(1, min(cores(), free_memory() // MEMORY))


def pytest_report_header(config: pytest.Config) -> str | list[str]:
    """What is going to happen, before anything slow is imported."""
    return config.stash.get(PLAN, "") or []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest files first, where files are shared."""
    if hasattr(config, "workerinput"):
        seconds = recorded()
        items.sort(key=lambda item: -seconds.get(file_of(item.nodeid), UNKNOWN))


class Recorder:
    """Adds up what each file takes, in whichever process."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Setting up and tidying up count too."""
        self.seconds[file_of(report.nodeid)] += report.duration

    def pytest_sessionfinish(self) -> None:
        """Files that were not run keep what they had; those that are gone are forgotten."""
        known = recorded() | {file: round(seconds, 1) for file, seconds in self.seconds.items()}
        kept = {file: known[file] for file in sorted(known) if (ROOT / file).is_file()}
        RECORD.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def recorded() -> dict[str, float]:
    """Seconds of each file, by its path from the root."""
    found: dict[str, float] = json.loads(RECORD.read_text(encoding="utf-8"))
    return found


def file_of(nodeid: str) -> str:
    """The file of a test."""
    return nodeid.partition("::")[0]


def expected(arguments: Sequence[str], folder: Path) -> list[float]:
    """The seconds of each file that the command line names, the longest first."""
    seconds, known = {}, recorded()
    for argument in arguments:
        name, _, test = argument.partition("::")
        path = (folder / name).resolve()
        for file in path.rglob("test_*.py") if path.is_dir() else [path]:
            inside = file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else ""
            seconds[file] = UNKNOWN if test else known.get(inside, UNKNOWN)
    return sorted(seconds.values(), reverse=True)


def processes_for(work: Sequence[float], cores: int, memory: int) -> int:
    """How many processes to share files of so many seconds among; more would only wait."""
    if not any(work):
        return 1
    enough = round(sum(work) / max(work))
    return max(1, int(min(cores, memory // MEMORY, enough, sum(work) // WORTH_A_PROCESS)))


def announced(work: Sequence[float], processes: int) -> str:
    """One line for the head of a run of a minute or more."""
    minutes = max(sum(work) / processes, max(work, default=0)) / 60
    if minutes < 1:
        return ""
    among = f"in {processes} processes" if processes > 1 else "one after another"
    return (
        f"tests: {len(work)} files {among}, about {minutes:.0f} minutes for all that is in them; "
        "more in CONTRIBUTING.md, “Run the tests”"
    )


def cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory() -> int:
    """Bytes that are free, in a container of those that it may use; 0 where that is not known."""
    try:
        import psutil
    except ImportError:
        return 0
    free: int = psutil.virtual_memory().available
    with suppress(OSError, ValueError):
        free = min(free, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return free
