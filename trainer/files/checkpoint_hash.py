"""The hash of a checkpoint: noted beside the file by another tool, or worked out."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

from ..embeddings.embedding import Embedding

SHORT = 10
"""Signs of a SHA-256 by which AUTOMATIC1111 calls a checkpoint."""

_MOST = 4 * 1024 * 1024
_PART = 1024 * 1024
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


def known_hash(checkpoint: Path) -> str:
    """The hash that AUTOMATIC1111 shows for a checkpoint; empty where nobody has noted it.

    Gigabytes are not read for it: it is taken from what tools that keep models in order write
    beside them, such as `NAME.sha256`, `NAME.metadata.json` (LoRA-Manager) and
    `NAME.civitai.info` (Civitai Helper).
    """
    for found in _noted(checkpoint):
        if isinstance(found, str) and _SHA256.fullmatch(found.strip()):
            return found.strip().lower()[:SHORT]
    return ""


class CheckpointHash:
    """The hash of a checkpoint: noted beside it, or worked out while a word is learned.

    For the latter, gigabytes are read, some seconds long, in a thread of its own.

    Args:
        checkpoint: a file; of anything else no hash is known.
    """

    NOTE = "sd_checkpoint"
    PATIENCE = 5.0
    """Seconds that a word waits for it: one that is interrupted has to be written soon."""

    def __init__(self, checkpoint: Path) -> None:
        self._checkpoint, self._found = checkpoint, ""
        self._thread = Thread(target=self._work_out, daemon=True)
        self._thread.start()

    def noted_in(self, word: Embedding) -> Embedding:
        """The word with the hash in its notes, if they have none and it is known."""
        if self.NOTE in word.metadata:
            return word
        self._thread.join(self.PATIENCE)
        if not self._found:
            return word
        return replace(word, metadata={**word.metadata, self.NOTE: self._found})

    def _work_out(self) -> None:
        # A word without this note is no worse.
        with contextlib.suppress(OSError):
            if self._checkpoint.is_file():
                self._found = known_hash(self._checkpoint) or _short_hash(self._checkpoint)


def _short_hash(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while part := opened.read(_PART):
            digest.update(part)
    return digest.hexdigest()[:SHORT]


def _noted(checkpoint: Path) -> Iterator[Any]:
    # These files are other tools', in any state: what cannot be read says nothing.
    for name in (f"{checkpoint.stem}.sha256", f"{checkpoint.name}.sha256"):
        yield _text(checkpoint.with_name(name)).partition(" ")[0]
    yield _json(checkpoint.with_name(f"{checkpoint.stem}.metadata.json")).get("sha256")
    files = _json(checkpoint.with_name(f"{checkpoint.stem}.civitai.info")).get("files")
    # With several, nothing says which of them this one is.
    if isinstance(files, list) and len(files) == 1:
        with contextlib.suppress(KeyError, TypeError):
            yield files[0]["hashes"]["SHA256"]


def _json(path: Path) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        content = json.loads(_text(path))
        return content if isinstance(content, dict) else {}
    return {}


def _text(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        if path.is_file() and path.stat().st_size <= _MOST:
            return path.read_text(encoding="utf-8")
    return ""
