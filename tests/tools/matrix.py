"""Runs some of the host's tests in several versions of ComfyUI, and writes what came out.

    cd tests && python -m tools.matrix             # all versions that can be had with pip
    cd tests && python -m tools.matrix 0.16.3      # this one; the others' lines stay
    cd tests && python -m tools.matrix ~/ComfyUI   # what is in this folder

Each version runs in the Python that runs this, with the packages that are there.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from support.comfyui import CARRIERS, cached_comfyui
from support.paths import ROOT

RESULTS = ROOT / "docs" / "hosts.md"
TESTS = (
    "tests/host/test_server_smoke.py",
    "tests/host/test_train_node.py::test_train_save_and_use[sd1_checkpoint]",
    "tests/host/test_families.py",
)
CHOICE = "not test_families or [sd1] or [flux-schnell]"
HEAD = """# Versions of ComfyUI

What `python -m tools.matrix` (in `tests/`) found on a CPU, in the Python packages of ComfyUI 0.30.0
(newer ones in their own): the server with the nodes, a word trained and used in a graph, and all
that the tests of families show for Stable Diffusion 1 and Flux.1.

| ComfyUI | Passed | Failed | Skipped | Tested on |
| --- | --- | --- | --- | --- |
"""


def main(wanted: Sequence[str]) -> int:
    """Test versions or folders one after the other; returns the exit code."""
    results = _known()
    for one in wanted or CARRIERS:
        folder = cached_comfyui(one) if one in CARRIERS else Path(one).expanduser()
        version = _version(folder)
        results[version] = _test(version, folder)
        print(results[version], flush=True)
        newest_first = sorted(results, key=lambda v: [*map(int, v.split("."))], reverse=True)
        lines = [results[v] for v in newest_first]
        RESULTS.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    return 0


def _known() -> dict[str, str]:
    """The lines of earlier runs, by version."""
    if not RESULTS.exists():
        return {}
    text = RESULTS.read_text(encoding="utf-8")
    return {m[1]: m[0] for m in re.finditer(r"^\| (\d[\d.]+) \|.*$", text, re.MULTILINE)}


def _version(comfyui: Path) -> str:
    text = (comfyui / "comfyui_version.py").read_text(encoding="utf-8")
    return text.rpartition("=")[2].strip().strip('"')


def _test(version: str, comfyui: Path) -> str:
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
    return f"| {version} | {passed} | {failed} | {counts['skipped']} | {date.today()} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wanted", nargs="*", help=f"versions ({', '.join(CARRIERS)}) or folders")
    sys.exit(main(parser.parse_args().wanted))
