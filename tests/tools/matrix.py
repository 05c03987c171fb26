"""Runs some of the host's tests in several versions of ComfyUI, and writes what came out.

    cd tests && python -m tools.matrix             # all versions that can be had with pip
    cd tests && python -m tools.matrix 0.16.3      # this one; the others' lines stay
    cd tests && python -m tools.matrix ~/ComfyUI   # what is in this folder

Each version runs in the Python that runs this, with the packages that are there, and with the
newest page on PyPI. A version has a line for each version of torch.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.metadata import version as installed
from pathlib import Path

from support.comfyui import CARRIERS, cached_comfyui
from support.frontend import newest_frontend
from support.paths import ROOT

RESULTS = ROOT / "docs" / "hosts.md"
TESTS = (
    "tests/host/test_server_smoke.py",
    "tests/host/test_internals.py::test_this_host_has_everything",
    "tests/host/test_train_node.py::test_train_save_and_use[sd1_checkpoint]",
    "tests/host/test_families.py",
    "tests/host/test_page.py::test_a_step_is_chosen_by_its_picture[newest]",
    "tests/host/test_page.py::test_the_embeddings_tab[newest]",
)
CHOICE = "not test_families or [sd1] or [flux-schnell] or [z-image]"
PACKAGES = ("torch", "transformers", "comfy-kitchen", "comfy-aimdo")
COLUMNS = ("ComfyUI", "Page", *PACKAGES, "Passed", "Failed", "Skipped", "Tested on")

Line = tuple[str, ...]


def main(wanted: Sequence[str]) -> int:
    """Test versions or folders one after the other; returns the exit code."""
    lines = _known()
    with tempfile.TemporaryDirectory() as work:
        newest_frontend(Path(work))
        (wheel,) = Path(work).glob("*.whl")
        page = wheel.name.split("-")[1]
    for one in wanted or CARRIERS:
        folder = cached_comfyui(one) if one in CARRIERS else Path(one).expanduser()
        with_packages = (_version(folder), page, *map(installed, PACKAGES))
        line = (*with_packages, *_test(folder), str(date.today()))
        print(*line, flush=True)
        lines[_key(line)] = line
        _write(lines)
    return 0


def _key(line: Line) -> tuple[str, str]:
    """A version with another torch is another line."""
    return line[0], line[COLUMNS.index("torch")]


def _known() -> dict[tuple[str, str], Line]:
    """The lines of earlier runs."""
    text = RESULTS.read_text(encoding="utf-8")
    rows = [re.split(r" *\| *", row)[1:-1] for row in re.findall(r"^\| \d.*$", text, re.MULTILINE)]
    return {_key(tuple(row)): tuple(row) for row in rows}


def _write(lines: Mapping[tuple[str, str], Line]) -> None:
    """Put the table in its place; what stands around it stays."""

    def newest(line: Line) -> list[list[int]]:
        return [[int(n) for n in re.findall(r"\d+", cell)] for cell in line]

    rows = [COLUMNS, ("---",) * len(COLUMNS), *sorted(lines.values(), key=newest, reverse=True)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    text = RESULTS.read_text(encoding="utf-8")
    place = re.compile(r"^\| ComfyUI .*?(?=\n\n|\n?\Z)", re.MULTILINE | re.DOTALL)
    text = place.sub(lambda _: table, text, count=1)
    RESULTS.write_text(text, encoding="utf-8")


def _version(comfyui: Path) -> str:
    text = (comfyui / "comfyui_version.py").read_text(encoding="utf-8")
    return text.rpartition("=")[2].strip().strip('"')


def _test(comfyui: Path) -> Line:
    """How many tests passed, failed and were skipped."""
    environment = {**os.environ, "COMFYUI_PATH": str(comfyui), "CI": "true"}
    with tempfile.TemporaryDirectory() as work:
        report = Path(work) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}"]
        subprocess.run([*command, "-k", CHOICE, *TESTS], cwd=ROOT, env=environment, check=False)
        counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
        if report.exists():
            for suite in ElementTree.parse(report).iter("testsuite"):
                counts = {key: counts[key] + int(suite.get(key, 0)) for key in counts}
    failed = counts["failures"] + counts["errors"]
    passed = counts["tests"] - failed - counts["skipped"]
    return str(passed), str(failed), str(counts["skipped"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wanted", nargs="*", help=f"versions ({', '.join(CARRIERS)}) or folders")
    sys.exit(main(parser.parse_args().wanted))
