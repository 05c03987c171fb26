"""The translations fit the nodes: nothing is missing, nothing is old, nothing is left in English.

What to do when one of these fails stands at the head of `support/locales.py`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from support.client import Host
from support.help_pages import HELP, filled, page_of, prose, skeleton
from support.locales import ENGLISH, LOCALES, PREFIX, english, read, refresh, write
from support.server import PACK
from support.workflows import inputs_of

LANGUAGES = sorted(path.name for path in LOCALES.iterdir() if path.name != ENGLISH)

SAME = {
    "de": {"CLIP", "VAE", "Name", "Seed", "Loss", "Format", "Text", "Embeddings"},
    "ja": {"VAE"},
    "zh": {"CLIP", "VAE"},
}
"""Texts that are the same in a language as in English, but for capitals."""

TERMS = {"Textual Inversion", "Embedding", "Prompt", "Demo"}
"""The field's own words, in every language."""

VALUES = re.compile(r"\[\w+\]|embedding:NAME|\b\d[\d.e:-]*\b")
"""What a translation has to repeat as it stands: placeholders and numbers."""


@pytest.fixture(scope="module")
def definitions(host: Host) -> dict[str, Any]:
    return host.object_info()


def test_languages() -> None:
    assert {"de", "ja", "zh"} <= set(LANGUAGES)


def test_english_is_what_the_nodes_say(definitions: dict[str, Any]) -> None:
    assert read(ENGLISH) == english(definitions)


def test_every_input_has_a_tooltip(definitions: dict[str, Any]) -> None:
    bare = [
        f"{node}.{name}"
        for node, definition in definitions.items()
        if node.startswith(PREFIX)
        for name, _, options, _ in inputs_of(definition)
        if not options.get("tooltip")
    ]
    assert bare == []


def test_every_output_has_a_tooltip(definitions: dict[str, Any]) -> None:
    bare = [
        f"{node}.{name}"
        for node, definition in definitions.items()
        if node.startswith(PREFIX)
        for name, tooltip in zip(
            definition["output_name"], definition["output_tooltips"], strict=True
        )
        if not tooltip
    ]
    assert bare == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_is_complete(language: str) -> None:
    """A text that has changed is missing until someone has translated it anew."""
    assert sorted(read(language)) == sorted(read(ENGLISH))


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_left_in_english(language: str) -> None:
    same = {text.lower() for text in SAME[language] | TERMS}
    texts = read(ENGLISH)
    left = {
        place: text
        for place, text in read(language).items()
        if text.lower() not in same and text.lower() == texts[place].lower()
    }
    assert not left


@pytest.mark.parametrize("language", LANGUAGES)
def test_values_are_kept(language: str) -> None:
    texts = read(ENGLISH)
    for place, text in read(language).items():
        assert set(VALUES.findall(texts[place])) <= set(VALUES.findall(text)), place


@pytest.mark.parametrize("language", [ENGLISH, *LANGUAGES])
def test_nothing_is_syntax(language: str) -> None:
    """The page reads these signs as instructions where it fills in values."""
    for place, text in read(language).items():
        assert not set("{}@|") & set(text), place


@pytest.mark.parametrize("language", [ENGLISH, *LANGUAGES])
def test_the_server_offers_the_texts(language: str, host: Host) -> None:
    offered = host.get("/i18n")[language]
    for place, text in read(language).items():
        found = offered
        for part in place.removeprefix("main.").split("."):
            found = found[part]
        assert found == text


def test_a_changed_text_has_to_be_translated_anew(
    definitions: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("support.locales.LOCALES", tmp_path)
    place = "nodeDefs.TextualInversionLoad.description"
    before = english(definitions)
    write(ENGLISH, {**before, place: "Reads a word."})
    write("de", {**before, place: "Liest ein Wort."})
    (line,) = refresh(definitions)
    assert line == "de nodeDefs.TextualInversionLoad.description: Liest ein Wort."
    assert read(ENGLISH) == before
    assert read("de") == {p: text for p, text in before.items() if p != place}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("node", sorted(path.stem for path in HELP.glob("*.md")))
def test_a_help_page_is_that_of_the_node(
    node: str, language: str, definitions: dict[str, Any], host: Host
) -> None:
    """It says what the English one says, in as many paragraphs, and what the tooltips say."""
    texts = read(language)
    page = page_of(node, language).read_text(encoding="utf-8")
    assert page.startswith(f"# {texts[f'nodeDefs.{node}.display_name']}\n")
    assert page == filled(page, language, node, definitions[node], texts)
    english_page = (HELP / f"{node}.md").read_text(encoding="utf-8")
    assert skeleton(page) == skeleton(english_page)
    assert set(VALUES.findall(prose(english_page))) <= set(VALUES.findall(prose(page)))
    address = f"{host.server.url}/extensions/{PACK}/docs/{node}/{language}.md"
    with urlopen(address) as answer:
        assert answer.read().decode() == page
