"""The value that training produces and that everything else passes around."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..errors import InputError
from .encoders import family_of

TRIGGER = "modelspec.trigger_phrase"
"""The note of a file that says how prompts call its word (modelspec 1.0.1)."""

_TITLE, _CALLED = "modelspec.title", "name"
"""Further notes in which a word's name can stand: of modelspec, and of A1111 and ai-toolkit."""

_UNUSABLE_IN_NAME = re.compile(r"[\s<>\[\]():,/\\|?*\"']|^\.|\.\.|^$")


Rows = Mapping[str, Tensor]
"""The vectors of a word: encoder key -> [vectors, width of the encoder]."""


def row_count(vectors: Rows) -> int:
    """How many vectors each encoder has; where some have fewer than others, the most.

    Args:
        vectors: encoder key -> [vectors, width], or [prompts, vectors, width].
    """
    return max(rows.shape[-2] for rows in vectors.values())


@dataclass(frozen=True)
class Embedding:
    """A learned word: some vectors for each text encoder that is to read it.

    Attributes:
        name: the word, as in `embedding:name`.
        vectors: encoder key (`clip_l`, `clip_g`, `clip_h`, `t5xxl`, ...) -> float32
            tensor on the CPU of shape [vectors, width of the encoder].
        metadata: free text about how it was made; safetensors keeps it.

    Raises:
        InputError: no vectors, a wrong shape, or a value that is not finite.
    """

    name: str
    vectors: Rows
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.vectors:
            raise InputError(f"The embedding “{self.name}” holds no vectors.")
        for key, rows in self.vectors.items():
            if rows.ndim != 2 or not rows.numel():
                raise InputError(
                    f"The embedding “{self.name}” has a tensor of shape {list(rows.shape)} for "
                    f"{key}, where [vectors, width] is needed."
                )
            if not torch.isfinite(rows).all():
                raise InputError(
                    f"The embedding “{self.name}” holds values that are not numbers (NaN or "
                    f"infinity) for {key}: the file is damaged or its training went wrong."
                )
        plain = {k: v.detach().to("cpu", torch.float32).clone() for k, v in self.vectors.items()}
        object.__setattr__(self, "vectors", plain)

    @property
    def num_vectors(self) -> int:
        """How many tokens the word takes up in a prompt."""
        return row_count(self.vectors)

    @property
    def widths(self) -> dict[str, int]:
        """Encoder key -> width of its vectors."""
        return {key: rows.shape[1] for key, rows in self.vectors.items()}

    @property
    def family(self) -> str:
        """The model family that reads this embedding, in words."""
        return family_of(self.widths)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over name and vectors: equal exactly when prompts encode equally."""
        digest = hashlib.sha256(self.name.encode())
        for key in sorted(self.vectors):
            digest.update(key.encode() + str(tuple(self.vectors[key].shape)).encode())
            digest.update(self.vectors[key].numpy().tobytes())
        return digest.hexdigest()

    def renamed(self, name: str) -> Embedding:
        """The same vectors under another name, by which prompts then call them.

        Its notes say so too; a title of its own, which is not the old name, stays.
        """
        noted = {TRIGGER: name}
        called = self.metadata.get(_CALLED)
        if called is not None:  # ai-toolkit writes it as JSON
            noted[_CALLED] = json.dumps(name) if called.startswith('"') else name
        if _TITLE in self.metadata and self.metadata[_TITLE] in (self.name, called):
            noted[_TITLE] = name
        return replace(self, name=name, metadata={**self.metadata, **noted})

    def with_vectors(self, vectors: Rows) -> Embedding:
        """Other vectors under the same name and notes."""
        return replace(self, vectors=vectors)

    def rows_for(self, widths: Mapping[str, int]) -> dict[str, Tensor]:
        """The vectors that a model with these encoders reads.

        A tensor goes to the encoder of its own key, otherwise to the only encoder of
        its width: files in the wild label tensors in many ways.

        Args:
            widths: encoder key -> width, as the model has them.

        Returns:
            encoder key of the model -> tensor [vectors, width]; encoders for which the
            embedding has nothing are left out.

        Raises:
            InputError: no vector fits, naming both widths and the family of the file.
        """
        rows: dict[str, Tensor] = {}
        for key, tensor in self.vectors.items():
            width = tensor.shape[1]
            fitting = [k for k in widths if widths[k] == width]
            if key in fitting:
                rows[key] = tensor
            elif len(fitting) == 1:
                rows.setdefault(fitting[0], tensor)
        if not rows:
            raise InputError(
                f"The embedding “{self.name}” does not fit this model: its vectors are "
                f"{_numbers(self.widths.values())} wide (it is for {self.family}), the model's "
                f"text encoder reads {_numbers(widths.values())}. Use an embedding made for this "
                "model, or load the model it was made for."
            )
        return rows


def check_name(name: str) -> str:
    """Return the name, stripped, if prompts can carry it; for new words see `names.new_name`.

    Raises:
        InputError: it has a path, white space or a character at which ComfyUI or A1111
            end a word.
    """
    name = name.strip()
    if _UNUSABLE_IN_NAME.search(name) or not name.isprintable():
        raise InputError(
            f"“{name}” cannot be the name of an embedding: use letters, digits, “-” and “_”, "
            "without white space, commas, brackets, quotes or a path, for example “my-word”."
        )
    return name


def _numbers(values: Iterable[int]) -> str:
    return " and ".join(str(v) for v in sorted(set(values)))
