"""Where the word stands in a prompt, and how CLIP's tokens are laid out around it."""

from __future__ import annotations

import unicodedata

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from textual_inversion.trainer.diffusers_model.clip_tokens import (
    ChunkFormat,
    chunk_rows,
    chunk_weights,
    place_vectors,
)
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.prompts import split_at_word, weighted_texts, with_placeholder

CLIP = ChunkFormat(start=1000, end=1001, pad=1002, length=77)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a photo of [name]", "a photo of [name]"),
        ("a photo of embedding:cat-toy", "a photo of [name]"),
        ("embedding:cat-toy, on a table", "[name], on a table"),
        ("(embedding:cat-toy:1.2)", "([name]:1.2)"),
        ("a cat-toy.", "a [name]."),
        ("cat-toy's hat", "[name]'s hat"),
        ("cat-toy and cat-toy", "[name] and [name]"),
        ("cat-toy2", "cat-toy2"),
        ("my-cat-toy", "my-cat-toy"),
        ("cat-toy-neg", "cat-toy-neg"),
        ("cat-toy.safetensors", "cat-toy.safetensors"),
        ("embedding:cat-toy.safetensors", "[name]"),
        ("(embedding:cat-toy.pt:1.2), a cat", "([name]:1.2), a cat"),
        ("embedding:cat-toy.bin2", "embedding:cat-toy.bin2"),
        ("embedding:other", "embedding:other"),
    ],
)
def test_mentions_of_the_word(text: str, expected: str) -> None:
    assert with_placeholder(text, "cat-toy") == expected


def test_characters_of_a_name_are_taken_literally() -> None:
    assert with_placeholder("a.b or aXb", "a.b") == "[name] or aXb"


@pytest.mark.parametrize("name", ["name", "filewords"])
def test_a_word_may_be_called_like_a_mark(name: str) -> None:
    text = "a photo of a [name], [filewords]"
    assert with_placeholder(text, name) == text
    assert with_placeholder(f"a {name} and embedding:{name}", name) == "a [name] and [name]"


def test_a_name_is_found_however_its_letters_are_composed() -> None:
    decomposed = unicodedata.normalize("NFD", "a café-mug")
    assert with_placeholder(decomposed, "café-mug") == "a [name]"


def test_split_at_word() -> None:
    assert split_at_word("ab[name]c[name]", lambda text: [ord(c) for c in text]) == [
        [97, 98],
        None,
        [99],
        None,
        [],
    ]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a cat", [("a cat", 1.0)]),
        ("a (red) cat", [("a ", 1.0), ("red", 1.1), (" cat", 1.0)]),
        ("(a [name]:1.3)", [("a [name]", 1.3)]),
        ("((a) b:0.5)", [("a", 0.55), (" b", 0.5)]),
        (r"a \(red\) cat", [("a (red) cat", 1.0)]),
        ("a (b", [("a ", 1.0), ("(b", 1.0)]),
        ("a) b (c)", [("a) b (c)", 1.0)]),
        ("(a (b)", [("a ", 1.1), ("(b", 1.1)]),
        ("(at 9:x)", [("at 9:x", 1.1)]),
        ("[a] {b} (:2)", [("[a] {b} ", 1.0), (":2", 1.1)]),
        ("", []),
    ],
)
def test_brackets_are_weights(prompt: str, expected: list[tuple[str, float]]) -> None:
    found = weighted_texts(prompt)
    assert [text for text, _ in found] == [text for text, _ in expected]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in expected])


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ("my (gran: Nan)", "“gran” has a weight of nan: write a number such as 1.2"),
        ("(a cat:1e400)", "“a cat” has a weight of inf"),
        ("(a (big) cat:-1e39)", "“a ” has a weight of -1e+39"),
        (f"({'red ' * 30}:inf)", f"“{'red ' * 10} …” has a weight of inf"),
        ("(" * 3000 + "a" + ")" * 3000, "brackets in brackets, more than 100 deep: use fewer"),
    ],
)
def test_weights_of_which_nothing_is_learned_are_refused(prompt: str, sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        weighted_texts(prompt)
    assert sentence in str(refused.value)


def test_unusual_weights_are_read_as_the_host_reads_them() -> None:
    assert weighted_texts("(a cat:1e6)") == [("a cat", 1e6)]
    assert weighted_texts(r"my \(gran: Nan\)") == [("my (gran: Nan)", 1.0)]
    # Nothing has the outer one.
    assert weighted_texts("((a cat:1.2):nan)") == [("a cat", 1.2)]
    ((text, weight),) = weighted_texts("(" * 100 + "a" + ")" * 100)
    assert (text, weight) == ("a", pytest.approx(1.1**100))
    assert weighted_texts("(" * 3000) == [("(" * 3000, 1.0)]


def test_weights_lie_where_their_tokens_do() -> None:
    groups = [([5] * 70, 1.0), (None, 1.3), ([7], 0.5)]
    rows = chunk_rows([group for group, _ in groups], 6, CLIP)
    weights = chunk_weights(groups, 6, CLIP)
    assert len(rows) == len(weights) == 2
    for row, counted in zip(rows, weights, strict=True):
        for token, weight in zip(row, counted, strict=True):
            assert weight == (1.3 if token < 0 else 0.5 if token == 7 else 1.0)


def test_short_prompt_is_one_padded_chunk() -> None:
    (row,) = chunk_rows([[5, 6], None, [7]], 2, CLIP)
    assert row == [1000, 5, 6, ~0, ~1, 7, 1001] + [1002] * 70


def test_empty_prompt_is_one_chunk() -> None:
    assert chunk_rows([[]], 1, CLIP) == [[1000, 1001] + [1002] * 75]


def test_word_that_would_be_cut_moves_to_the_next_chunk() -> None:
    first, second = chunk_rows([[5] * 73, None, [7]], 3, CLIP)
    assert first == [1000] + [5] * 73 + [1001] + [1002] * 2
    assert second[:6] == [1000, ~0, ~1, ~2, 7, 1001]


def test_long_word_is_cut() -> None:
    first, second = chunk_rows([[5] * 73, None], 8, CLIP)
    assert first[74:] == [~0, ~1, 1001]
    assert second[:8] == [1000, ~2, ~3, ~4, ~5, ~6, ~7, 1001]


groups = st.lists(
    st.one_of(st.none(), st.lists(st.integers(0, 999), max_size=200)), min_size=1, max_size=6
)


@given(groups, st.integers(0, 20))
def test_no_token_is_lost_and_every_chunk_is_full_length(groups, num_vectors: int) -> None:
    rows = chunk_rows(groups, num_vectors, CLIP)
    word = [~i for i in range(num_vectors)]
    wanted = [t for group in groups for t in (word if group is None else group)]
    assert [t for row in rows for t in row if t < 1000] == wanted
    for row in rows:
        assert len(row) == 77
        assert row[0] == 1000
        assert row.count(1001) == 1


def test_vectors_are_placed_and_get_all_of_the_gradient() -> None:
    tokens = torch.tensor([[3, ~0, ~1], [~1, 4, 5]])
    embedded = torch.zeros(2, 3, 2, requires_grad=True)
    vectors = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    placed = place_vectors(embedded, tokens, vectors)
    assert placed[0].tolist() == [[0, 0], [1, 2], [3, 4]]
    assert placed[1].tolist() == [[3, 4], [0, 0], [0, 0]]
    placed.sum().backward()
    assert vectors.grad.tolist() == [[1, 1], [2, 2]]
