"""The container `.safetensors`: its header, and files whose bytes depend on their content alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from .refused import DAMAGED, Refused

MAX_HEADER = 2 * 1024 * 1024
"""Bytes of a file's header, in which its metadata is."""

HASH = "modelspec.hash_sha256"
"""The note of a file that holds the hash of all that follows its header (modelspec 1.0.1)."""

_LORA_OR_MODEL = "has too many parts for an embedding: it is a LoRA or a model."
_MAX_TENSORS = 10_000


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file of any size, which are windows into it, and its metadata, sorted.

    Raises:
        Refused: it is damaged, or has too many parts for an embedding.
        Exception: of any type, where the file is damaged.
    """
    with path.open("rb") as start:
        header_size = int.from_bytes(start.read(8), "little")
    if header_size > path.stat().st_size:
        raise Refused(DAMAGED)
    if header_size > MAX_HEADER:
        raise Refused(_LORA_OR_MODEL)
    with safe_open(path, framework="pt", device="cpu") as file:
        keys = file.keys()
        if len(keys) > _MAX_TENSORS:
            raise Refused(_LORA_OR_MODEL)
        # The library hands metadata out in an order of chance.
        metadata = dict(sorted((file.metadata() or {}).items()))
        return {key: file.get_tensor(key) for key in keys}, metadata


def encode_safetensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A whole file. The same content gives the same bytes, in any process and on any machine.

    The library writes metadata in an order of chance, and the hashes by which other tools know a
    file change with it. So only its tensors are taken, and a sorted header is put before them.

    Args:
        tensors: contiguous.
        metadata: `HASH` is added, whatever was there.

    Raises:
        Refused: there is more metadata than readers take.
    """
    plain = save(dict(tensors))
    size = int.from_bytes(plain[:8], "little")
    data = plain[8 + size :]
    notes = {**metadata, HASH: f"0x{hashlib.sha256(data).hexdigest()}"}
    return encode_header({**json.loads(plain[8 : 8 + size]), "__metadata__": notes}) + data


def encode_header(header: Mapping[str, Any]) -> bytes:
    """The first bytes of a file, padded so that tensors begin at a multiple of eight.

    Raises:
        Refused: it is longer than readers take.
    """
    text = json.dumps(header, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    content = text.encode("utf-8", "replace")
    content += b" " * (-len(content) % 8)
    if len(content) > MAX_HEADER:
        raise Refused("has more than 2 MB of notes: use a smaller thumbnail.")
    return len(content).to_bytes(8, "little") + content
