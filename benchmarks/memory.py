"""Peak memory: of the GPU if there is one, else of this process."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

import torch


class Peak:
    """The most memory used since it was made, in bytes."""

    def __init__(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            # What was freed goes back to the system first, or it would hide what comes.
            gc.collect()
            ctypes.CDLL("libc.so.6").malloc_trim(0)
            # "5" makes Linux forget the process's peak so far.
            Path("/proc/self/clear_refs").write_text("5")
            self._before = _status("VmRSS")

    def above(self) -> int:
        """Above what was there when it was made."""
        return self.total() - self._before

    def total(self) -> int:
        """All of it, the model too."""
        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated()
        return _status("VmHWM")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))
