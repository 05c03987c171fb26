"""What the README and docs/ say is what the code does: defaults, error messages, paths."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from PIL import Image
from support.paths import ROOT
from textual_inversion.trainer.cli import main as cli
from textual_inversion.trainer.settings import RatingSettings, Settings, described_fields
from textual_inversion.trainer.version import VERSION

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = ROOT / "docs"


def section(page: str, title: str) -> str:
    text = (DOCS / page).read_text(encoding="utf-8")
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def first_columns(table: str, count: int) -> list[list[str]]:
    """The first cells of each row of a section's table, without its head."""
    rows = [line.strip("|").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row[:count]] for row in rows[2:]]


def shown(default: object) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default) or "(empty)"


def test_defaults() -> None:
    defaults = {f"`{f.name}`": shown(f.default) for f, _ in described_fields(Settings)} | {
        "`overwrite`": "false"
    }
    rows = first_columns(section("settings.md", "The settings that matter"), 2)
    assert len(rows) > 5
    for name, default in rows:
        assert defaults[name] == default


OF_OTHERS = {"--nproc-per-node", "--textual_inversion_embeddings", "--weights", "--token_string"}
"""Options of torchrun and of kohya's scripts."""


@pytest.mark.parametrize("page", ["command-line.md", "formats.md"])
def test_options_are_those_of_the_parsers(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", "bash"]) == 0
    known = {*re.findall(r"--[\w-]+", capsys.readouterr().out)} | OF_OTHERS
    text = (DOCS / page).read_text(encoding="utf-8")
    named = {*re.findall(r"(?<![\w|-])--[a-z][\w-]*", text)}
    assert len(named) > 5
    assert named <= known


def test_error_messages_are_real() -> None:
    """Every part of a quoted message occurs in the code; “…” stands for what differs."""
    sources = [p for folder in ("nodes", "trainer") for p in (ROOT / folder).rglob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    # Texts are written in several literals, one for each line.
    code = re.sub(r'"\s*\n\s*f?"', "", code)
    rows = first_columns(section("troubleshooting.md", "Trouble and answers"), 1)
    assert len(rows) > 10
    for (message,) in rows:
        for part in message.split("…"):
            part = part.strip("“”() ")
            assert part in code, part


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) for heading in headings}


def test_links_lead_somewhere() -> None:
    """Links to files and to headings, also those of other pages."""
    pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    for page in [*pages, *sorted(DOCS.rglob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
            linked = page.parent / unquote(target) if target else page
            assert linked.exists(), f"{page.name} links to {target}"
            if anchor:
                found = anchors(linked.read_text(encoding="utf-8"))
                assert anchor in found, f"{page.name} links to {target}#{anchor}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    linked = set(re.findall(r"\]\(docs/([^)#]+)", README))
    assert {page.name for page in DOCS.glob("*.md")} <= linked


def test_the_guide_names_what_exists() -> None:
    """Settings, nodes' titles and templates; file names and values are told by their form."""
    guide = (DOCS / "guide.md").read_text(encoding="utf-8")
    known = {f.name for kind in (Settings, RatingSettings) for f, _ in described_fields(kind)}
    known |= {"strength", "end_percent", "unlike_images"}
    for name in re.findall(r"`([a-z]+(?:_[a-z]+)+)`", guide):
        assert name in known, name
    templates = {path.stem for path in (ROOT / "example_workflows").glob("*.json")}
    named = set(re.findall(r"\*\*(\d [A-Z][^*]+)\*\*", guide + README))
    assert named
    assert named <= templates


def test_ci_finds_the_test_line() -> None:
    line = next(line for line in README.splitlines() if 'pip install -e ".[test]"' in line)
    assert line == 'pip install -e ".[test]" && pytest'


def test_one_version_everywhere() -> None:
    """The newest release in the changelog is the version, unless changes wait for the next."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{VERSION}"\n' in project
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", changes, re.MULTILINE)
    assert released[0] == VERSION


def test_what_the_owner_fills_in_is_listed() -> None:
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = contributing.split("\n## Publishing\n")[1].split("\n## ")[0]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for key in re.findall(r"^(\w+) = .*OWNER", project, re.MULTILINE):
        assert f"`{key}`" in listed, key


def test_icon_and_banner_are_as_the_registry_takes_them() -> None:
    with Image.open(DOCS / "art" / "icon.png") as icon:
        assert icon.width == icon.height <= 400
    with Image.open(DOCS / "art" / "banner.png") as banner:
        assert banner.width * 9 == banner.height * 21
