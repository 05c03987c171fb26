"""What captions and templates become."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual_inversion.trainer.data.captions import fill, prompts_of, words_of_file_name
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.prompts import (
    CAPTION_TEMPLATES,
    PLACEHOLDER,
    TEMPLATES,
    parse_templates,
    read_templates,
)
from textual_inversion.trainer.settings import Settings


def prompts(caption: str | None, number: int = 0, **changes) -> list[str]:
    return prompts_of(caption, Settings(name="cat-toy", **changes), number)


def test_every_standard_template_has_the_word_once() -> None:
    for templates in (*TEMPLATES.values(), *CAPTION_TEMPLATES.values()):
        assert len(set(templates)) == len(templates)
        assert all(template.count(PLACEHOLDER) == 1 for template in templates)


@pytest.mark.parametrize("caption", [None, "", " \n"])
def test_without_a_caption_there_are_templates(caption: str | None) -> None:
    assert prompts(caption, learn="style") == list(TEMPLATES["style"])


def test_a_caption_with_the_word_is_the_prompt() -> None:
    assert prompts(" a photo\n of  cat-toy\n") == ["a photo of [name]"]


def test_a_caption_without_the_word_is_told_what_it_is_of() -> None:
    assert prompts("red, on grass") == ["a photo of a [name], red, on grass"]
    assert prompts("a house", learn="style") == ["a house, in the style of [name]"]


def test_templates_in_the_form_of_a1111() -> None:
    templates = "a photo of a [name], [filewords]\n\n  [filewords] by [name]  \nmy cat-toy\n"
    assert prompts("on grass", templates=templates) == [
        "a photo of a [name], on grass",
        "on grass by [name]",
        "my [name]",
    ]
    # A picture without a caption takes those that need none.
    assert prompts(None, templates=templates) == ["my [name]"]
    assert prompts(None, templates="by [name], [filewords]") == list(TEMPLATES["object"])


def test_template_that_leaves_the_word_to_the_caption() -> None:
    """A1111's own `hypernetwork.txt` has such."""
    assert prompts("my cat-toy", templates="a photo of [filewords]") == ["a photo of my [name]"]
    assert prompts("a cat", templates="a photo of [filewords]") == ["a photo of a [name], a cat"]


def test_templates_without_a_place_for_anything() -> None:
    with pytest.raises(InputError, match=r"None of the templates has a place for the word"):
        Settings(templates="picture\na photo")
    assert parse_templates(" \n", "cat-toy") == []


def test_template_files(tmp_path: Path) -> None:
    (tmp_path / "style.txt").write_text("art by [name]\n", encoding="utf-8-sig")
    (tmp_path / "subject.txt").write_bytes(b"a [name]\r\n\r\n[filewords], [name]")
    (tmp_path / "notes.md").write_text("no templates")
    lines = parse_templates(read_templates(tmp_path), "x")
    assert lines == ["art by [name]", "a [name]", "[filewords], [name]"]
    assert read_templates(tmp_path / "style.txt") == "art by [name]\n"
    with pytest.raises(InputError, match="cannot be read"):
        read_templates(tmp_path / "missing.txt")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(InputError, match="There are no templates in"):
        read_templates(tmp_path / "empty.txt")
    (tmp_path / "marked.txt").write_bytes("a café of [name]\n".encode("utf-16"))
    assert read_templates(tmp_path / "marked.txt") == "a café of [name]\n"
    (tmp_path / "old.txt").write_bytes("a café of [name]\n".encode("cp1252"))
    with pytest.raises(InputError, match=r"“old\.txt” is in an unknown encoding"):
        read_templates(tmp_path / "old.txt")


@pytest.mark.parametrize(
    ("template", "caption", "expected"),
    [
        ("a [name], [filewords]", "", "a [name]"),
        ("[filewords], a [name]", "", "a [name]"),
        ("a [name], [filewords], by night", "", "a [name], by night"),
        ("[filewords]", "a, b", "a, b"),
    ],
)
def test_an_empty_caption_leaves_no_commas(template: str, caption: str, expected: str) -> None:
    assert fill(template, caption) == expected


tags = st.lists(st.text("abcxyz", min_size=1, max_size=3), max_size=6)


@given(tags, tags, st.booleans(), st.sampled_from([0.0, 0.3, 1.0]), st.integers(0, 9))
def test_tags_are_shuffled_and_dropped_and_the_word_stays(before, after, shuffle, drop, number):
    caption = ", ".join([*before, "a cat-toy", *after])
    drawn = prompts(caption, number, shuffle_tags=shuffle, drop_tags=drop)
    assert drawn == prompts(caption, number, shuffle_tags=shuffle, drop_tags=drop)
    for prompt in drawn:
        parts = prompt.split(", ")
        assert parts.count("a [name]") == 1
        others = [part for part in parts if part != "a [name]"]
        assert all(others.count(o) <= [*before, *after].count(o) for o in others)
        if drop == 0:
            assert parts.index("a [name]") == len(before)
            assert sorted(others) == sorted([*before, *after])
        if drop == 1:
            assert others == []


def test_every_order_comes_up() -> None:
    drawn = prompts("a, b, c, cat-toy", shuffle_tags=True)
    assert len(set(drawn)) == 6
    assert set(prompts("a, cat-toy", drop_tags=0.5)) == {"a, [name]", "[name]"}
    assert drawn != prompts("a, b, c, cat-toy", number=1, shuffle_tags=True)


@pytest.mark.parametrize(
    ("stem", "words"),
    [
        ("a red mug", "a red mug"),
        ("a_red_mug_02", "a red mug"),
        ("003-a red mug (2)", "a red mug"),
        ("my_mug on a beach", "my_mug on a beach"),
        ("rote Tasse im Grünen", "rote Tasse im Grünen"),
        ("20240131_120000", None),
        ("0012", None),
    ],
)
def test_words_of_a_file_name(stem: str, words: str | None) -> None:
    assert words_of_file_name(stem) == words
