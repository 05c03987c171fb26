"""The nodes' help pages in other languages, as the page looks for them: `NODE/LANGUAGE.md`.

The prose is written by people. The lists of inputs and outputs, between marks that the page does
not show, are the names and tooltips of `locales/`; `support.locales` fills them in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from .paths import ROOT
from .workflows import Definition, inputs_of

HELP = ROOT / "js" / "docs"

DEFAULT = {"de": " Standard: {}.", "ja": "デフォルト：{}。", "zh": "默认：{}。"}
COLON = {"de": ": ", "ja": "：", "zh": "："}
ON_OFF = {"de": ("an", "aus"), "ja": ("オン", "オフ"), "zh": ("开启", "关闭")}

LIST = re.compile(r"<!-- (inputs|outputs) -->\n(?:- .*\n)*")


def page_of(node: str, language: str) -> Path:
    """Where a translated page is."""
    return HELP / node / f"{language}.md"


def filled(
    page: str, language: str, node: str, definition: Definition, texts: Mapping[str, str]
) -> str:
    """A page with its lists made anew.

    Args:
        page: the text of the page.
        language: one of `DEFAULT`.
        node: its id.
        definition: what the server says about it.
        texts: of the language, as `locales.read` gives them.
    """
    lists = {
        "inputs": _inputs(language, node, definition, texts),
        "outputs": _outputs(language, node, definition, texts),
    }
    return LIST.sub(lambda mark: "\n".join([f"<!-- {mark[1]} -->", *lists[mark[1]], ""]), page)


def prose(page: str) -> str:
    """A page, also an English one, without its lists of inputs and outputs."""
    return re.sub(r"^- \*\*\w+\*\*: .*\n", "", LIST.sub("", page), flags=re.MULTILINE)


def skeleton(page: str) -> list[str]:
    """What each line of a page's prose is: a heading, an item, a paragraph."""
    marks = (re.match(r"#+ |- |\d\. |", line) for line in prose(page).splitlines() if line.strip())
    return [mark[0].strip() if mark else "" for mark in marks]


def _inputs(
    language: str, node: str, definition: Definition, texts: Mapping[str, str]
) -> Iterator[str]:
    for name, _, options, _ in inputs_of(definition):
        place = f"nodeDefs.{node}.inputs.{name}"
        item = _item(language, texts[f"{place}.name"], name, texts[f"{place}.tooltip"])
        default = options.get("default", "")
        if isinstance(default, bool):
            default = ON_OFF[language][not default]
        yield item + DEFAULT[language].format(default) if default != "" else item


def _outputs(
    language: str, node: str, definition: Definition, texts: Mapping[str, str]
) -> Iterator[str]:
    for number, name in enumerate(definition["output_name"]):
        place = f"nodeDefs.{node}.outputs.{number}"
        label = texts.get(f"{place}.name", name)
        yield _item(language, label, name, texts[f"{place}.tooltip"])


def _item(language: str, label: str, name: str, tooltip: str) -> str:
    known_as = "" if label.lower() == name.lower() else f" (`{name}`)"
    return f"- **{label}**{known_as}{COLON[language]}{tooltip}"
