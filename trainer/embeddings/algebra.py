"""Arithmetic on embeddings: every function makes a new word of given ones, encoder by encoder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ..errors import InputError
from ..model import TextEncoder
from .embedding import Embedding
from .provenance import made_notes


def weighted_sum(
    name: str, words: Sequence[Embedding], weights: Sequence[float], *, zero_is_left: bool = False
) -> Embedding:
    """Row i of the result is the sum of all rows i, each times the weight of its word.

    Args:
        name: of the result.
        words: with equal encoders, and equally many vectors for each.
        weights: one for each word; they need not sum to 1.
        zero_is_left: allow a result of zeros, to which something will be added.

    Raises:
        InputError: encoders or numbers of vectors differ, or everything cancels out.
    """
    _check_same_rows(words)

    def add(rows: Sequence[Tensor]) -> Tensor:
        return sum((w * r for w, r in zip(weights, rows, strict=True)), torch.zeros(()))

    how = f"sum of {', '.join(f'{w:g}' for w in weights)} times"
    made = _combined_freely(name, words, add, how)
    return made if zero_is_left else refuse_zero(made)


def slerp(name: str, start: Embedding, end: Embedding, amount: float) -> Embedding:
    """Turn each row of one word toward the same row of another, at even speed along the arc.

    Directions follow spherical linear interpolation (Shoemake, “Animating rotation with
    quaternion curves”, 1985); lengths go along a straight line. A straight line between the
    vectors themselves would make them too short on the way. Between opposite or zero vectors
    there is no such arc, and a straight line takes its place.

    Raises:
        InputError: encoders or numbers of vectors differ, or everything cancels out.
    """
    words = (start, end)
    _check_same_rows(words)

    def turn(rows: Sequence[Tensor]) -> Tensor:
        return _slerp(rows[0].double(), rows[1].double(), amount)

    return _combined(name, words, turn, f"slerp by {amount:g} between")


def concatenate(name: str, words: Sequence[Embedding]) -> Embedding:
    """All vectors of the first word, then those of the second, and so on.

    Raises:
        InputError: the words have vectors for different encoders.
    """
    _check_same_encoders(words)
    return _combined(name, words, lambda rows: torch.cat(list(rows)), "concatenation of")


def keep_vectors(name: str, word: Embedding, count: int) -> Embedding:
    """Say with fewer vectors as much as can be said of a word.

    For each encoder, principal component analysis without centring finds the `count`
    directions that hold most of the rows' squared length (Eckart and Young, “The
    approximation of one matrix by another of lower rank”, 1936). Bare components would be
    no tokens: their sign is arbitrary, and all but the first are contrasts between rows. So
    the `count` rows that span these directions best are kept, chosen by pivoting as in
    Boutsidis, Mahoney and Drineas (“An improved approximation algorithm for the column
    subset selection problem”, 2009), projected on the directions, in their old order and
    each as long as it was. An encoder with no more rows than that keeps them unchanged.

    Raises:
        InputError: `count` is below 1.
    """
    if count < 1:
        raise InputError(f"{count} vectors cannot be kept: keep at least 1.")
    return _combined(
        name, [word], lambda rows: _principal(rows[0], count), f"{count} principal vectors of"
    )


def take_vectors(name: str, word: Embedding, start: int | None, stop: int | None) -> Embedding:
    """Some vectors of a word, counted as Python counts: from 0, negative ones from the end.

    Raises:
        InputError: an encoder has none of them.
    """
    for key, rows in word.vectors.items():
        if not len(rows[start:stop]):
            raise InputError(
                f"“{word.name}” has {len(rows)} vectors for {key}, and none of those that are "
                "asked for: choose some that it has."
            )
    return _combined(name, [word], lambda rows: rows[0][start:stop], "some vectors of")


def pick_vectors(name: str, word: Embedding, numbers: str) -> Embedding:
    """Some vectors of a word, in the order of their numbers, which begin with 1.

    Args:
        name: of the result.
        word: whose.
        numbers: such as “2-4” or “1, 3”.

    Raises:
        InputError: the numbers cannot be read, or an encoder has no such vector.
    """
    chosen: list[int] = []
    for part in numbers.split(","):
        found = re.fullmatch(r"\s*(\d{1,4})\s*(?:-\s*(\d{1,4})\s*)?", part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not 1 <= first <= last:
            raise InputError(
                f"The vectors “{numbers}” cannot be read: write numbers from 1 on, such as 2-4 or "
                "1, 3."
            )
        chosen += range(first - 1, last)
    for key, rows in word.vectors.items():
        if max(chosen) >= len(rows):
            raise InputError(
                f"“{word.name}” has {len(rows)} vectors for {key}, and no number "
                f"{max(chosen) + 1}: choose some that it has."
            )
    return _combined(name, [word], lambda rows: rows[0][chosen], f"vectors {numbers.strip()} of")


def fill_vectors(name: str, word: Embedding, count: int, *, repeat: bool) -> Embedding:
    """Bring a word to more vectors: with itself from its start on, or with zeros.

    Zeros mean nothing in a prompt: they let a word be added to one that has more vectors.

    Raises:
        InputError: it has more vectors than that.
    """
    if word.num_vectors > count:
        raise InputError(
            f"“{word.name}” has {word.num_vectors} vectors, more than the {count} to fill up to: "
            "keep fewer of them first."
        )

    def fill(rows: Sequence[Tensor]) -> Tensor:
        (own,) = rows
        if repeat:
            return own[torch.arange(count) % len(own)]
        return torch.cat([own, own.new_zeros(count - len(own), own.shape[1])])

    return _combined(name, [word], fill, f"{count} vectors of")


def with_usual_length(name: str, word: Embedding, encoders: Sequence[TextEncoder]) -> Embedding:
    """Each vector as long as a word of the vocabulary is on the average, in its own direction.

    Raises:
        InputError: no vocabulary is given for one of the word's encoders.
    """
    usual = {encoder.key: encoder.usual_length for encoder in encoders}
    for key in word.vectors:
        if key not in usual:
            raise InputError(
                f"The usual length of vectors for {key} is not known: give a model that has this "
                "text encoder."
            )
    vectors = {
        key: rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12) * usual[key]
        for key, rows in word.vectors.items()
    }
    return Embedding(name, vectors, made_notes(name, [word], "usual length of"))


def refuse_zero(word: Embedding) -> Embedding:
    """The word, if anything is left of it.

    Raises:
        InputError: all its vectors are zero.
    """
    if not any(rows.any() for rows in word.vectors.values()):
        raise InputError(
            "Nothing is left: the vectors cancel each other out. Choose another amount, or words "
            "that differ."
        )
    return word


def _combined(
    name: str,
    words: Sequence[Embedding],
    combine: Callable[[Sequence[Tensor]], Tensor],
    how: str,
) -> Embedding:
    return refuse_zero(_combined_freely(name, words, combine, how))


def _combined_freely(
    name: str,
    words: Sequence[Embedding],
    combine: Callable[[Sequence[Tensor]], Tensor],
    how: str,
) -> Embedding:
    vectors = {
        key: combine([word.vectors[key] for word in words]).float() for key in words[0].vectors
    }
    return Embedding(name, vectors, made_notes(name, words, how))


def _check_same_encoders(words: Sequence[Embedding]) -> None:
    for word in words[1:]:
        if word.vectors.keys() != words[0].vectors.keys():
            raise InputError(
                f"“{words[0].name}” is for {words[0].family}, “{word.name}” for {word.family}: "
                "blend words that are for the same family of models."
            )
        if word.widths != words[0].widths:
            raise InputError(
                f"The vectors of “{words[0].name}” are {_listed(words[0].widths)} wide, those of "
                f"“{word.name}” {_listed(word.widths)}: blend words made for the same model."
            )


def _check_same_rows(words: Sequence[Embedding]) -> None:
    _check_same_encoders(words)
    for word in words[1:]:
        for key, rows in word.vectors.items():
            counts = len(words[0].vectors[key]), len(rows)
            if counts[0] != counts[1]:
                raise InputError(
                    f"“{words[0].name}” has {counts[0]} vectors for {key} and “{word.name}” "
                    f"{counts[1]}: bring the longer one to {min(counts)} with keep_vectors first, "
                    "or concatenate them."
                )


def _listed(widths: Mapping[str, int]) -> str:
    return " and ".join(str(width) for width in widths.values())


def _slerp(start: Tensor, end: Tensor, amount: float) -> Tensor:
    """Along the last dimension."""
    straight = torch.lerp(start, end, amount)
    length, other = (rows.norm(dim=-1, keepdim=True) for rows in (start, end))
    tiny = torch.finfo(start.dtype).tiny
    unit, other_unit = start / length.clamp_min(tiny), end / other.clamp_min(tiny)
    angle = (unit * other_unit).sum(-1, keepdim=True).clamp(-1, 1).arccos()
    curved = ((1 - amount) * angle).sin() * unit + (amount * angle).sin() * other_unit
    curved = curved / angle.sin() * torch.lerp(length, other, amount)
    return torch.where((angle.sin() > 1e-6) & (length * other > 0), curved, straight)


def _principal(rows: Tensor, count: int) -> Tensor:
    if count >= len(rows):
        return rows
    directions = torch.linalg.svd(rows.double(), full_matrices=False).Vh[:count]
    coordinates = rows.double() @ directions.T
    chosen = _spanning(coordinates)
    kept = coordinates[chosen] @ directions
    lengths = rows[chosen].double().norm(dim=1, keepdim=True)
    scaled: Tensor = kept * (lengths / kept.norm(dim=1, keepdim=True).clamp_min(1e-30))
    return scaled


def _spanning(coordinates: Tensor) -> list[int]:
    """As many rows of [rows, count] as it has columns: each the farthest from those before."""
    rest = coordinates.clone()
    chosen: list[int] = []
    for _ in range(coordinates.shape[1]):
        distances = rest.norm(dim=1)
        distances[chosen] = -1  # rows that are all alike leave nothing but zeros to choose from
        chosen.append(int(distances.argmax()))
        axis = rest[chosen[-1]] / distances[chosen[-1]].clamp_min(1e-30)
        rest = rest - (rest @ axis)[:, None] * axis
    return sorted(chosen)
