"""The texts of the nodes in each language, as the page takes them from `locales/`.

English is what the nodes say. The other languages are written by people, and have to be
looked at when the English changes. With a ComfyUI running that has this pack,

    cd tests && python -m support.locales http://127.0.0.1:8188

writes the English files anew, and takes the translations of every text that changed out of
the other languages; the tests then name what is missing. Run once more after translating, it
fills the lists of the translated help pages.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.request import urlopen

from .help_pages import HELP, filled
from .paths import ROOT
from .workflows import Definition, inputs_of

LOCALES = ROOT / "locales"
ENGLISH = "en"
PREFIX = "TextualInversion"

Texts = dict[str, str]
"""Where a text is, as file.key.key… -> the text."""


def english(definitions: Mapping[str, Definition]) -> Texts:
    """What the server's nodes say about themselves, in the places where the page looks for it.

    An output that is called like its type has no name of its own: the page translates types.
    """
    texts: Texts = {}
    for node, definition in definitions.items():
        if not node.startswith(PREFIX):
            continue
        for category in definition["category"].split("/"):
            texts[f"main.nodeCategories.{category}"] = category
        place = f"nodeDefs.{node}"
        texts[f"{place}.display_name"] = definition["display_name"]
        texts[f"{place}.description"] = definition["description"]
        for name, _, options, _ in inputs_of(definition):
            texts[f"{place}.inputs.{name}.name"] = options.get("display_name") or name
            texts[f"{place}.inputs.{name}.tooltip"] = options.get("tooltip", "")
        outputs = zip(
            definition["output"],
            definition["output_name"],
            definition["output_tooltips"],
            strict=True,
        )
        for number, (kind, name, tooltip) in enumerate(outputs):
            texts[f"{place}.outputs.{number}.name"] = name if name != kind else ""
            texts[f"{place}.outputs.{number}.tooltip"] = tooltip or ""
    return {place: text for place, text in texts.items() if text}


def read(language: str) -> Texts:
    """All texts of a language's files."""
    return {
        place: text
        for path in (LOCALES / language).glob("*.json")
        for place, text in _flat(path.stem, json.loads(path.read_text(encoding="utf-8")))
    }


def write(language: str, texts: Texts) -> None:
    """Write a language's files, one for each first part of the places."""
    files: dict[str, Any] = {}
    for place, text in texts.items():
        *parts, last = place.split(".")
        inner = files
        for part in parts:
            inner = inner.setdefault(part, {})
        inner[last] = text
    for stem, content in files.items():
        path = LOCALES / language / f"{stem}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def refresh(definitions: Mapping[str, Definition]) -> Iterator[str]:
    """Bring the files up to date, and tell each translation that is taken out."""
    before, now = read(ENGLISH), english(definitions)
    write(ENGLISH, now)
    for folder in sorted(LOCALES.iterdir()):
        if folder.name == ENGLISH or not folder.is_dir():
            continue
        translated = read(folder.name)
        for place, text in translated.items():
            if before.get(place) != now.get(place):
                yield f"{folder.name} {place}: {text}"
        kept = {p: translated[p] for p in now if p in translated and before.get(p) == now[p]}
        write(folder.name, kept)


def fill_help_pages(definitions: Mapping[str, Definition]) -> None:
    """Fill the lists of the help pages in the languages that are complete."""
    for path in sorted(HELP.glob("*/*.md")):
        node, language = path.parent.name, path.stem
        texts = read(language)
        if english(definitions).keys() <= texts.keys():
            page = path.read_text(encoding="utf-8")
            page = filled(page, language, node, definitions[node], texts)
            path.write_text(page, encoding="utf-8")


def _flat(place: str, content: Any) -> Iterator[tuple[str, str]]:
    if isinstance(content, str):
        yield place, content
        return
    for key, inner in content.items():
        yield from _flat(f"{place}.{key}", inner)


if __name__ == "__main__":
    with urlopen(f"{sys.argv[1]}/object_info") as answer:
        served = json.load(answer)
    for line in refresh(served):
        print(line)
    fill_help_pages(served)
