"""Imports go one way, the trainer knows no host, and importing it loads nothing it may not need."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.paths import ROOT

LAYERS = (
    {"errors", "version", "just_in_time", "memory", "picture_structure"},
    {"prompts", "model"},
    {"embeddings"},
    {"methods"},
    {"settings", "presets"},
    {"files", "data"},
    {"learning", "diffusers_model"},
    {"runs"},
    {"cli"},
)
"""The trainer's modules and packages: each may import its own, and what stands above it."""

NEVER = {"learning": {"files", "diffusers_model"}, "data": {"files"}, "settings": {"presets"}}
"""What some may not import though it stands above, or beside, them."""

HOST = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "comfyui_version",
        "folder_paths", "nodes", "server"}  # fmt: skip

TRAINER = sorted((ROOT / "trainer").rglob("*.py"))
NODES = sorted((ROOT / "nodes").rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports_of(path: Path) -> Iterator[str]:
    """Full names of what a file imports: of the package from its root on, `trainer.errors`."""
    here = name_of(path).split(".")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: -node.level] if node.level else []
            module = [node.module] if node.module else []
            yield from (".".join([*base, *module, alias.name]) for alias in node.names)


def layer(name: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if name in names)


@pytest.mark.parametrize("path", TRAINER, ids=name_of)
def test_the_trainers_imports_go_one_way(path: Path) -> None:
    own = name_of(path).split(".")[1]
    for imported in imports_of(path):
        first, *rest = imported.split(".")
        assert first not in HOST | {"textual_inversion", "demo"}, imported
        if first != "trainer" or own == "__init__":
            continue
        other = rest[0]
        assert other == own or layer(other) < layer(own), imported
        assert other not in NEVER.get(own, set()), imported


def test_the_trainer_shows_its_rooms() -> None:
    modules = [path for path in (ROOT / "trainer").glob("*.py") if path.stem != "__init__"]
    assert len(modules) <= 8
    folders = [path.parent.name for path in (ROOT / "trainer").glob("*/__init__.py")]
    assert {*folders, *(path.stem for path in modules)} == set().union(*LAYERS)


@pytest.mark.parametrize("path", NODES, ids=name_of)
def test_only_one_folder_knows_the_hosts_internals(path: Path) -> None:
    tops = {name.split(".")[0] for name in imports_of(path)}
    if "host" not in path.parts:
        assert not tops & {"comfy", "comfy_extras", "comfy_execution", "comfyui_version"}


@pytest.mark.parametrize("path", [*TRAINER, *NODES], ids=name_of)
def test_no_module_is_long(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


def test_there_are_no_circles() -> None:
    """Every module can be loaded with nothing but what it imports, in some order."""
    modules = {name_of(path): path for path in [*TRAINER, *NODES] if path.stem != "__init__"}
    waiting = {
        name: {
            other
            for imported in imports_of(path)
            for other in (imported, imported.rpartition(".")[0])
            if other in modules and other != name
        }
        for name, path in modules.items()
    }
    while True:
        free = {name for name, needs in waiting.items() if not needs & waiting.keys()}
        if not free:
            break
        waiting = {name: needs for name, needs in waiting.items() if name not in free}
    assert not waiting


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    return set(output.split())


def test_package_alone_loads_nothing_heavy() -> None:
    assert not loaded_by("import textual_inversion") & {"torch", "numpy", "diffusers", "PIL"}


def test_command_line_loads_what_a_command_needs() -> None:
    heavy = {"torch", "numpy", "PIL", "tqdm"}
    libraries = {"diffusers", "transformers"} | HOST
    assert not loaded_by("import textual_inversion.__main__") & (heavy | libraries)
    loaded = loaded_by("import textual_inversion.trainer.cli.train")
    assert "textual_inversion.trainer.learning.loop" in loaded
    assert not loaded & libraries
