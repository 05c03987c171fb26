"""The embeddings tab beside the graph: its cards, their order, and what a drop says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file
from support.client import Host
from support.paths import template

pytest.importorskip("playwright", reason="the Python package playwright is not installed")

from support.browser import IN_A_BROWSER, read_workflow

if TYPE_CHECKING:
    from support.browser import ComfyPage

pytestmark = IN_A_BROWSER

WORDS = ("shelf-2", "shelf-10", "shelf/shelf-inner", "shelf mug")
"""From the oldest to the newest."""


@pytest.fixture(scope="module")
def host(page_host: Host) -> Host:
    """A server with a few words and a file that is none."""
    folder = page_host.embeddings
    (folder / "shelf").mkdir(exist_ok=True)
    for age, name in enumerate(WORDS):
        path = folder / f"{name}.safetensors"
        save_file({"emb_params": torch.rand(age + 1, 768)}, path)
        os.utime(path, (1_700_000_000 + age, 1_700_000_000 + age))
    (folder / "shelf-broken.safetensors").write_bytes(b"not an embedding")
    return page_host


def open_tab(comfy: ComfyPage, design: str) -> None:
    comfy.setting("Comfy.VueNodes.Enabled", design == "vue")
    comfy.load(read_workflow(template(5)))
    comfy.page.evaluate(
        "window.app.extensionManager.sidebarTab.toggleSidebarTab('textual-inversion-embeddings')"
    )
    comfy.page.locator(".ti-search").fill("shelf")
    comfy.page.wait_for_selector(".ti-broken")


def test_cards_stand_in_order_and_are_of_one_size(host: Host, comfy: ComfyPage) -> None:
    open_tab(comfy, "classic")
    page = comfy.page
    names = page.locator(".ti-name")
    newest_first = ["shelf mug", "shelf-inner", "shelf-10", "shelf-2", "shelf-broken"]
    assert names.all_inner_texts() == newest_first
    page.locator(".ti-order").select_option("name")
    assert names.all_inner_texts() == [
        "shelf mug", "shelf-2", "shelf-10", "shelf-inner", "shelf-broken",
    ]  # fmt: skip
    page.locator(".ti-folder").select_option("shelf")
    assert names.all_inner_texts() == ["shelf-inner"]
    page.locator(".ti-folder").select_option("")

    broken = page.locator(".ti-broken")
    assert "shelf-broken" in broken.locator(".ti-facts").inner_text()
    assert broken.locator("button").count() == 0

    for width in (180, 300, 620):
        page.evaluate(
            "width => document.querySelector('.ti-embeddings').style.width = `${width}px`", width
        )
        boxes = page.evaluate(
            """() => [...document.querySelectorAll('.ti-card')].map((card) => {
                const { x, width, height } = card.getBoundingClientRect();
                return [Math.round(x), Math.round(width), Math.round(height)];
            })"""
        )
        assert len({(across, high) for _, across, high in boxes}) == 1, width
        assert len({x for x, _, _ in boxes}) >= 2, width

    icon = "getComputedStyle(document.querySelector('.ti-tab-icon'))"
    assert "svg" in page.evaluate(f"{icon}.maskImage || {icon}.webkitMaskImage")


@pytest.mark.parametrize("design", ["classic", "vue"])
def test_a_drop_into_a_prompt_that_cannot_work_says_why(
    host: Host, comfy: ComfyPage, design: str
) -> None:
    open_tab(comfy, design)
    page = comfy.page
    comfy.leave_only("CLIPTextEncode")
    prompt = page.locator("textarea:visible").first
    before = prompt.input_value()
    page.locator(".ti-card[title='shelf mug.safetensors']").drag_to(prompt)
    page.get_by_text("A prompt cannot name “shelf mug”").first.wait_for()
    assert prompt.input_value() == before
    page.locator(".ti-card[title='shelf-2.safetensors']").drag_to(prompt)
    assert "embedding:shelf-2" in prompt.input_value()


@pytest.mark.parametrize("secure", [True, False], ids=["secure", "over plain HTTP"])
def test_how_a_prompt_names_a_word_is_copied(host: Host, comfy: ComfyPage, secure: bool) -> None:
    """Also from another computer in the network, where browsers have no clipboard for a page."""
    open_tab(comfy, "classic")
    page = comfy.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    if not secure:
        page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.locator(".ti-card[title='shelf-2.safetensors']").get_by_role("button", name="Copy").click()
    search = page.locator(".ti-search")
    search.fill("")
    search.press("Control+v")
    assert search.input_value() == "embedding:shelf-2"
