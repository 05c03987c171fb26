"""ComfyUI's page shows a node's help in the language that its user has chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.client import Host
from support.help_pages import page_of
from support.paths import template

pytest.importorskip("playwright", reason="the Python package playwright is not installed")

from support.browser import IN_A_BROWSER, TRAIN, browser_page, read_workflow

if TYPE_CHECKING:
    from support.browser import ComfyPage

TEMPLATE = template(1)

pytestmark = IN_A_BROWSER


def test_help_comes_in_the_language_of_the_page(host: Host) -> None:
    with browser_page(host.server.url) as comfy:
        comfy.open()
        comfy.setting("Comfy.Locale", "ja")
        try:
            comfy.open()
            comfy.load(read_workflow(TEMPLATE))
            comfy.page.wait_for_function("window.trainNode()")
            _ask_for_help(comfy)
            page = page_of(TRAIN, "ja").read_text(encoding="utf-8")
            heading = page.split("\n## ")[1].splitlines()[0]
            comfy.page.get_by_role("heading", name=heading, exact=True).wait_for()
            assert "<!--" not in comfy.page.inner_text("body")
        finally:
            comfy.setting("Comfy.Locale", "en")


def _ask_for_help(comfy: ComfyPage) -> None:
    comfy.look_at(TRAIN)
    # The buttons of what is selected are above it, and must not lie under the page's own bars.
    comfy.page.evaluate("window.app.canvas.ds.offset[1] += 150")
    comfy.page.evaluate("window.app.canvas.selectItems([window.trainNode()])")
    comfy.page.locator("[data-testid=info-button]").click()
