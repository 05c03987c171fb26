"""How plain `pytest` shares the tests among processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import sharing
from support.paths import ROOT

GB = 1 << 30


@pytest.mark.parametrize(
    ("work", "cores", "memory", "wanted"),
    [
        ([300.0] * 10, 2, 24 * GB, 2),
        ([300.0] * 10, 8, 64 * GB, 8),
        ([300.0] * 10, 8, 13 * GB, 2),  # each holds a server and models
        ([300.0] * 10, 8, 5 * GB, 1),
        ([300.0] * 10, 1, 64 * GB, 1),
        ([300.0], 8, 64 * GB, 1),  # a file stays in one process
        ([300.0, 100.0, 100.0, 100.0], 8, 64 * GB, 2),  # no more than keep up with the longest
        ([1.0] * 30, 8, 64 * GB, 1),  # soon done
        ([], 8, 64 * GB, 1),
        ([0.0], 8, 64 * GB, 1),  # what the record rounds to nothing
    ],
)
def test_how_many_processes(work: list[float], cores: int, memory: int, wanted: int) -> None:
    assert sharing.processes_for(work, cores, memory) == wanted


def test_the_record_is_of_files_that_are_there() -> None:
    """The longest of which are known, or they might come last."""
    recorded = sharing.recorded()
    assert [file for file in recorded if not (ROOT / file).is_file()] == []
    for name in ("train_node", "page", "workflows", "families"):
        assert recorded[f"tests/host/test_{name}.py"] > sharing.UNKNOWN
    everything = sharing.expected(["tests"], ROOT)
    assert len(everything) >= len(recorded)
    assert everything == sorted(everything, reverse=True)
    assert sharing.expected(["tests/trainer", "tests/trainer/cli"], ROOT) == sharing.expected(
        ["trainer"], ROOT / "tests"
    )


@pytest.mark.parametrize(
    ("arguments", "workers", "threads"),
    [
        (["--record-durations"], ["2 workers [13 items]"], "2"),
        (["-n", "1", "-v"], ["1 worker [13 items]"], "None"),
        (["test_3.py"], [], "None"),
        (["-p", "no:xdist"], [], "None"),
    ],
    ids=["plain", "as-told", "one-file", "without-xdist"],
)
def test_a_run(arguments: list[str], workers: list[str], threads: str, tmp_path: Path) -> None:
    """Of small files on a machine of four cores, with memory for two processes."""
    (tmp_path / "conftest.py").write_text(
        "from pathlib import Path\n"
        "from support import sharing\n"
        "sharing.ROOT = Path(__file__).parent\n"
        "sharing.RECORD = sharing.ROOT / 'durations.json'\n"
        "sharing.cores, sharing.free_memory = lambda: 4, lambda: 13 << 30\n"
        "pytest_plugins = ['support.sharing']\n"
    )
    record = tmp_path / "durations.json"
    record.write_text('{"test_7.py": 9.0, "gone.py": 1.0}')
    files = [f"test_{number}.py" for number in range(12)]
    for name in files:
        (tmp_path / name).write_text(
            "import os\ndef test_it(): print('threads:', os.environ.get('OMP_NUM_THREADS'))\n"
        )
    with (tmp_path / "test_0.py").open("a") as file:
        file.write("def test_more(): pass\n")
    ours = ("PYTEST_", "OMP_NUM_THREADS")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--rootdir=.", "-rP", *arguments],
        cwd=tmp_path, env=environment | {"PYTHONPATH": str(ROOT / "tests")},
        capture_output=True, text=True,
    )  # fmt: skip
    said = done.stdout
    assert done.returncode == 0, said + done.stderr
    assert re.findall(r"\d+ workers? \[.*\]", said) == workers
    assert set(re.findall(r"threads: (\w+)", said)) == {threads}
    if "-v" in arguments:
        assert re.search(r"PASSED (\S+)::", said)[1] == "test_7.py", "the longest comes first"
    if "--record-durations" in arguments:
        assert sorted(json.loads(record.read_text())) == sorted(files)


def test_what_is_announced() -> None:
    """Nothing of a run of seconds."""
    assert sharing.announced([5.0] * 3, 1) == ""
    assert "4 files in 2 processes, about 10 minutes" in sharing.announced([300.0] * 4, 2)
    assert "4 files one after another" in sharing.announced([300.0] * 4, 1)
    assert "about 15 minutes" in sharing.announced([900.0, 60.0, 60.0], 2)
    assert "“Run the tests”" in sharing.announced([60.0], 1)
    assert "## Run the tests" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
