"""The pack asks for all that it takes from the host, and does without the rest."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from enum import EnumMeta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support.client import Host, serving
from support.comfyui import VERSION
from support.graph import Graph
from support.paths import ROOT
from support.server import make_base_directory

FILES = sorted((ROOT / "nodes").rglob("*.py"))
HOST = ("comfy", "comfy_execution", "comfyui_version", "folder_paths", "server")
"""What is not meant for packs; `comfy_api` is."""

Calls = set[tuple[int, tuple[str, ...]]]


def internals() -> Any:
    from textual_inversion.nodes.host.internals import INTERNALS

    return INTERNALS


def without_server() -> list[Any]:
    """What can be had where no server runs, where `test_the_pack_is_imported` asks for the rest."""
    return [one for one in internals() if one.module != "server"]


def taken(path: Path) -> Iterator[tuple[str, ast.AST]]:
    """Full names of the host's that a file uses, with the node of its syntax."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {a.name.split(".")[0]: a.name.split(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield f"{node.module}.{alias.name}", node
    shorter = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if id(node) in shorter:
            continue
        parts: list[str] = []
        inner: ast.AST = node
        match node:
            case ast.Call(ast.Name("getattr" | "hasattr"), [inner, ast.Constant(str(own)), *_]):
                parts = [own]
        while isinstance(inner, ast.Attribute):
            parts.insert(0, inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name) and inner.id in names:
            yield ".".join([names[inner.id], *parts]), node


