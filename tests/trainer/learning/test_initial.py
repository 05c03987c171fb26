"""The vectors before the first step, and embeddings that fit a model or do not."""

from __future__ import annotations

import pytest
import torch
from support.toy_model import ToyModel
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.learning.initial import from_words, initial_vectors

ENCODER = ToyModel().text_encoders[0]


@pytest.mark.parametrize(
    ("words", "num_vectors", "expected"),
    [
        ("cat", 1, ["cat"]),
        ("cat", 3, ["cat", "cat", "cat"]),
        ("toy cat", 4, ["toy", "toy", "cat", "cat"]),
        ("red toy cat", 4, ["red", "red", "toy", "cat"]),
        ("a red toy cat", 2, ["a", "toy"]),
        ("red toy cat", 1, ["red"]),
    ],
)
def test_words_are_spread_over_the_vectors(words, num_vectors, expected) -> None:
    ids = [ENCODER.token_ids(word)[0] for word in expected]
    assert torch.equal(from_words(ENCODER, words, num_vectors), ENCODER.vocabulary[ids])


def test_words_without_a_token_are_refused() -> None:
    with pytest.raises(InputError, match="init_words “qqq” has no token"):
        initial_vectors([ENCODER], "qqq", 1)


def test_without_words_learning_starts_from_the_mean() -> None:
    vectors = initial_vectors([ENCODER], " ", 2)["clip_l"]
    assert torch.allclose(vectors, ENCODER.vocabulary.mean(0).expand(2, -1))


def test_starting_from_an_embedding() -> None:
    rows = torch.rand(3, ENCODER.width)
    start = Embedding("old", {"emb_params": rows})
    assert torch.equal(initial_vectors([ENCODER], "cat", 1, start)["clip_l"], rows)


@pytest.mark.parametrize(
    ("vectors", "sentence"),
    [
        ({"clip_h": 1024}, "are 1024 wide (it is for Stable Diffusion 2)"),
        (
            {"clip_l": 512, "clip_g": 1280},
            "are 512 and 1280 wide (it is for a model with a clip_l encoder 512 wide and a clip_g "
            "encoder 1280 wide)",
        ),
    ],
)
def test_embedding_of_another_model(vectors: dict[str, int], sentence: str) -> None:
    embedding = Embedding("x", {key: torch.rand(1, width) for key, width in vectors.items()})
    with pytest.raises(InputError) as raised:
        embedding.rows_for({"clip_l": 768})
    assert f"{sentence}, the model's text encoder reads 768. " in str(raised.value)


def test_width_decides_where_a_label_says_otherwise() -> None:
    rows = Embedding("x", {"clip_g": torch.rand(1, 768), "other": torch.rand(1, 1280)}).rows_for(
        {"clip_l": 768, "clip_g": 1280}
    )
    assert {key: tensor.shape[1] for key, tensor in rows.items()} == {"clip_l": 768, "clip_g": 1280}
