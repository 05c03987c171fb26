"""Two words beside each other: how alike their vectors are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F

from ..errors import InputError
from .embedding import Embedding

SHOWN = 20
"""Of how many vectors the text tells; more are in the values alone."""


@dataclass(frozen=True)
class EncoderComparison:
    """Two words for one text encoder.

    Attributes:
        key: of the encoder.
        likeness: the cosine of the angle between each vector of the first word and each of the
            second, [vectors of the first][vectors of the second].
        mean: the cosine of the angle between the means of the vectors of both.
        lengths: the mean length of the first word's vectors, and of the second's.
    """

    key: str
    likeness: Sequence[Sequence[float]]
    mean: float
    lengths: tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """Two words; as text, readable."""

    first: str
    second: str
    encoders: Sequence[EncoderComparison]

    def __str__(self) -> str:
        lines = [f"{self.first} and {self.second}:"]
        for one in self.encoders:
            lines.append(
                f"{one.key}: {one.mean:.2f} alike as a whole; {one.lengths[0]:.2f} and "
                f"{one.lengths[1]:.2f} long"
            )
            for number, row in enumerate(one.likeness[:SHOWN], 1):
                best = max(range(len(row)), key=row.__getitem__)
                lines.append(f"  {number}: most like {best + 1} of {self.second}, {row[best]:.2f}")
            if len(one.likeness) > SHOWN:
                lines.append(f"  … and {len(one.likeness) - SHOWN} more")
        return "\n".join(lines)


def compare(first: Embedding, second: Embedding) -> Comparison:
    """Compare two words, for each text encoder that both have vectors for.

    Raises:
        InputError: there is none.
    """
    shared = [
        key
        for key, width in first.widths.items()
        if second.widths.get(key) == width
    ]  # fmt: skip
    if not shared:
        raise InputError(
            f"“{first.name}” is for {first.family}, “{second.name}” for {second.family}: only "
            "words for the same text encoder can be compared."
        )
    reports = []
    for key in shared:
        # In float64, because the squares of large values are beyond float32.
        ours, theirs = first.vectors[key].double(), second.vectors[key].double()
        alike = F.normalize(ours, dim=1) @ F.normalize(theirs, dim=1).T
        mean = F.cosine_similarity(ours.mean(0), theirs.mean(0), dim=0)
        lengths = float(ours.norm(dim=1).mean()), float(theirs.norm(dim=1).mean())
        reports.append(EncoderComparison(key, alike.tolist(), float(mean), lengths))
    return Comparison(first.name, second.name, reports)
