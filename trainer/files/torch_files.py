"""The two containers of `torch.save`: where in a file its pickle is, and where its numbers are."""

from __future__ import annotations

import pickletools
import struct
import zipfile
from collections import deque
from io import BytesIO

import torch
from torch import Tensor

from .refused import DAMAGED, Refused
from .unpickling import MAX_PROGRAM, run_program

_MAX_ZIP_ENTRIES = 1000
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def read_torch_file(content: bytes) -> object:
    """The dictionary, list or tensor that `torch.save` wrote.

    Args:
        content: a whole file in the zip format of PyTorch 1.6 and newer, or in the older one.

    Returns:
        dictionaries, lists, tuples, text, numbers and CPU tensors; a tensor may share the
        memory of `content`. `OrderedDict` and `ParameterDict` come back as dictionaries.

    Raises:
        Refused: the file holds more than data.
        Exception: of any type, where the file is damaged.
    """
    return _read_zip(content) if content.startswith(b"PK") else _read_legacy(content)


def _read_zip(content: bytes) -> object:
    # Entries of the directory cost far more memory than file, so they are counted first.
    if content.count(b"PK\x01\x02") > _MAX_ZIP_ENTRIES:
        raise Refused("has too many parts for an embedding: it is a model or an archive.")
    with zipfile.ZipFile(BytesIO(content)) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise Refused("is compressed, which PyTorch never does: unpack it if it is an archive.")
        programs = [n for n in archive.namelist() if n.rpartition("/")[2] == "data.pkl"]
        if len(programs) != 1:
            raise Refused("is an archive, not an embedding: unpack it and use the file inside.")
        root = programs[0].removesuffix("data.pkl")
        known: dict[str, Tensor] = {}

        def storage(key: str, dtype: torch.dtype) -> Tensor:
            if key not in known:
                known[key] = _elements(archive.read(f"{root}data/{key}"), dtype)
                if sum(s.nbytes for s in known.values()) > len(content):
                    raise Refused(DAMAGED)
            return known[key]

        return run_program(archive.read(programs[0]), storage)


def _read_legacy(content: bytes) -> object:
    """Five pickles (magic, version, platform, object, storage keys), then the storages."""
    if run_program(_first_program(content), _absent) != _LEGACY_MAGIC:
        raise Refused("is not a PyTorch file, whatever its name says: choose another file.")
    start, programs = 0, []
    for _ in range(5):
        programs.append(_first_program(content[start : start + MAX_PROGRAM]))
        start += len(programs[-1])
    program, keys = programs[3], run_program(programs[4], _absent)
    types: dict[str, torch.dtype] = {}

    def note_type(key: str, dtype: torch.dtype) -> None:
        types[key] = dtype

    run_program(program, note_type)
    known: dict[str, Tensor] = {}
    if not isinstance(keys, list):
        raise Refused(DAMAGED)
    for key in keys:
        (count,) = struct.unpack_from("<q", content, start)
        end = start + 8 + count * types[key].itemsize
        if count < 0 or end > len(content):
            raise Refused(DAMAGED)
        known[key] = _elements(content[start + 8 : end], types[key])
        start = end
    return run_program(program, lambda key, _: known[key])


def _absent(key: str, dtype: torch.dtype) -> None:
    return None


def _first_program(content: bytes) -> bytes:
    """The first pickle in `content`; an error where it has no end."""
    ((_, _, stop),) = deque(pickletools.genops(content[:MAX_PROGRAM]), maxlen=1)
    return content[: (stop or 0) + 1]


def _elements(raw: bytes, dtype: torch.dtype) -> Tensor:
    # bytearray: torch wants memory that may be written, even if nobody does.
    return (
        torch.frombuffer(bytearray(raw), dtype=dtype) if len(raw) else torch.empty(0, dtype=dtype)
    )
