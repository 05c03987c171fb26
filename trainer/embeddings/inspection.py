"""What can be told of an embedding: its size, its lengths, its neighbours and its notes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model import TextEncoder
from .embedding import Embedding
from .encoders import families_in_part
from .metadata import is_negative

NEAREST = 5
"""How many words of the vocabulary are named for each vector."""

MOST_ALIKE = 3
"""How many other vectors of the word are named for each."""

_LOOKED_AT = 8 * NEAREST
"""Of so many tokens, because not every token is a word."""

_LONGEST_NOTE = 300
_CHUNK = 16_384


@dataclass(frozen=True)
class Lengths:
    """How long the vectors of a vocabulary are: the mean, and where 5, 50 and 95 % lie below."""

    mean: float
    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Row:
    """One vector.

    Attributes:
        length: its norm.
        nearest: the nearest words of the vocabulary, and the cosine of the angle to each.
        likeness: the cosine of the angle to each vector of the word, itself among them.
    """

    length: float
    nearest: Sequence[tuple[str, float]]
    likeness: Sequence[float] = ()


@dataclass(frozen=True)
class EncoderReport:
    """What an embedding has for one text encoder; no `usual` where no vocabulary was given."""

    key: str
    width: int
    rows: Sequence[Row]
    usual: Lengths | None

    def __str__(self) -> str:
        count = f"{len(self.rows)} vector{'s' if len(self.rows) != 1 else ''}"
        lines = [f"{self.key}: {count}, {self.width} wide"]
        if self.usual:
            lines.append(
                f"  A word of the vocabulary is {self.usual.mean:.2f} long ({self.usual.low:.2f} "
                f"to {self.usual.high:.2f} for most)."
            )
        for number, row in enumerate(self.rows, 1):
            length = f"{row.length:.2f} long"
            if self.usual and self.usual.mean:
                length += f" (x {row.length / self.usual.mean:.1f})"
            nearest = ", ".join(f"{word} {cosine:.2f}" for word, cosine in row.nearest)
            others = _most_alike(number, row.likeness)
            lines.append(
                f"  {number}: {length}"
                + (f"; near {nearest}" if nearest else "")
                + (f"; like {others}" if others else "")
            )
        return "\n".join(lines)


def _most_alike(number: int, likeness: Sequence[float]) -> str:
    """The other vectors that point most nearly the same way, all of them if they are few."""
    others = [(value, other) for other, value in enumerate(likeness, 1) if other != number]
    best = sorted(others, key=lambda one: (-one[0], one[1]))[:MOST_ALIKE]
    return ", ".join(f"{other} {value:.2f}" for value, other in best)


@dataclass(frozen=True)
class Report:
    """What can be told of an embedding; as text, readable.

    Attributes:
        name: the word.
        family: the family of models it is made for.
        partly: families of which only some encoders are the same.
        negative: whether it is for negative prompts, as far as notes and name tell.
        encoders: one report for each text encoder.
        remarks: sentences about what is unusual.
        notes: the metadata in readable form.
    """

    name: str
    family: str
    partly: Sequence[str]
    negative: bool
    encoders: Sequence[EncoderReport]
    remarks: Sequence[str]
    notes: Mapping[str, str]

    def __str__(self) -> str:
        head = f"{self.name}: for {self.family}"
        if self.negative:
            head += ", for negative prompts"
        lines = [head]
        if self.partly:
            lines.append(
                f"Works in part with {', '.join(self.partly)}: not all text encoders match."
            )
        lines += [*self.remarks, *map(str, self.encoders)]
        if self.notes:
            lines += ["Notes:", *(f"  {key}: {value}" for key, value in self.notes.items())]
        return "\n".join(lines)


def inspect(embedding: Embedding, encoders: Sequence[TextEncoder] = ()) -> Report:
    """Look at an embedding from all sides.

    Args:
        embedding: the word.
        encoders: of the model it is to be compared with; without them neither nearest words nor
            usual lengths are known. Those that do not fit are only remarked upon.
    """
    reports = [
        _inspect_rows(key, rows, _fitting(key, rows.shape[1], encoders))
        for key, rows in embedding.vectors.items()
    ]
    remarks = []
    if encoders and not any(report.usual for report in reports):
        widths = " and ".join(f"{e.width} ({e.key})" for e in encoders)
        own = " and ".join(f"{r.width} ({r.key})" for r in reports)
        remarks.append(
            f"It does not fit the given text encoder: that reads vectors {widths} wide, these are "
            f"{own} wide."
        )
    remarks += [
        f"Its vectors for {key} are all zero: they mean nothing."
        for key, rows in embedding.vectors.items()
        if not rows.any()
    ]
    return Report(
        name=_plain(embedding.name),
        family=embedding.family,
        partly=families_in_part(embedding.widths),
        negative=is_negative(embedding.name, embedding.metadata),
        encoders=reports,
        remarks=remarks,
        notes=readable_notes(embedding.metadata),
    )


def readable_notes(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata for people: without prefixes, JSON as a list, pictures as their size."""
    notes: dict[str, str] = {}
    for key, value in metadata.items():
        group, _, last = key.rpartition(".")
        plain = last if group in ("modelspec", "textual_inversion") else key
        shown = _readable(value)
        if shown:
            notes[_plain(plain.replace("_", " "))] = shown
    return notes