def calls(path: Path) -> Iterator[tuple[ast.AST, int, tuple[str, ...]]]:
    """What is called in a file, and with which arguments, where these can be counted."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and not any(isinstance(a, ast.Starred) for a in node.args):
            yield node.func, len(node.args), tuple(k.arg for k in node.keywords if k.arg)


def test_all_that_is_taken_stands_in_the_list(host_modules: ModuleType) -> None:
    listed = {str(one) for one in internals()}
    modules = {one.module for one in internals()}
    for path in FILES:
        for name, _ in taken(path):
            if name.split(".")[0] not in HOST or name in modules:
                continue
            if any(module.startswith(f"{name}.") for module in modules):
                continue
            name = name.removesuffix(".__name__")
            # Of the server, which is imported by itself, what it has is listed.
            if name != "server.PromptServer":
                assert any(name == one or name.startswith(f"{one}.") for one in listed), (
                    f"{path.name} takes {name}"
                )


def test_all_that_stands_in_the_list_is_taken_as_it_says(host_modules: ModuleType) -> None:
    """Under its name, and with the arguments that are bound when the pack is loaded."""
    sources = "".join(
        path.read_text(encoding="utf-8") for path in FILES if path.name != "internals.py"
    )
    made: dict[str, Calls] = {}
    for path in FILES:
        for function, positional, keywords in calls(path):
            name = getattr(function, "attr", getattr(function, "id", ""))
            made.setdefault(name, set()).add((positional, keywords))
    for one in internals():
        name = one.name.rpartition(".")[2]
        assert name in sources, one
        replaces = "replaced" in one.used_for or "base of a class" in one.used_for
        # Objects that are called themselves, and classes whose `__init__` is.
        if one.call is None or replaces or name == "forward":
            continue
        asked = one.call.positional, one.call.keywords
        assert asked in made.get(name, set()), (str(one), made.get(name))


def test_marks_of_the_host_are_looked_for(host_modules: ModuleType) -> None:
    from textual_inversion.nodes.host.internals import MARKS

    sources = "".join(
        path.read_text(encoding="utf-8") for path in FILES if path.name != "internals.py"
    )
    for mark in MARKS:
        assert f'{mark}"' in sources, mark


def test_this_host_has_everything(host_modules: ModuleType) -> None:
    import comfyui_version
    from textual_inversion.nodes.host.compatibility import unfit

    assert unfit(without_server()) == {}
    if comfyui_version.__version__ == VERSION:
        assert unfit([*map(as_needed, without_server())]) == {}


def as_needed(internal: Any) -> Any:
    from dataclasses import replace

    return replace(internal, can_be_absent=False)


@contextmanager
def without(internal: Any) -> Iterator[None]:
    """The host without something that its module, or a class there, has."""
    owner = importlib.import_module(internal.module)
    *classes, name = internal.name.split(".")
    for one in classes:
        owner = getattr(owner, one)
    before = vars(owner)[name]
    delattr(owner, name)
    try:
        yield
    finally:
        setattr(owner, name, before)


def test_what_is_gone_or_other_is_found(host_modules: ModuleType) -> None:
    """Each one by itself, and what the pack can do without is not missed."""
    from textual_inversion.nodes.host.compatibility import unfit

    tried = 0
    for internal in without_server():
        owner: Any = importlib.import_module(internal.module)
        *classes, name = internal.name.split(".")
        for one in classes:
            owner = getattr(owner, one)
        if name not in vars(owner) or isinstance(owner, EnumMeta):
            continue  # Objects get it when they are made, or nobody can take it away.
        tried += 1
        with without(internal):
            if not hasattr(owner, name):  # Classes may inherit another.
                missing = unfit([internal])
                assert missing == ({} if internal.can_be_absent else {internal: "is not there"})
            if internal.call is not None:
                setattr(owner, name, lambda self, one, *, of_a_newer_host: None)
                assert unfit([internal]) == {internal: "takes other arguments"}
        assert unfit([internal]) == {}
    assert tried > 50


def test_wrappers_of_other_packs_are_no_reason_to_stop(
    host_modules: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    import functools

    import comfy.samplers
    from textual_inversion.nodes.host.compatibility import unfit

    original = comfy.samplers.cond_cat

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs)

    for other in (wrapper, lambda *args, **kwargs: original(*args, **kwargs)):
        monkeypatch.setattr(comfy.samplers, "cond_cat", other)
        assert unfit(without_server()) == {}


CHANGED_HOST = """
import comfy.samplers, comfy.sampler_helpers, comfy.model_base
original = comfy.samplers.cond_cat
comfy.samplers.cond_cat = lambda conds, *, device_of_a_newer_host: original(conds)
del comfy.model_base.BaseModel.memory_required
"""

DEMO_OF_ANOTHER_HOST = """
import comfy.sd, comfy.latent_formats
del comfy.latent_formats.SD15
"""


def version_of(comfyui: Path) -> str:
    text = (comfyui / "comfyui_version.py").read_text(encoding="utf-8")
    return text.rpartition("=")[2].strip().strip('"')


@contextmanager
def changed_host(comfyui: Path, base: Path, changes: str) -> Iterator[Host]:
    """A server in which something else changes the host before packs are loaded."""
    make_base_directory(base)
    other = base / "custom_nodes" / "newer_host"
    other.mkdir()
    (other / "prestartup_script.py").write_text(changes)
    (other / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
    with serving(comfyui, base) as host:
        yield host


def of_the_pack(host: Host) -> set[str]:
    return {
        info["display_name"]
        for info in host.object_info().values()
        if "textual-inversion" in str(info.get("python_module"))
    }


@pytest.mark.parametrize(
    ("changes", "lacks", "says"),
    [
        (
            CHANGED_HOST,
            {"Train Textual Inversion", "Train Negative Embedding", "Train from Ratings",
             "Rate Pictures", "Load Ratings", "Choose Training Step", "Demo Judge"},
            ("comfy.samplers.cond_cat takes other arguments",
             "comfy.model_base.BaseModel.memory_required is not there"),
        ),
        (
            DEMO_OF_ANOTHER_HOST,
            {"Load Tiny Demo Model", "Demo Pictures", "Demo Judge"},
            ("comfy.latent_formats.SD15 is not there",),
        ),
    ],
    ids=["training", "demo"],
)  # fmt: skip
def test_other_nodes_work_in_a_host_that_has_changed(
    host_modules: ModuleType,
    comfyui: Path,
    tmp_path: Path,
    sd1_checkpoint: Path,
    changes: str,
    lacks: set[str],
    says: tuple[str, ...],
) -> None:
    from textual_inversion.nodes import NODES
    from textual_inversion.trainer.version import VERSION as PACK_VERSION

    with changed_host(comfyui, tmp_path, changes) as host:
        assert of_the_pack(host) == {node.title for node in NODES} - lacks
        assert host.server.failed_imports() == []
        (line,) = [one for one in host.server.log().splitlines() if "does not fully fit" in one]
        for part in (
            f"Textual inversion {PACK_VERSION}",
            f"ComfyUI {version_of(comfyui)}",
            *says,
            *lacks,
        ):
            assert part in line
        assert isinstance(host.get("/textual_inversion/runs"), (list, dict))

        save_file({"emb_params": torch.ones(1, 768)}, host.embeddings / "ones.safetensors")
        graph = Graph()
        loaded = graph.add("CheckpointLoaderSimple", ckpt_name=host.add_checkpoint(sd1_checkpoint))
        word = graph.add("TextualInversionLoad", file="ones.safetensors")
        applied = graph.add("TextualInversionApply", clip=loaded[1], embedding=word[0],
                            text="a [name]", strength=0.5)  # fmt: skip
        inspected = graph.add("TextualInversionInspect", embedding=word[0], clip=applied[1])
        assert "ones" in host.run(graph)[inspected]["text"][0]
