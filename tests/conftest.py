"""Fixtures for all tests. Those that need ComfyUI are made only when a test asks for them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from support.package import hide_repository_root, use_checkout

if TYPE_CHECKING:
    from support.checkpoints import Family

pytest_plugins = ["support.sharing"]

# Before torch is loaded, and inherited by the servers: threads that wait without spinning. Where
# tests share the processor with anything else, spinning makes them many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# At once, because test modules import the package while they are collected.
hide_repository_root()
use_checkout()


@pytest.fixture(scope="session")
def comfyui() -> Path:
    """The folder of a real ComfyUI. Where none can be had tests skip, or fail if CI=true."""
    from support.comfyui import ComfyUIUnavailableError, find_comfyui

    try:
        return find_comfyui()
    except ComfyUIUnavailableError as error:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def host_modules(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """ComfyUI's modules in this process, on the CPU: `import comfy.sd` works from here on."""
    from support.inprocess import use_comfyui

    return use_comfyui(comfyui, tmp_path_factory.mktemp("comfyui-inprocess"))


@pytest.fixture(scope="session")
def sd1_checkpoint() -> Path:
    """A checkpoint of Stable Diffusion 1 with random weights, fp16."""
    from support import checkpoints

    return checkpoints.cached(checkpoints.SD1)


@pytest.fixture(scope="session")
def sd2_v_checkpoint() -> Path:
    """A checkpoint of Stable Diffusion 2 (v prediction) with random weights, fp16."""
    from support import checkpoints

    return checkpoints.cached(checkpoints.SD2_V)


@pytest.fixture(scope="session")
def sdxl_checkpoint() -> Path:
    """A checkpoint of Stable Diffusion XL with random weights, fp16."""
    from support import checkpoints

    return checkpoints.cached(checkpoints.SDXL)


@pytest.fixture(scope="session")
def diffusers_folder(
    comfyui: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Family], Path]:
    """`diffusers_folder(SD1)`: the configuration with which diffusers reads that checkpoint."""
    from support.diffusers_folder import write_folder

    base = tmp_path_factory.mktemp("diffusers")
    folders: dict[str, Path] = {}

    def make(family: Family) -> Path:
        if family.name not in folders:
            tokenizer = comfyui / "comfy" / "sd1_tokenizer"
            folders[family.name] = write_folder(family, base / family.name, tokenizer)
        return folders[family.name]

    return make
