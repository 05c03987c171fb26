"""The bytes of an embedding file, in each format that is written."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..embeddings.embedding import Embedding
from ..embeddings.encoders import KEY_OF_WIDTH
from ..errors import InputError
from .layouts import by_encoder
from .picture_files import open_picture, write_picture
from .reading import is_joined, other_half_of, read_embedding
from .refused import Refused
from .safetensors_files import encode_safetensors
from .thumbnails import thumbnail_in
from .whole_files import write_all_whole

Parts = Mapping[str, bytes]
"""What is added to the name of a file -> its bytes; "" for formats of one file."""


@dataclass(frozen=True)
class Format:
    """A format in which embeddings are written.

    Attributes:
        suffix: of the file, with its dot; the writer chooses the format by it.
        help: who reads it, in a few words.
        encode: embedding and the type of its numbers -> the bytes of each file; raises `Refused`.
    """

    suffix: str
    help: str
    encode: Callable[[Embedding, torch.dtype], Parts]


def _encode_safetensors(embedding: Embedding, dtype: torch.dtype) -> Parts:
    # AUTOMATIC1111 wants one tensor of this name; the width tells the encoder again.
    return {"": _named_tensors(embedding, dtype, "emb_params", {})}


def _encode_onetrainer(embedding: Embedding, dtype: torch.dtype) -> Parts:
    return {"": _named_tensors(embedding, dtype, "emp_params", {"t5xxl": "t5"})}


def _named_tensors(
    embedding: Embedding, dtype: torch.dtype, only: str, names: Mapping[str, str]
) -> bytes:
    """A safetensors file; `only` is the name of the one tensor of SD1 and SD2."""
    vectors = embedding.vectors
    tensors = {names.get(key, key): numbers(rows, dtype) for key, rows in vectors.items()}
    if len(tensors) == 1:
        key, rows = next(iter(tensors.items()))
        if key in ("clip_l", "clip_h") and KEY_OF_WIDTH.get(rows.shape[1]) == key:
            tensors = {only: rows}
    return encode_safetensors(tensors, embedding.metadata)


def numbers(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Vectors in the type of number of a file, contiguous.

    Raises:
        Refused: one of them is too large for it.
    """
    converted = rows.to(dtype).contiguous()
    if not torch.isfinite(converted).all():
        raise Refused(f"has values too large for {str(dtype).removeprefix('torch.')}.")
    return converted


def _only_rows(embedding: Embedding, dtype: torch.dtype, reader: str) -> Tensor:
    if len(embedding.vectors) > 1:
        keys = " and ".join(embedding.vectors)
        raise Refused(
            f"has vectors for {keys}, but {reader} reads one encoder's: save it as .safetensors."
        )
    return numbers(next(iter(embedding.vectors.values())), dtype)


def _a1111_dictionary(embedding: Embedding, dtype: torch.dtype) -> dict[str, object]:
    rows = _only_rows(embedding, dtype, "AUTOMATIC1111")
    notes = embedding.metadata
    step = notes.get("step", notes.get("textual_inversion.steps", ""))
    return {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": rows},
        "name": embedding.name,
        "step": int(step) if re.fullmatch("[0-9]{1,12}", step) else None,
        "sd_checkpoint": notes.get("sd_checkpoint"),
        "sd_checkpoint_name": notes.get("sd_checkpoint_name"),
    }


def _encode_torch(data: Mapping[str, object]) -> bytes:
    file = BytesIO()
    torch.save(data, file)
    return file.getvalue()


def _encode_a1111(embedding: Embedding, dtype: torch.dtype) -> Parts:
    return {"": _encode_torch(_a1111_dictionary(embedding, dtype))}


def _encode_picture(embedding: Embedding, dtype: torch.dtype) -> Parts:
    return {"": write_picture(_a1111_dictionary(embedding, dtype), _cover(embedding))}


def _diffusers_parts(embedding: Embedding, dtype: torch.dtype) -> dict[str, dict[str, Tensor]]:
    """What each file of diffusers holds: of SDXL, `NAME` the first encoder's and `NAME_2`."""
    keys = set(embedding.vectors)
    parts = {"": "clip_l", "_2": "clip_g"} if keys == {"clip_l", "clip_g"} else {}
    found = {ending: numbers(embedding.vectors[key], dtype) for ending, key in parts.items()} or {
        "": _only_rows(embedding, dtype, "diffusers")
    }
    # A single vector without a second dimension, as its first files had it: some read only that.
    return {
        ending: {_token(embedding): rows[0].clone() if len(rows) == 1 else rows}
        for ending, rows in found.items()
    }


def _token(embedding: Embedding) -> str:
    return f"<{embedding.name}>"


def _encode_diffusers(embedding: Embedding, dtype: torch.dtype) -> Parts:
    parts = _diffusers_parts(embedding, dtype)
    return {ending: _encode_torch(tensors) for ending, tensors in parts.items()}


