"""The trainer knows no host, and importing it loads nothing that it may not need."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from support.paths import ROOT

FILES = sorted((ROOT / "trainer").rglob("*.py"))
HOST = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "nodes", "server"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_of_the_host_is_imported(path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            tops = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, f"line {node.lineno} reaches out of the trainer"
            tops = {(node.module or "").split(".")[0]} if node.level == 0 else set()
        else:
            continue
        assert not tops & (HOST | {"textual_inversion"}), f"line {node.lineno}"


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    return set(output.split())


def test_package_alone_loads_nothing_heavy() -> None:
    assert not loaded_by("import textual_inversion") & {"torch", "numpy", "diffusers", "PIL"}


def test_command_line_loads_diffusers_only_for_a_model() -> None:
    loaded = loaded_by("import textual_inversion.trainer.cli")
    assert "textual_inversion.trainer.loop" in loaded
    assert not loaded & ({"diffusers", "transformers"} | HOST)
