"""Rate Pictures in ComfyUI's own page: with mouse and keys, undone, kept, and refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from support.client import Host

pytest.importorskip("playwright", reason="the Python package playwright is not installed")

from playwright.sync_api import expect
from support.browser import IN_A_BROWSER
from textual_inversion.trainer.runs.ratings import LIKED, RatingFolder

if TYPE_CHECKING:
    from playwright.sync_api import Locator
    from support.browser import ComfyPage

RATE = "TextualInversionRate"
PROMPT = "a mug on a <b>table</b>"

pytestmark = IN_A_BROWSER


def ratings(host: Host, name: str) -> RatingFolder:
    return RatingFolder(host.server.base / "output" / "textual_inversion_ratings" / name)


def add_waiting(host: Host, name: str, count: int) -> list[str]:
    """Pictures that wait for their ratings; returns their keys in order."""
    folder = ratings(host, name)
    colours = [torch.rand(3, generator=torch.Generator().manual_seed(i)) for i in range(count)]
    return [folder.add(colour.expand(64, 96, 3), PROMPT).key for colour in colours]


def said(host: Host, name: str) -> dict[str, str]:
    """What is kept, by the keys of the pictures."""
    return {rating.key: rating.rating for rating in ratings(host, name).all()}


def open_nodes(comfy: ComfyPage, design: str, name: str, count: int = 1) -> None:
    """A graph of nodes that rate, opened as if from a file."""
    comfy.setting("Comfy.VueNodes.Enabled", design == "vue")
    comfy.leave_only(RATE)
    comfy.set_widgets(RATE, {"name": name})
    graph = comfy.page.evaluate(
        """count => {
            const graph = window.app.rootGraph;
            for (let i = 1; i < count; i++) {
                const node = graph.nodes[0].clone();
                node.pos = [graph.nodes[0].pos[0] + 450 * i, graph.nodes[0].pos[1]];
                graph.add(node);
            }
            return graph.serialize();
        }""",
        count,
    )
    comfy.load(graph)
    comfy.look_at(RATE)


def wait_for_tally(comfy: ComfyPage, text: str, panel: int = 0) -> None:
    tally = comfy.page.locator(".ti-rating .ti-title").nth(panel)
    expect(tally).to_have_text(text, timeout=60_000)


def shown(panel: Locator) -> str:
    """The key of the picture that is shown."""
    address = panel.locator(".ti-framed .ti-picture").get_attribute("src") or ""
    return address.rpartition("key=")[2]


@pytest.mark.parametrize("design", ["classic", "vue"])
def test_pictures_are_rated_with_mouse_and_keys_and_kept(
    page_host: Host, comfy: ComfyPage, design: str, name: str
) -> None:
    page = comfy.page
    keys = add_waiting(page_host, name, 6)
    comfy.setting("Comfy.ColorPalette", "light" if design == "vue" else "dark")
    open_nodes(comfy, design, name)
    panel = page.locator(".ti-rating")
    wait_for_tally(comfy, "0 of 12 pairs; 6 pictures wait")
    assert panel.locator(".ti-rate-prompt").inner_text() == PROMPT
    assert shown(panel) == keys[0]

    panel.get_by_role("button", name="Like", exact=True).click()
    assert shown(panel) == keys[1]
    wait_for_tally(comfy, "0 of 12 pairs; 5 pictures wait")
    # The panel has the focus now. The node is selected: what its keys do would be seen.
    page.evaluate("window.app.canvas.selectNode(window.app.rootGraph.nodes[0])")
    page.keyboard.press("ArrowLeft")
    assert shown(panel) == keys[2]
    wait_for_tally(comfy, "1 of 12 pairs; 4 pictures wait")
    page.keyboard.press("s")
    page.keyboard.press("Delete")
    page.keyboard.press("ArrowUp")
    wait_for_tally(comfy, "1 of 12 pairs; 3 pictures wait")
    assert said(page_host, name) == dict(
        zip(keys, ("liked", "disliked", "skipped", "", "", ""), strict=True)
    )
    marks = [panel.locator(".ti-thumbnail i").nth(i).get_attribute("class") for i in range(3)]
    assert [mark.rpartition("ti-")[2] for mark in marks if mark] == ["skipped", "disliked", "liked"]

    # Taken back one by one, and forward again in the order in which they were.
    page.keyboard.press("Backspace")
    assert shown(panel) == keys[2]
    page.keyboard.press("Control+z")
    assert shown(panel) == keys[1]
    wait_for_tally(comfy, "0 of 12 pairs; 5 pictures wait")
    page.keyboard.press("d")
    assert shown(panel) == keys[2]
    wait_for_tally(comfy, "1 of 12 pairs; 4 pictures wait")

    # One that is rated is looked at again, and rated anew.
    panel.locator(".ti-thumbnail").last.click()
    assert shown(panel) == keys[0]
    assert (
        panel.get_by_role("button", name="Like", exact=True).get_attribute("aria-pressed") == "true"
    )
    assert "Liked." in panel.locator(".ti-rate-hint").inner_text()
    page.keyboard.press("Escape")
    assert shown(panel) == keys[2]
    panel.locator(".ti-thumbnail").last.click()
    panel.get_by_role("button", name="Continue").click()
    assert shown(panel) == keys[2]
    panel.locator(".ti-thumbnail").last.click()
    page.keyboard.press("ArrowDown")
    wait_for_tally(comfy, "0 of 12 pairs; 4 pictures wait")
    assert said(page_host, name)[keys[0]] == "skipped"

    # What is rated in a moment is kept, even if the page is loaded again at once.
    for key in ("l", "d", "l", "s"):
        page.keyboard.press(key)
    page.evaluate("window.app.canvas.selectNode(window.app.rootGraph.nodes[0])")
    comfy.open()
    comfy.look_at(RATE)
    wait_for_tally(comfy, "2 of 12 pairs; no pictures wait")
    assert "Run the graph again" in panel.locator(".ti-rate-hint").inner_text()
    assert panel.locator(".ti-framed .ti-picture").count() == 0
    assert sorted(said(page_host, name).values()) == [
        "disliked",
        "disliked",
        "liked",
        "liked",
        "skipped",
        "skipped",
    ]
    panel.locator(".ti-rate-hint").click()
    page.keyboard.press("z")
    wait_for_tally(comfy, "2 of 12 pairs; 1 picture waits")
    assert page.evaluate("window.app.rootGraph.nodes.length") == 1


@pytest.mark.parametrize("place", ["panel", "button", "thumbnail"])
def test_what_is_taken_back_in_the_panel_stays_in_the_graph(
    page_host: Host, comfy: ComfyPage, place: str, name: str
) -> None:
    """The page listens for Ctrl+Z before anything in it can; it still saves with Ctrl+S."""
    page = comfy.page
    add_waiting(page_host, name, 3)
    open_nodes(comfy, "classic", name)
    panel = page.locator(".ti-rating")
    wait_for_tally(comfy, "0 of 12 pairs; 3 pictures wait")
    page.evaluate(
        """() => {
            const { changeTracker } = window.app.extensionManager.workflow.activeWorkflow;
            const note = () => (changeTracker.captureCanvasState ?? changeTracker.checkState)
                .call(changeTracker);
            note();
            window.moved = window.app.rootGraph.nodes[0];
            window.moved.pos[0] += 10;
            note();
        }"""
    )
    panel.get_by_role("button", name="Like", exact=True).click()
    wait_for_tally(comfy, "0 of 12 pairs; 2 pictures wait")
    if place == "panel":
        panel.focus()
    elif place == "thumbnail":
        panel.locator(".ti-thumbnail").focus()
    page.keyboard.press("Control+z")
    wait_for_tally(comfy, "0 of 12 pairs; 3 pictures wait")
    page.wait_for_timeout(500)  # An undo loads the graph anew, with other nodes.
    assert page.evaluate("window.moved === window.app.rootGraph.nodes[0]")
    page.evaluate(
        """window.addEventListener("keydown", (event) => {
            window.taken = event.key === "s" && event.defaultPrevented;
        })"""
    )
    page.keyboard.press("Control+s")
    assert page.evaluate("window.taken"), "the browser would save the page as a file"


@pytest.mark.parametrize("design", ["classic", "vue"])
def test_a_refused_rating_is_taken_back_with_a_sentence(
    page_host: Host, comfy: ComfyPage, design: str, name: str
) -> None:
    """In two nodes of one name, which show the same."""
    page = comfy.page
    keys = add_waiting(page_host, name, 3)
    open_nodes(comfy, design, name, count=2)
    one, other = (page.locator(".ti-rating").nth(i) for i in range(2))
    for i in range(2):
        wait_for_tally(comfy, "0 of 12 pairs; 3 pictures wait", i)
    one.locator(".ti-framed").click()
    # The page must know nothing of what is deleted below: its lists come before this answer.
    with page.expect_response("**/textual_inversion/ratings"):
        page.keyboard.press("ArrowRight")
    wait_for_tally(comfy, "0 of 12 pairs; 2 pictures wait", 1)
    assert shown(other) == shown(one) == keys[1]

    # Somebody has deleted its picture.
    ratings(page_host, name).picture_file(keys[1]).unlink()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('.ti-rating .ti-refusal').textContent")
    refusal = one.locator(".ti-refusal")
    assert "have no picture" in refusal.inner_text()
    for i in range(2):
        wait_for_tally(comfy, "0 of 12 pairs; 1 picture waits", i)
    assert shown(other) == shown(one) == keys[2]

    page.route("**/textual_inversion/ratings", lambda route: route.abort())
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(
        "document.querySelector('.ti-rating .ti-refusal').textContent.includes('does not answer')"
    )
    wait_for_tally(comfy, "0 of 12 pairs; 1 picture waits", 1)
    assert shown(one) == keys[2]
    page.unroute("**/textual_inversion/ratings")
    page.keyboard.press("ArrowLeft")
    wait_for_tally(comfy, "1 of 12 pairs; no pictures wait", 1)
    assert not refusal.inner_text()
    assert said(page_host, name) == {keys[0]: "liked", keys[2]: "disliked"}
    comfy.complaints.clear()  # the page itself writes what is refused to the console


ONE_SIDE = """name => {
    const graph = window.app.rootGraph, [load] = graph.nodes;
    const [model, train] = ["DemoModel", "TrainRatings"].map((type, i) => {
        const node = LiteGraph.createNode(`TextualInversion${type}`);
        node.pos = [load.pos[0] + 350 * i, load.pos[1] + 300 * (1 - i)];
        graph.add(node);
        return node;
    });
    load.widgets.find((widget) => widget.name === "name").value = name;
    for (const output of [0, 1, 2]) model.connect(output, train, output);
    for (const output of [0, 1, 2, 3]) load.connect(output, train, 3 + output);
}"""


@pytest.mark.parametrize("design", ["classic", "vue"])
def test_that_nothing_is_disliked_is_told_on_the_node_that_trains(
    page_host: Host, comfy: ComfyPage, design: str, name: str
) -> None:
    """In this pack's sentence alone."""
    for key in add_waiting(page_host, name, 2):
        ratings(page_host, name).rate(key, LIKED)
    comfy.setting("Comfy.VueNodes.Enabled", design == "vue")
    comfy.leave_only("TextualInversionLoadRatings")
    comfy.page.evaluate(ONE_SIDE, name)
    comfy.queue()
    refusal = comfy.page.locator(".ti-panel .ti-refusal", has_text="nothing can be compared")
    refusal.wait_for()
    assert refusal.inner_text().startswith("There are no disliked pictures (liked: 2)")
    comfy.complaints.clear()  # the page itself writes what is refused to the console


