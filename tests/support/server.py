"""Runs the server of a real ComfyUI as a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .paths import ROOT

PACK = "comfyui-textual-inversion"
FOLDERS = (
    "custom_nodes",
    "input",
    "output",
    "temp",
    "user",
    *(f"models/{name}" for name in ("checkpoints", "embeddings", "loras", "vae", "vae_approx")),
)


class ServerError(Exception):
    """The server did not start, or died."""


@dataclass(frozen=True)
class Memory:
    """Bytes of a process in memory: now, and at most since its start or `reset_peak`."""

    now: int
    peak: int


def make_base_directory(base: Path, pack: Path | None = ROOT) -> None:
    """Lay out what `--base-directory` names, with the pack linked into it."""
    for name in FOLDERS:
        (base / name).mkdir(parents=True, exist_ok=True)
    if pack is not None:
        link = base / "custom_nodes" / PACK
        if not link.is_symlink():
            link.symlink_to(pack, target_is_directory=True)


class Server:
    """A running server; `base` is its folder, `url` its address, `log_file` what it printed."""

    def __init__(
        self, comfyui: Path, base: Path, arguments: Sequence[str] = (), *, cpu: bool = True
    ) -> None:
        self.comfyui = comfyui
        self.base = base
        self.arguments = ("--cpu", *arguments) if cpu else tuple(arguments)
        self.log_file = base / "server.log"
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, timeout: float = 300.0) -> None:
        """Start and wait until it answers."""
        # A free port can be taken by another process before the server binds it.
        for attempt in range(3):
            try:
                return self._start_once(timeout)
            except ServerError:
                if attempt == 2 or "address already in use" not in self.log().lower():
                    raise
        return None

    def _start_once(self, timeout: float) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [
            *(sys.executable, "main.py", "--base-directory", str(self.base)),
            *("--port", str(port), "--disable-api-nodes", "--preview-method", "none"),
            *("--database-url", "sqlite:///:memory:", *self.arguments),
        ]
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "PYTHONUNBUFFERED": "1",
            # ComfyUI looks hosts up, and waits five seconds for a name server that does not answer.
            "RES_OPTIONS": "timeout:1 attempts:1",
        }
        # A repository on the import path would shadow ComfyUI's own `nodes`.
        environment.pop("PYTHONPATH", None)
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=self.comfyui, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            self.check()
            with contextlib.suppress(OSError, urllib.error.URLError):
                urllib.request.urlopen(f"{self.url}/system_stats", timeout=5).close()
                return
            time.sleep(0.2)
        self.stop()
        raise ServerError(f"The server did not answer in {timeout:.0f} s.\n{self.log_tail()}")

    def stop(self) -> None:
        """End the process: SIGTERM, because a server in the background ignores SIGINT."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)

    def kill(self) -> None:
        """End the process without a word: SIGKILL."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(20)

    def check(self) -> None:
        """Raise where the process has ended."""
        if self._process is None:
            raise ServerError("The server is not running.")
        status = self._process.poll()
        if status is not None:
            raise ServerError(f"The server ended with status {status}.\n{self.log_tail()}")

    @property
    def pid(self) -> int:
        """The process id."""
        if self._process is None:
            raise ServerError("The server is not running.")
        return self._process.pid

    def memory(self) -> Memory:
        """The resident memory of the server process."""
        text = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii", errors="replace")
        sizes = {
            name: int(kilobytes) * 1024
            for name, kilobytes in re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", text, re.MULTILINE)
        }
        return Memory(now=sizes["VmRSS"], peak=sizes["VmHWM"])

    def reset_peak(self) -> None:
        """Let the peak start anew from what is resident now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5", encoding="ascii")

    def log(self) -> str:
        """Everything the server has printed, without colours."""
        text = self.log_file.read_text(encoding="utf-8", errors="replace")
        return re.sub(r"\x1b\[[0-9;]*m", "", text)

    def log_tail(self, lines: int = 60) -> str:
        """The last lines the server has printed."""
        return "\n".join(self.log().splitlines()[-lines:])

    def failed_imports(self) -> list[str]:
        """The custom nodes that the server could not import."""
        return re.findall(r"seconds \(IMPORT FAILED\): (.+)$", self.log(), re.MULTILINE)

    def imports(self) -> list[str]:
        """The custom nodes that the server imported."""
        return re.findall(r"\d seconds: (.+)$", self.log(), re.MULTILINE)
