"""The page's modules, by node's own test runner."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from support.paths import ROOT

NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_modules() -> None:
    files = sorted(str(path) for path in (ROOT / "tests" / "js").glob("*.test.mjs"))
    assert files
    run = subprocess.run([str(NODE), "--test", *files], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_syntax() -> None:
    """Also of the modules that need the page, which the browser's tests use."""
    for path in (ROOT / "js").glob("*.js"):
        text = path.read_text(encoding="utf-8")
        command = [str(NODE), "--input-type=module", "--check"]
        run = subprocess.run(command, input=text, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        # Text from files must not become HTML.
        for forbidden in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ):
            assert forbidden not in text, f"{path.name} uses {forbidden}"