def _encode_diffusers_safetensors(embedding: Embedding, dtype: torch.dtype) -> Parts:
    parts = _diffusers_parts(embedding, dtype)
    notes = embedding.metadata
    return {ending: encode_safetensors(tensors, notes) for ending, tensors in parts.items()}


def _cover(embedding: Embedding) -> Image.Image:
    """The thumbnail in the metadata, or plain grey."""
    content = thumbnail_in(embedding.metadata)
    if content is not None:
        # A thumbnail that cannot be read is no reason to keep a word from being saved.
        with contextlib.suppress(Exception):
            return open_picture(content).convert("RGB")
    return Image.new("RGB", (512, 512), (127, 127, 127))


FORMATS: Mapping[str, Format] = {
    "safetensors": Format(
        ".safetensors",
        "ComfyUI, AUTOMATIC1111 and most others; keeps the notes",
        _encode_safetensors,
    ),
    "a1111": Format(".pt", "AUTOMATIC1111's own, one text encoder", _encode_a1111),
    "diffusers": Format(
        ".bin",
        "diffusers, one text encoder; of an SDXL word two files, NAME and NAME_2",
        _encode_diffusers,
    ),
    "a1111-picture": Format(
        ".png", "a picture to share that AUTOMATIC1111 reads, one text encoder", _encode_picture
    ),
}
"""Id of a format -> how it is written; the first is the one to prefer."""

ONETRAINER = Format(
    ".safetensors",
    "OneTrainer, and diffusers' scripts for Flux; ComfyUI does not find T5's vectors in it, and "
    "InvokeAI refuses it for SD1 and SD2",
    _encode_onetrainer,
)
"""Beside `FORMATS`: only for who goes on training there, as others read less of it."""

DIFFUSERS_SAFETENSORS = Format(
    ".safetensors",
    "diffusers, as its scripts name them now; of an SDXL word two files, NAME and NAME_2",
    _encode_diffusers_safetensors,
)
"""Beside `FORMATS`: A1111 and ComfyUI read only the first of an SDXL word's files."""

DTYPES: Mapping[str, torch.dtype] = {"float32": torch.float32, "float16": torch.float16}
"""The types of number in which files are written; all readers know both."""


def write_embedding(
    embedding: Embedding,
    path: Path,
    *,
    overwrite: bool = False,
    format: Format | None = None,
    dtype: torch.dtype = torch.float32,
) -> list[Path]:
    """Write an embedding, in full or not at all.

    Args:
        embedding: what to write.
        path: where. The folder must exist.
        overwrite: replace a file with other vectors. A file with the same ones is left alone,
            unless a format is given.
        format: how; else the suffix chooses it, see `FORMATS`.
        dtype: of the numbers, one of `DTYPES`.

    Returns:
        where it lies now: one file, or those of a format that takes several.

    Raises:
        InputError: the file exists, the format cannot hold the embedding, or the disk
            refuses; the folder is as it was.
    """
    known = [format] if format else [*FORMATS.values()]
    formats = {each.suffix: each for each in known}
    chosen = formats.get(path.suffix.lower())
    if chosen is None:
        raise InputError(
            f"“{path.name}” needs a suffix that names its format: {', '.join(formats)}."
        )
    parts = encode_embedding(embedding, chosen, dtype)
    files = {path.with_stem(f"{path.stem}{ending}"): part for ending, part in parts.items()}
    # What an SDXL word of this name has left would be read as the other half of this one.
    in_halves = chosen in (FORMATS["diffusers"], DIFFUSERS_SAFETENSORS) and len(parts) == 1
    joined = in_halves and is_joined(path, _token(embedding), embedding)
    left = [other_half_of(path)] if joined else []
    try:
        present = [file for file in (*files, *left) if file.exists()]
    except OSError as error:
        raise InputError(
            f"“{path.name}” cannot be written ({error.strerror}): choose another name or folder."
        ) from error
    if present and not overwrite:
        if format is None and len(present) == len(files) and same_vectors(path, embedding):
            return present
        raise InputError(
            f"“{present[0].name}” already exists: choose another name, or allow to overwrite it."
        )
    write_all_whole(files, instead_of=left)
    return [*files]


def encode_embedding(
    embedding: Embedding, format: Format, dtype: torch.dtype = torch.float32
) -> Parts:
    """The bytes of the files that `write_embedding` writes.

    Raises:
        InputError: the format cannot hold the embedding.
    """
    try:
        by_encoder([(key, rows) for key, rows in embedding.vectors.items()])
        return format.encode(embedding, dtype)
    except Refused as reason:
        raise InputError(f"The embedding “{embedding.name}” {reason}") from None


def same_vectors(path: Path, embedding: Embedding) -> bool:
    """Whether a file holds the same word, whatever its format."""
    try:
        return read_embedding(path, embedding.name).fingerprint == embedding.fingerprint
    except InputError:
        return False
