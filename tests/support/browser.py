"""ComfyUI's page in a real browser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import ConsoleMessage, Page, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in _NAMES if (path := shutil.which(name))), None)
"""Where a browser is; Playwright brings none of its own."""

IN_A_BROWSER = [
    pytest.mark.skipif(
        CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"
    ),
    # A page that is drawn while a model trains on the same processor may answer too late.
    pytest.mark.flaky(reruns=2, reruns_delay=5),
]
"""Marks of tests that need a browser."""

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--mute-audio",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip

TRAIN = "TextualInversionTrain"

_OF_THE_PAGE = (
    # It asks the internet about models of its own first graph, and does not let itself.
    "Content Security Policy",
    # Its own words for something that is dragged from elsewhere onto the graph.
    "Pointer cancel!",
    # How it lays out its own side bars.
    "Layout normalization",
    # A message about a run can come before the page has loaded any extension.
    "Unhandled message",
)
"""What a console says that has nothing to do with this pack, whenever it comes."""

_HELPERS = """() => {
  window.trainNode = () =>
    window.app.rootGraph.nodes.find((node) => node.comfyClass === "TextualInversionTrain");
}"""


_WHO_COMPLAINS = """for (const kind of ["error", "warn"]) {
    const say = console[kind];
    console[kind] = (...words) => say(...words, "\\n" + new Error().stack);
}"""
"""Adds to every complaint the files that led to it: the page has one function for all of them."""


class ComfyPage:
    """A page of one server.

    `complaints` are the errors and warnings in its console; with `ours_only` those that a file of
    this pack had a part in. A page that is newer than this pack may complain of itself.
    """

    def __init__(self, page: Page, url: str, ours_only: bool = False) -> None:
        self.page = page
        self.url = url
        self.ours_only = ours_only
        self.complaints: list[str] = []
        page.add_init_script(_WHO_COMPLAINS)
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.set_default_timeout(120_000)

    def open(self) -> None:
        """Open or reload the page, and wait until a graph can be worked with."""
        earlier, self.complaints = self.complaints, []
        # Else a dialog of templates covers everything at the first start.
        request = Request(
            f"{self.url}/api/settings",
            b'{"Comfy.TutorialCompleted": true}',
            {"Content-Type": "application/json"},
        )
        urlopen(request).close()
        self.page.goto(self.url)
        self.page.wait_for_function("window.app?.isGraphReady && window.app.extensionManager")
        # The page opens a graph by itself, the last one or its own, after it says it is ready.
        self.page.wait_for_function("window.app.rootGraph.nodes.length > 0")
        self.page.wait_for_timeout(500)
        self.page.evaluate(_HELPERS)
        # Until here the page complains of itself: of old menus of its own, of files not there yet.
        self.complaints = earlier + [text for text in self.complaints if _is_ours(text)]

    @contextmanager
    def another(self) -> Iterator[ComfyPage]:
        """A second browser of the same server, which shares nothing with this one."""
        browser = self.page.context.browser
        assert browser is not None
        context = browser.new_context(viewport=self.page.viewport_size)
        try:
            yield ComfyPage(context.new_page(), self.url, self.ours_only)
        finally:
            context.close()

    def load(self, workflow: dict[str, Any]) -> None:
        """Open a workflow as if it had been chosen."""
        self.page.evaluate("workflow => window.app.loadGraphData(workflow)", workflow)

    def set_widgets(self, node_class: str, values: dict[str, Any]) -> None:
        """Give values to the inputs of all nodes of a class."""
        self.page.evaluate(
            """([type, values]) => {
                for (const node of window.app.rootGraph.nodes)
                    if (node.comfyClass === type)
                        for (const widget of node.widgets)
                            if (widget.name in values) widget.value = values[widget.name];
            }""",
            [node_class, values],
        )

    def look_at(self, node_class: str) -> None:
        """Move the graph so that a node is seen; what is not seen is not drawn."""
        self.page.evaluate(
            """type => {
                const node = window.app.rootGraph.nodes.find((node) => node.comfyClass === type);
                const { ds } = window.app.canvas;
                ds.scale = 0.75;
                ds.offset = [500 - node.pos[0], 120 - node.pos[1]];
                window.app.canvas.setDirty(true, true);
            }""",
            node_class,
        )

    def leave_only(self, node_class: str) -> None:
        """Make the graph one node of a class, and look at it."""
        self.page.evaluate(
            """type => {
                const graph = window.app.rootGraph;
                [...graph.nodes].forEach((node) => graph.remove(node));
                graph.add(LiteGraph.createNode(type));
            }""",
            node_class,
        )
        self.look_at(node_class)

    def queue(self) -> None:
        """Press Run."""
        self.page.evaluate("window.app.queuePrompt(0)")

    def wait_for_title(self, pattern: str) -> None:
        """Wait until the headline of the first panel of a run has this regular expression."""
        self.page.wait_for_function(
            """pattern =>
                new RegExp(pattern).test(document.querySelector(".ti-title")?.textContent ?? "")""",
            arg=pattern,
        )

    def setting(self, name: str, value: Any) -> None:
        """Change one of the page's own settings."""
        self.page.evaluate(
            "([name, value]) => window.app.extensionManager.setting.set(name, value)", [name, value]
        )

    def _note(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        complaint = f"{message.type}: {message.text} ({message.location.get('url', '')})"
        foreign = any(part in message.text for part in _OF_THE_PAGE)
        if not foreign and (_is_ours(complaint) or not self.ours_only):
            self.complaints.append(complaint)


def _is_ours(complaint: str) -> bool:
    return "textual" in complaint.lower()


@contextmanager
def browser_page(
    url: str, width: int = 1500, height: int = 950, *, ours_only: bool = False, dense: int = 1
) -> Iterator[ComfyPage]:
    """A browser of its own, without anything that another one has stored; see `ComfyPage`.

    `dense` is how many pixels of the screen, each way, make one of the page's.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_page(
            viewport={"width": width, "height": height}, device_scale_factor=dense
        )
        try:
            yield ComfyPage(page, url, ours_only)
        finally:
            browser.close()


def read_workflow(path: Path) -> dict[str, Any]:
    """A template."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