GRAPH = """name => {
    const graph = window.app.rootGraph, [rate] = graph.nodes;
    const add = (type) => {
        const node = LiteGraph.createNode(type);
        node.pos = [rate.pos[0] - 400, rate.pos[1]];
        graph.add(node);
        return node;
    };
    const set = (node, values) => {
        for (const widget of node.widgets) {
            if (widget.name in values) widget.value = values[widget.name];
        }
    };
    const input = (name) => rate.inputs.findIndex((one) => one.name === name);
    const images = add("EmptyImage"), text = add("PrimitiveString");
    set(images, { width: 64, height: 64, batch_size: 2, color: 255 });
    set(text, { value: name });
    set(rate, { prompt: "a blue wall" });
    images.connect(0, rate, input("images"));
    text.connect(0, rate, input("name"));
}"""


def test_what_the_graph_draws_waits_under_the_name_that_it_gives(
    page_host: Host, comfy: ComfyPage, name: str
) -> None:
    page = comfy.page
    open_nodes(comfy, "classic", "unused")
    page.evaluate(GRAPH, name)
    wait_for_tally(comfy, "0 of 12 pairs; no pictures wait")
    assert "Run the graph:" in page.locator(".ti-rate-hint").inner_text()
    comfy.queue()
    # Both of the batch are one picture, which is there once.
    wait_for_tally(comfy, "0 of 12 pairs; 1 picture waits")
    (key,) = said(page_host, name)
    assert shown(page.locator(".ti-rating")) == key
    # Also in a graph that is opened again, of which the server has not run anything.
    comfy.load(page.evaluate("window.app.rootGraph.serialize()"))
    wait_for_tally(comfy, "0 of 12 pairs; 1 picture waits")

    # Another node that rates what this one shows, after it has ended.
    page.evaluate(
        """() => {
            const graph = window.app.rootGraph;
            const rate = graph.nodes.find((node) => node.comfyClass === "TextualInversionRate");
            const [judge, told] = ["TextualInversionDemoJudge", "PreviewAny"].map((type, i) => {
                const node = LiteGraph.createNode(type);
                node.pos = [rate.pos[0] + 450 * (i + 1), rate.pos[1]];
                graph.add(node);
                return node;
            });
            rate.connect(0, judge, 0);
            judge.connect(0, told, 0);
        }"""
    )
    comfy.queue()
    wait_for_tally(comfy, "0 of 12 pairs; no pictures wait")
    assert said(page_host, name) == {key: "skipped"}
