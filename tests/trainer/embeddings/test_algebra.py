"""Arithmetic on words: what it gives, and what it refuses."""

from __future__ import annotations

import json

import pytest
import torch
from support.toy_model import ToyModel
from textual_inversion.trainer.embeddings.algebra import (
    concatenate,
    fill_vectors,
    keep_vectors,
    slerp,
    take_vectors,
    weighted_sum,
    with_usual_length,
)
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.embeddings.metadata import NEGATIVE
from textual_inversion.trainer.embeddings.text_vectors import from_text
from textual_inversion.trainer.errors import InputError


def word(name: str, seed: int, count: int = 3, **widths: int) -> Embedding:
    generator = torch.Generator().manual_seed(seed)
    widths = widths or {"clip_l": 768, "clip_g": 1280}
    return Embedding(
        name, {key: torch.randn(count, w, generator=generator) for key, w in widths.items()}
    )


def test_a_weighted_sum_is_one() -> None:
    a, b = word("a", 1), word("b", 2)
    result = weighted_sum("c", [a, b], [0.25, -2])
    assert result.name == "c"
    for key in ("clip_l", "clip_g"):
        torch.testing.assert_close(result.vectors[key], 0.25 * a.vectors[key] - 2 * b.vectors[key])
    made = json.loads(result.metadata["textual_inversion.made_from"])
    assert made["words"] == {"a": a.fingerprint[:16], "b": b.fingerprint[:16]}
    fewer = json.loads(keep_vectors("d", result, 1).metadata["textual_inversion.made_from"])
    assert fewer == {"how": "1 principal vectors of", "words": {"c": made}}


def test_slerp_begins_and_ends_at_its_words_and_keeps_lengths_between() -> None:
    a, b = word("a", 1), weighted_sum("b", [word("b", 2)], [3.0])
    for amount, expected in ((0.0, a), (1.0, b)):
        rows = slerp("c", a, b, amount).vectors
        for key in rows:
            torch.testing.assert_close(rows[key], expected.vectors[key])
    half, x, y = (w.vectors["clip_l"] for w in (slerp("c", a, b, 0.5), a, b))
    lengths = (x.norm(dim=1) + y.norm(dim=1)) / 2
    torch.testing.assert_close(half.norm(dim=1), lengths)
    to_x, to_y = (torch.cosine_similarity(half, end) for end in (x, y))
    torch.testing.assert_close(to_x, to_y)


def test_slerp_where_there_is_no_arc() -> None:
    a = word("a", 1)
    opposite = weighted_sum("b", [a], [-1.0])
    for end in (a, opposite, Embedding("z", {k: 0 * v for k, v in a.vectors.items()})):
        found = slerp("c", a, end, 0.25)
        for key, rows in a.vectors.items():
            torch.testing.assert_close(
                found.vectors[key], torch.lerp(rows, end.vectors[key], 0.25), rtol=1e-4, atol=1e-5
            )


def test_concatenation_keeps_the_order() -> None:
    a, b = word("a", 1, 2), word("b", 2, 5)
    result = concatenate("c", [a, b, a])
    assert result.num_vectors == 9
    assert torch.equal(result.vectors["clip_g"][2:7], b.vectors["clip_g"])


def test_few_vectors_keep_most_of_many() -> None:
    """Rows that differ by noise alone collapse onto what they share."""
    generator = torch.Generator().manual_seed(0)
    ideas = torch.randn(2, 768, generator=generator)
    rows = ideas[[0, 0, 1, 1, 0]] + 0.05 * torch.randn(5, 768, generator=generator)
    rows[3] *= 4
    kept = keep_vectors("few", Embedding("many", {"clip_l": rows}), 2).vectors["clip_l"]
    assert kept.shape == (2, 768)
    near = torch.cosine_similarity(kept[:, None], ideas[None], dim=-1)
    assert near.diagonal().min() > 0.99, "one row for each idea, with its sign and in order"
    lengths = rows.norm(dim=1)
    assert all((lengths - length).abs().min() < 1e-3 for length in kept.norm(dim=1))
    # Nothing of their span is lost beyond the best possible.
    basis = torch.linalg.qr(kept.T).Q
    best = torch.linalg.svdvals(rows)[2:].square().sum()
    torch.testing.assert_close(
        (rows - rows @ basis @ basis.T).square().sum(), best, rtol=1e-3, atol=0
    )


@pytest.mark.parametrize("count", [3, 4])
def test_keeping_all_changes_nothing(count: int) -> None:
    a = word("a", 1)
    assert torch.equal(keep_vectors("b", a, count).vectors["clip_l"], a.vectors["clip_l"])


