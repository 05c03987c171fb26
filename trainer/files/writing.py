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
from safetensors.torch import save

from ..embeddings.embedding import Embedding
from ..embeddings.encoders import KEY_OF_WIDTH
from ..errors import InputError
from .layouts import by_encoder
from .picture_files import open_picture, write_picture
from .reading import MAX_HEADER, read_embedding
from .refused import Refused
from .thumbnails import thumbnail_in
from .whole_files import write_whole


@dataclass(frozen=True)
class Format:
    """A format in which embeddings are written.

    Attributes:
        suffix: of the file, with its dot; the writer chooses the format by it.
        help: who reads it, in a few words.
        encode: embedding -> the bytes of a file; raises `Refused`.
    """

    suffix: str
    help: str
    encode: Callable[[Embedding], bytes]


def _encode_safetensors(embedding: Embedding) -> bytes:
    # AUTOMATIC1111 wants one tensor of this name; the width tells the encoder again.
    return _named_tensors(embedding, "emb_params", {})


def _encode_onetrainer(embedding: Embedding) -> bytes:
    return _named_tensors(embedding, "emp_params", {"t5xxl": "t5"})


def _named_tensors(embedding: Embedding, only: str, names: Mapping[str, str]) -> bytes:
    """A safetensors file; `only` is the name of the one tensor of SD1 and SD2."""
    tensors = {names.get(k, k): rows.contiguous() for k, rows in embedding.vectors.items()}
    if len(tensors) == 1:
        key, rows = next(iter(tensors.items()))
        if key in ("clip_l", "clip_h") and KEY_OF_WIDTH.get(rows.shape[1]) == key:
            tensors = {only: rows}
    content = save(tensors, dict(embedding.metadata))
    if int.from_bytes(content[:8], "little") > MAX_HEADER:
        raise Refused("has more than 2 MB of notes: use a smaller thumbnail.")
    return content


def _only_rows(embedding: Embedding, reader: str) -> torch.Tensor:
    if len(embedding.vectors) > 1:
        keys = " and ".join(embedding.vectors)
        raise Refused(
            f"has vectors for {keys}, but {reader} reads one encoder's: save it as .safetensors."
        )
    return next(iter(embedding.vectors.values())).contiguous()


def _a1111_dictionary(embedding: Embedding) -> dict[str, object]:
    rows = _only_rows(embedding, "AUTOMATIC1111")
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


def _encode_a1111(embedding: Embedding) -> bytes:
    return _encode_torch(_a1111_dictionary(embedding))


def _encode_diffusers(embedding: Embedding) -> bytes:
    rows = _only_rows(embedding, "diffusers")
    return _encode_torch({f"<{embedding.name}>": rows})


def _encode_picture(embedding: Embedding) -> bytes:
    return write_picture(_a1111_dictionary(embedding), _cover(embedding))


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
    "diffusers": Format(".bin", "diffusers, one text encoder", _encode_diffusers),
    "a1111-picture": Format(
        ".png", "a picture to share that AUTOMATIC1111 reads, one text encoder", _encode_picture
    ),
}
"""Id of a format -> how it is written; the first is the one to prefer."""

ONETRAINER = Format(
    ".safetensors",
    "OneTrainer, and diffusers' scripts for Flux; ComfyUI does not find T5's vectors in it",
    _encode_onetrainer,
)
"""Beside `FORMATS`: only for who goes on training there, as others read less of it."""


def write_embedding(
    embedding: Embedding, path: Path, *, overwrite: bool = False, format: Format | None = None
) -> None:
    """Write an embedding, in full or not at all.

    Args:
        embedding: what to write.
        path: where. The folder must exist.
        overwrite: replace a file with other vectors. A file with the same ones is left alone,
            unless a format is given.
        format: how; else the suffix chooses it, see `FORMATS`.

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
    if path.exists() and not overwrite:
        if format is None and same_vectors(path, embedding):
            return
        raise InputError(
            f"“{path.name}” exists already: choose another name, or allow to overwrite it."
        )
    try:
        by_encoder([(key, rows) for key, rows in embedding.vectors.items()])
        content = chosen.encode(embedding)
    except Refused as reason:
        raise InputError(f"The embedding “{embedding.name}” {reason}") from None
    write_whole(path, content)


def same_vectors(path: Path, embedding: Embedding) -> bool:
    """Whether a file holds the same word, whatever its format."""
    try:
        return read_embedding(path, embedding.name).fingerprint == embedding.fingerprint
    except InputError:
        return False
