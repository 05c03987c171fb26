"""Which rated pictures are compared, how often, and which are held out."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from textual_inversion.trainer.data.pairs import compared, count_pairs, draw_pairs, grouped
from textual_inversion.trainer.data.pictures import Picture, as_unlike
from textual_inversion.trainer.errors import InputError

PIXELS = torch.zeros(8, 8, 3)


def liked(count: int, prompt: str | None = "a cat") -> list[Picture]:
    return [Picture(PIXELS, prompt, source=f"liked {i}") for i in range(count)]


def disliked(count: int, prompt: str | None = "a cat") -> list[Picture]:
    return [as_unlike(Picture(PIXELS, prompt, source=f"{i}")) for i in range(count)]


def test_a_picture_with_several_pairs_counts_once() -> None:
    """Five of one prompt against one are one pair, drawn as often as a prompt with one of each."""
    groups = grouped(["a"] * 6 + ["b"] * 2, [True] * 5 + [False] + [True, False])
    assert count_pairs(groups) == 2
    rng = torch.Generator().manual_seed(0)
    drawn = [pair for _ in range(500) for pair in draw_pairs(groups, 2, rng)]
    assert Counter(pair.prompt for pair in drawn) == {"a": 500, "b": 500}
    each = Counter(pair.liked for pair in drawn if pair.prompt == "a")
    assert set(each) == {0, 1, 2, 3, 4}
    assert max(each.values()) < 2 * min(each.values())


@pytest.mark.parametrize("prompts", [1, 3, 24])
def test_what_is_held_out_is_not_learned_from(prompts: int) -> None:
    pictures = [
        one
        for i in range(prompts)
        for side in (liked, disliked)
        for one in side(24 // prompts, f"{i}")
    ]
    found = compared(pictures, "w", seed=3)
    assert len(found.held_out) == 5
    away = [place for pair in found.held_out for place in (pair.liked, pair.disliked)]
    assert len(set(away)) == 10
    learned = [place for group in found.groups for place in (*group.liked, *group.disliked)]
    assert not {*away} & {*learned}
    assert len(learned) == 38
    for pair in found.held_out:
        assert pictures[pair.liked].caption == pictures[pair.disliked].caption == pair.prompt
        assert not pictures[pair.liked].unlike
        assert pictures[pair.disliked].unlike
    assert compared(pictures, "w", seed=3) == found
    assert compared(pictures, "w", seed=4) != found


@pytest.mark.parametrize(
    ("pictures", "sentence"),
    [
        (liked(9), r"no disliked pictures \(liked: 9\).*objective “good pictures”"),
        (disliked(9), r"no liked pictures \(disliked: 9\).*objective “bad pictures”"),
        (
            liked(20) + disliked(9),
            "20 liked and 9 disliked pictures make 9 pairs of one prompt: 3 more are needed",
        ),
        (liked(20) + disliked(11), "make 11 pairs of one prompt: 1 more is needed"),
        (liked(20) + disliked(20, "a dog"), "make 0 pairs of one prompt: 12 more"),
        (liked(13) + disliked(13, None), "no caption for unlike 0"),
        (liked(13, "a [name]") + disliked(13), "contains the word"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_sentence(pictures: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        compared(pictures, "w", seed=0)
