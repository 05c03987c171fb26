"""The newest frontend of ComfyUI, beside the one that the tested ComfyUI asks for."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

PACKAGE = "comfyui-frontend-package"


def newest_frontend(folder: Path) -> Path:
    """Get it from PyPI into a folder; returns what the server takes as `--front-end-root`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", PACKAGE]
    subprocess.run([*command, "--dest", str(folder)], check=True, timeout=600)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder / "comfyui_frontend_package" / "static"
