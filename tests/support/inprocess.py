"""Makes ComfyUI's modules importable in this process."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

from .package import hide_repository_root
from .server import make_base_directory


def use_comfyui(comfyui: Path, base: Path, *, cpu: bool = True) -> ModuleType:
    """Put ComfyUI first on the import path, on the CPU if asked, in a folder of its own.

    ComfyUI reads its settings when its modules are imported, so this must come before any of
    them. Returns the module `comfy`.
    """
    if "comfy.model_management" in sys.modules:
        raise RuntimeError("ComfyUI was imported before it could be set up.")
    # First, and the repository not at all: both have a folder `nodes`.
    hide_repository_root()
    sys.path.insert(0, str(comfyui))
    make_base_directory(base, pack=None)

    comfy = importlib.import_module("comfy")
    args = importlib.import_module("comfy.cli_args").args
    args.cpu = cpu
    args.base_directory = str(base)
    args.disable_api_nodes = True
    args.database_url = "sqlite:///:memory:"

    for name in ("comfy.model_management", "folder_paths", "nodes"):
        module = importlib.import_module(name)
        if not Path(str(module.__file__)).resolve().is_relative_to(comfyui.resolve()):
            raise RuntimeError(f"{name} came from {module.__file__}, not from ComfyUI.")
    if cpu and sys.modules["comfy.model_management"].get_torch_device().type != "cpu":
        raise RuntimeError("ComfyUI did not take the CPU.")
    return comfy
