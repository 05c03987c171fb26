"""Two words beside each other."""

from __future__ import annotations

import pytest
import torch
from textual_inversion.trainer.embeddings.comparison import compare
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.embeddings.inspection import inspect
from textual_inversion.trainer.errors import InputError

ROWS = torch.eye(3, 768)
FIRST = Embedding("first", {"clip_l": ROWS, "clip_g": torch.ones(1, 1280)})
SECOND = Embedding("second", {"clip_l": torch.stack([2 * ROWS[1], ROWS[0] + ROWS[2]])})


def test_each_vector_with_each() -> None:
    (report,) = compare(FIRST, SECOND).encoders
    half = 0.5**0.5
    expected = torch.tensor([[0, half], [1, 0], [0, half]])
    torch.testing.assert_close(torch.tensor(report.likeness), expected)
    mean = torch.cosine_similarity(
        FIRST.vectors["clip_l"].mean(0), SECOND.vectors["clip_l"].mean(0), dim=0
    )
    assert report.mean == pytest.approx(float(mean))
    assert report.lengths == pytest.approx((1, (2 + 2**0.5) / 2))
    text = str(compare(FIRST, SECOND))
    assert text.startswith("first and second:\nclip_l: 0.94 alike as a whole; 1.00 and 1.71 long")
    assert "  2: most like 1 of second, 1.00" in text


def test_vectors_whose_squares_are_beyond_float32() -> None:
    huge = Embedding("huge", {"clip_l": 1e20 * ROWS[:2]})
    (report,) = compare(huge, SECOND).encoders
    assert report.likeness == [[0, pytest.approx(0.5**0.5)], [1, 0]]
    assert report.lengths[0] == pytest.approx(1e20)


def test_words_of_other_families() -> None:
    other = Embedding("other", {"clip_h": torch.ones(1, 1024)})
    with pytest.raises(InputError, match="“first” is for SDXL, “other” for Stable Diffusion 2"):
        compare(FIRST, other)


def test_a_words_own_vectors_are_compared() -> None:
    word = Embedding("w", {"clip_l": torch.stack([ROWS[0], 3 * ROWS[0], ROWS[1]])})
    report = inspect(word)
    (encoder,) = report.encoders
    rows = [list(row.likeness) for row in encoder.rows]
    assert rows == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert "  1: 1.00 long; like 2 1.00, 3 0.00" in str(report)
    assert "like" not in str(inspect(Embedding("w", {"clip_l": ROWS[:1]})))