def _fitting(key: str, width: int, encoders: Sequence[TextEncoder]) -> TextEncoder | None:
    """Its own encoder's, else the only one of its width, as for the vectors themselves."""
    fitting = [e for e in encoders if e.width == width]
    own = [e for e in fitting if e.key == key]
    return own[0] if own else fitting[0] if len(fitting) == 1 else None


@torch.no_grad()
def _inspect_rows(key: str, rows: Tensor, encoder: TextEncoder | None) -> EncoderReport:
    # In float64, because the squares of large values are beyond float32.
    lengths = rows.double().norm(dim=1).tolist()
    units = F.normalize(rows.double(), dim=1).float()
    alike = (units @ units.T).tolist()
    if encoder is None:
        plain = [Row(*one) for one in zip(lengths, repeat(()), alike, strict=False)]
        return EncoderReport(key, rows.shape[1], plain, None)
    directions = units.to(encoder.vocabulary.device)
    all_lengths, cosines = [], []
    # A big vocabulary in float32 would be gigabytes at once.
    for start in range(0, len(encoder.vocabulary), _CHUNK):
        words = encoder.vocabulary[start : start + _CHUNK].detach().float()
        all_lengths.append(words.norm(dim=1).cpu() * encoder.scale)
        cosines.append((directions @ F.normalize(words, dim=1).T).cpu())
    best = torch.cat(cosines, dim=1).topk(min(_LOOKED_AT, len(encoder.vocabulary)))
    found = [
        Row(length, _readable_words(encoder, zip(ids, values, strict=True)), likeness)
        for length, ids, values, likeness in zip(
            lengths, best.indices.tolist(), best.values.tolist(), alike, strict=True
        )
    ]
    return EncoderReport(key, rows.shape[1], found, _usual(torch.cat(all_lengths)))


def _readable_words(
    encoder: TextEncoder, tokens: Iterable[tuple[int, float]]
) -> list[tuple[str, float]]:
    """The first few with a text of their own: many tokens are parts of a character."""
    found: dict[str, float] = {}
    for token, cosine in tokens:
        if len(found) == NEAREST:
            break
        text = _plain(encoder.word(token))
        if text and "\N{REPLACEMENT CHARACTER}" not in text:
            found.setdefault(text, cosine)
    return list(found.items())


def _usual(lengths: Tensor) -> Lengths:
    low, middle, high = lengths.quantile(torch.tensor([0.05, 0.5, 0.95])).tolist()
    return Lengths(float(lengths.mean()), low, middle, high)


def _readable(value: str) -> str:
    if value.startswith("data:"):
        return f"a picture of {len(value) * 3 // 4 // 1024 + 1} kB"
    try:
        content = json.loads(value)
    except (ValueError, RecursionError):
        content = value
    if isinstance(content, dict):
        value = ", ".join(f"{key}: {part}" for key, part in content.items() if part != "")
    value = _plain(value)
    return value if len(value) <= _LONGEST_NOTE else f"{value[:_LONGEST_NOTE]} …"


def _plain(text: str) -> str:
    """On one line, and without what a terminal would take for a command."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