def test_keeping_of_rows_that_are_all_alike() -> None:
    alike = Embedding("a", {"clip_l": torch.ones(4, 768)})
    kept = keep_vectors("b", alike, 2).vectors["clip_l"]
    torch.testing.assert_close(kept, torch.ones(2, 768))


def test_text_becomes_its_tokens() -> None:
    model = ToyModel()
    word = from_text("t", model.text_encoders, "a red cat")
    table = model.text_encoders[0].vocabulary
    assert torch.equal(word.vectors["clip_l"], table[[0, 6, 5]])
    with pytest.raises(InputError, match="no token"):
        from_text("t", model.text_encoders, "   ")
    with pytest.raises(InputError, match="plain words"):
        from_text("t", model.text_encoders, "a embedding:x")


def test_notes_that_all_share_are_kept() -> None:
    bad = Embedding("bad", {"clip_l": torch.ones(1, 768)}, {NEGATIVE: "true", "step": "1"})
    good = Embedding("good", {"clip_l": torch.ones(1, 768)})
    assert weighted_sum("c", [bad, bad], [1, 1]).metadata[NEGATIVE] == "true"
    mixed = weighted_sum("c", [bad, good], [1, 1]).metadata
    assert NEGATIVE not in mixed
    assert "step" not in mixed


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: weighted_sum("c", [word("a", 1), word("b", 2, clip_l=768)], [1, 1]),
         "“a” is for SDXL, “b” for Stable Diffusion 1"),
        (lambda: weighted_sum("c", [word("a", 1), word("b", 2, 5)], [1, 1]),
         "3 vectors for clip_l and “b” 5: .* keep_vectors"),
        (lambda: slerp("c", word("a", 1), word("b", 2, 5), 0.5), "keep_vectors"),
        (lambda: concatenate("c", [word("a", 1, clip_l=768), word("b", 1, clip_l=32)]),
         "“a” are 768 wide, those of “b” 32"),
        (lambda: weighted_sum("c", [word("a", 1), word("a", 1)], [1, -1]), "Nothing is left"),
        (lambda: keep_vectors("c", word("a", 1), 0), "at least 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_weights_in_a_text_multiply_vectors() -> None:
    """As ComfyUI reads them; a bracket without its other half is no weight."""
    model = ToyModel()
    a, red, cat = model.text_encoders[0].vocabulary[[0, 6, 5]]
    for text, expected in (
        ("a (red:1.5) cat", [a, 1.5 * red, cat]),
        ("a (red) cat", [a, 1.1 * red, cat]),
        ("((red)) cat", [1.1 * 1.1 * red, cat]),
        ("(a (red:0.5):2) cat", [2 * a, 0.5 * red, cat]),
        ("(red:-1)", [-red]),
        (r"a \( red \) cat", [a, red, cat]),
        ("a ( red cat", [a, red, cat]),
        ("a red ) cat", [a, red, cat]),
        ("(" * 300 + " red", [red]),
    ):
        (rows,) = from_text("t", model.text_encoders, text).vectors.values()
        torch.testing.assert_close(rows, torch.stack(expected), msg=text)


def test_slices_lengths_and_more_vectors() -> None:
    a = word("a", 1)
    rows = a.vectors["clip_g"]
    assert torch.equal(take_vectors("s", a, 1, None).vectors["clip_g"], rows[1:])
    with pytest.raises(InputError, match="“a” has 3 vectors for clip_l, and none of those"):
        take_vectors("s", a, 3, 4)
    repeated = fill_vectors("f", a, 5, repeat=True).vectors["clip_g"]
    assert torch.equal(repeated, torch.cat([rows, rows[:2]]))
    padded = fill_vectors("f", a, 5, repeat=False).vectors["clip_g"]
    assert torch.equal(padded[:3], rows)
    assert not padded[3:].any()
    with pytest.raises(InputError, match="has 3 vectors, more than the 2"):
        fill_vectors("f", a, 2, repeat=True)
    model = ToyModel()
    usual = model.text_encoders[0].vocabulary.norm(dim=1).mean()
    short = word("w", 2, clip_l=4)
    (scaled,) = with_usual_length("u", short, model.text_encoders).vectors.values()
    torch.testing.assert_close(scaled.norm(dim=1), usual.expand(3))
    directions = torch.cosine_similarity(scaled, short.vectors["clip_l"])
    torch.testing.assert_close(directions, torch.ones(3))
    with pytest.raises(InputError, match="usual length of vectors for clip_g is not known"):
        with_usual_length("u", a, model.text_encoders)
