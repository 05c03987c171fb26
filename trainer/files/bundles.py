"""Words inside a LoRA file, as OneTrainer puts them there: `bundle_emb.WORD.ENCODER`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from ..embeddings.embedding import Embedding
from ..errors import InputError
from .layouts import BUNDLE, is_lora
from .refused import DAMAGED, Refused
from .safetensors_files import HASH, MAX_HEADER, encode_header
from .whole_files import write_whole
from .writing import numbers

_ONETRAINER: Mapping[str, str] = {"t5xxl": "t5"}
_CHUNK = 4 * 1024 * 1024


def bundle(
    lora: Path,
    words: Sequence[Embedding],
    target: Path,
    *,
    overwrite: bool = False,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a copy of a LoRA file with words in it, in full or not at all.

    Args:
        lora: a .safetensors file of any size; its tensors are copied as they are.
        words: what to add, each under its own name.
        target: where to.
        overwrite: replace a file; also the LoRA itself.
        dtype: of the words' numbers.

    Raises:
        InputError: it is no LoRA, has a word of such a name, or the file cannot be written.
    """
    if target.suffix.lower() != ".safetensors":
        raise InputError(f"“{target.name}” does not end in .safetensors: only these carry words.")
    if target.exists() and not overwrite:
        raise InputError(
            f"“{target.name}” already exists: choose another name, or allow to overwrite it."
        )
    try:
        header, start = _header(lora)
        tensors = {
            f"{BUNDLE}{word.name}.{_ONETRAINER.get(key, key)}": numbers(rows, dtype)
            for word in words
            for key, rows in word.vectors.items()
        }
        _refuse_doubles(header, words)
        content = _joined(lora, header, start, tensors)
        write_whole(target, content)
    except Refused as reason:
        raise InputError(f"“{lora.name}” {reason}") from None
    except OSError as error:
        raise InputError(f"“{lora.name}” cannot be read: {error.strerror}.") from error


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """What a LoRA file says of its tensors, and where these begin."""
    if not path.exists():
        raise Refused("does not exist: choose another file.")
    if path.suffix.lower() != ".safetensors" or not path.is_file():
        raise Refused("is not a .safetensors file: words can only be bundled into one.")
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= min(MAX_HEADER, path.stat().st_size):
            raise Refused(DAMAGED)
        try:
            header = json.loads(file.read(size))
            ends = [entry["data_offsets"][1] for key, entry in header.items() if key != _METADATA]
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
            raise Refused(DAMAGED) from None
    if not is_lora(header):
        raise Refused("is not a LoRA: words can only be bundled into one.")
    if max(ends) + 8 + size != path.stat().st_size:
        raise Refused(DAMAGED)
    return header, 8 + size


_METADATA = "__metadata__"


def _refuse_doubles(header: Mapping[str, Any], words: Sequence[Embedding]) -> None:
    names = [word.name for word in words]
    for name in names:
        held = any(key.startswith(f"{BUNDLE}{name}.") for key in header)
        if held or names.count(name) > 1:
            raise Refused(f"would hold two words “{name}”: give one of them another name.")


def _joined(
    lora: Path, header: Mapping[str, Any], start: int, tensors: Mapping[str, Tensor]
) -> Iterator[bytes]:
    """A file in parts. The words come first, so that nothing of the LoRA stands askew."""
    added = save(dict(tensors))
    size = int.from_bytes(added[:8], "little")
    words, data = json.loads(added[8 : 8 + size]), added[8 + size :]
    moved = {
        key: {**entry, "data_offsets": [place + len(data) for place in entry["data_offsets"]]}
        for key, entry in header.items()
        if key != _METADATA
    }
    digest = hashlib.sha256(data)
    for part in _data(lora, start):
        digest.update(part)
    notes = {**header.get(_METADATA, {}), HASH: f"0x{digest.hexdigest()}"}
    first = encode_header({**moved, **words, _METADATA: notes}) + data

    def parts() -> Iterator[bytes]:
        yield first
        yield from _data(lora, start)

    return parts()


def _data(path: Path, start: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while part := file.read(_CHUNK):
            yield part
