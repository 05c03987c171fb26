"""ComfyUI's own page in Chromium: training, watching, stopping, choosing, the embeddings tab."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.client import Host
from support.paths import template

pytest.importorskip("playwright", reason="the Python package playwright is not installed")

from support.browser import IN_A_BROWSER, TRAIN, read_workflow

if TYPE_CHECKING:
    from support.browser import ComfyPage

TEMPLATE = template(1)
HOSTILE = "<img src=x onerror=alert(1)>"
STRIP = ".ti-strip .ti-thumbnail"

pytestmark = IN_A_BROWSER


def open_template(comfy: ComfyPage, name: str, **changes: object) -> None:
    """The first template, for a word of its own and with a run that is long enough to be stopped.

    By the name in the file, the page would show what the same template has done before.
    """
    comfy.load(json.loads(TEMPLATE.read_text(encoding="utf-8").replace("my-flower", name)))
    values = {"steps": 2000, "batch_size": 1, "preview_every": 10, "save_every": 10, "previews": 0,
              "overwrite": True, "evaluations": 100}  # fmt: skip
    comfy.set_widgets(TRAIN, values | changes)
    comfy.look_at(TRAIN)


@pytest.mark.parametrize("design", ["classic", "vue"])
def test_a_run_is_live_survives_a_cancel_and_can_be_stopped(
    page_host: Host, comfy: ComfyPage, design: str, name: str
) -> None:
    page = comfy.page
    comfy.setting("Comfy.VueNodes.Enabled", design == "vue")
    comfy.setting("Comfy.ColorPalette", "light" if design == "vue" else "dark")
    open_template(comfy, name)
    title = page.locator(".ti-title").first
    assert title.inner_text().startswith("Run the graph")
    if design == "vue":  # which knows nothing of the height that the page asks for
        height = "trainNode().widgets.find((w) => w.name === 'training').options.getMinHeight()"
        panel = page.locator(".ti-panel").first
        assert panel.evaluate("panel => panel.offsetHeight") >= page.evaluate(height) > 0
    comfy.queue()
    page.wait_for_function(f"document.querySelectorAll('{STRIP}').length >= 2")
    line = "document.querySelector('path.ti-smoothed').getAttribute('d')"
    before = page.evaluate(line)
    page.wait_for_function(f"before => {line}.length > before.length", arg=before)
    assert title.inner_text().startswith("step ")

    page.locator("button.ti-toggle.ti-rate").first.dispatch_event("click")
    page.wait_for_selector("path.ti-rate", state="attached")

    # The picture of an earlier step stays while new ones come.
    page.locator(STRIP).first.dispatch_event("click")
    now = page.locator(".ti-now .ti-picture").first
    assert page.locator(".ti-now .ti-caption").first.inner_text() == "step 10"
    assert "step=10" in now.get_attribute("src")
    page.locator(STRIP).first.press("ArrowRight")
    assert "step=20" in now.get_attribute("src")
    # Beside it what it is compared with.
    stills = page.locator(".ti-stills .ti-picture")
    assert [("still=" + still) in (stills.nth(i).get_attribute("src") or "")
            for i, still in enumerate(("picture", "before"))] == [True, True]  # fmt: skip

    # A reload in the middle, after which the page opens the same graph by itself, and a second
    # browser with it.
    comfy.open()
    comfy.look_at(TRAIN)
    page.wait_for_function("document.querySelector('path.ti-smoothed')")
    comfy.wait_for_title("^step ")
    assert page.locator(STRIP).count() >= 2
    if design == "classic":
        with comfy.another() as second:
            second.open()
            open_template(second, name)
            second.page.wait_for_selector("path.ti-smoothed", state="attached")
            assert second.complaints == []

    open_template(comfy, name)
    page_host.interrupt()
    comfy.wait_for_title("^cut short")
    told = re.search(
        r"cut short at (\d+) of [\d,]+; kept as (\S+); Run continues", title.inner_text()
    )
    assert told[2] == f"{name}-interrupted"
    done = int(told[1])
    assert done >= 20
    comfy.queue()
    comfy.wait_for_title("^step ")
    step = int(re.match(r"step (\d+)", title.inner_text())[1])
    assert step > done

    # At a step that gets a picture anyway there would be nothing to see: ask until it is another.
    extra = f"[...document.querySelectorAll('{STRIP}')].filter(b => b.dataset.key % 10).length"
    for _ in range(60):
        page.locator(".ti-buttons button", has_text="Sample now").first.dispatch_event("click")
        page.wait_for_timeout(1000)
        if page.evaluate(extra):
            break
    assert page.evaluate(extra)
    page.locator(".ti-buttons button", has_text="Save now").first.dispatch_event("click")
    page.locator(".ti-notes", has_text=f"Saved as {name}-").first.wait_for()
    page.locator(".ti-buttons button", has_text="Stop and keep").first.dispatch_event("click")
    comfy.wait_for_title("^stop")
    comfy.wait_for_title("^stopped")
    assert f"saved as {name}" in title.inner_text()
    assert (page_host.embeddings / f"{name}.safetensors").is_file()
    assert list(page_host.embeddings.glob(f"{name}-*[0-9].safetensors"))
    runs = page_host.server.base / "output" / "textual_inversion"
    assert [path.name for path in runs.glob(f"{name}_*")] == [f"{name}_00001"]
    wait_until_idle(page_host)

    # The same settings in a graph that was made before the run was known.
    graph = read_workflow(TEMPLATE)
    (node,) = (node for node in graph["nodes"] if node["type"] == TRAIN)
    node["widgets_values"] = page.evaluate("trainNode().serialize().widgets_values")
    comfy.load(graph)
    comfy.look_at(TRAIN)
    comfy.wait_for_title("^stopped")
    assert page.locator(STRIP).count() >= 2


CHANGE = """([type, name, value]) => {
    const node = window.app.rootGraph.nodes.find((node) => node.comfyClass === type);
    const widget = node.widgets.find((widget) => widget.name === name);
    widget.value = value;
    widget.callback?.(value);
}"""
"""What the page does where its user changes an input."""

MARKED = """() => window.app.rootGraph.nodes.flatMap((node) =>
    node.inputs.filter((input) => input.hasErrors).map((input) => input.name))"""

OUTLINED = """() => [...document.querySelectorAll(".lg-node-widget, .lg-slot--input")]
    .filter((row) => getComputedStyle(row).outlineStyle === "solid")
    .map((row) => row.innerText.trim())"""


@pytest.mark.parametrize("design", ["classic", "vue"])
def test_a_refusal_stands_on_the_node_until_its_cause_goes(comfy: ComfyPage, design: str) -> None:
    """Of the page's own checks, of a run, and of a node without a panel."""
    page = comfy.page
    comfy.setting("Comfy.VueNodes.Enabled", design == "vue")
    open_template(comfy, "my mug", timesteps="sometimes")
    refusal = page.locator(".ti-refusal").first

    def wait_for(said: str, name: str) -> None:
        page.wait_for_function(
            "said => document.querySelector('.ti-refusal')?.textContent.includes(said)", arg=said
        )
        assert page.evaluate(MARKED) == [name]
        if design == "vue":
            page.wait_for_function(f"name => ({OUTLINED})().includes(name)", arg=name)

    page.evaluate(
        """() => {
            const node = trainNode();
            window.width = node.size[0];
            const frame = new LiteGraph.LGraphGroup("a frame");
            frame.pos = [node.pos[0] - 20, node.pos[1] - 80];
            frame.size = [node.size[0] + 40, node.size[1] + 100];
            window.app.rootGraph.add(frame);
        }"""
    )
    comfy.queue()
    wait_for("“my mug” cannot be the name of an embedding", "name")
    page.evaluate(CHANGE, [TRAIN, "seed", 1])
    assert refusal.inner_text()
    page.evaluate(CHANGE, [TRAIN, "name", "my-mug"])
    assert not refusal.inner_text()
    assert page.evaluate(OUTLINED) == []

    comfy.queue()
    wait_for("timesteps is “sometimes”", "timesteps")
    # It was folded away, as those of the other groups are now. The frame around the node holds it.
    seen = "name => trainNode().isWidgetVisible(trainNode().widgets.find(w => w.name === name))"
    assert page.evaluate(seen, "timesteps")
    if design == "classic":
        assert not page.evaluate(seen, "zoom")
        assert page.evaluate(
            """() => {
                const node = trainNode();
                const frame = app.rootGraph.groups.find(({ pos, size }) =>
                    pos[0] < node.pos[0] && node.pos[0] < pos[0] + size[0]
                    && pos[1] < node.pos[1] && node.pos[1] < pos[1] + size[1]);
                return node.size[0] === window.width
                    && frame.pos[1] + frame.size[1] > node.pos[1] + node.size[1];
            }"""
        )
    page.evaluate(CHANGE, [TRAIN, "timesteps", "all"])
    assert page.evaluate(MARKED) == []
    assert not refusal.inner_text()

    # Another graph has a node of the same number: it is not the one that was refused.
    page.evaluate(CHANGE, [TRAIN, "timesteps", "sometimes"])
    comfy.queue()
    wait_for("timesteps is “sometimes”", "timesteps")
    open_template(comfy, "your-mug")
    page.wait_for_timeout(1000)
    assert page.evaluate(OUTLINED) == []

    page.evaluate(
        """() => {
            [...window.app.rootGraph.nodes].forEach((node) => window.app.rootGraph.remove(node));
            const add = (type, x) => {
                const node = LiteGraph.createNode(type);
                node.pos = [x, 100];
                window.app.rootGraph.add(node);
                return node;
            };
            const [model, apply, shown] = [add("TextualInversionDemoModel", 0),
                add("TextualInversionApply", 400), add("PreviewAny", 900)];
            model.connect(1, apply, 0);
            apply.connect(0, shown, 0);
            window.applyNode = apply;
            window.size = [...apply.size];
        }"""
    )
    values = page.evaluate("window.applyNode.serialize().widgets_values")
    comfy.look_at("TextualInversionApply")
    comfy.queue()
    wait_for("There is no word: connect an embedding, or choose a file.", "embedding")
    assert page.evaluate("window.applyNode.serialize().widgets_values") == values
    page.evaluate(CHANGE, ["TextualInversionApply", "file", "some.safetensors"])
    page.wait_for_function("!document.querySelector('.ti-refusal')")
    if design == "classic":  # Nodes 2.0 measure themselves
        assert page.evaluate("[...window.applyNode.size]") == page.evaluate("window.size")
    comfy.complaints.clear()  # the page itself writes what is refused to the console


def test_a_step_is_chosen_by_its_picture(page_host: Host, comfy: ComfyPage) -> None:
    runs = page_host.server.base / "output" / "textual_inversion"
    make_run(runs / "choosable_00001")
    comfy.load({**read_workflow(TEMPLATE), "nodes": [], "links": [], "groups": []})
    comfy.page.evaluate(
        """() => {
            const node = LiteGraph.createNode("TextualInversionChoose");
            node.pos = [100, 100];
            window.app.rootGraph.add(node);
            const run = node.widgets.find((widget) => widget.name === "run");
            run.value = "choosable_00001";
            run.callback?.(run.value);
        }"""
    )
    comfy.page.locator(".ti-grid-of-steps .ti-thumbnail[data-key='20']").click()
    value = "window.app.rootGraph.nodes[0].widgets.find(w => w.name === 'step').value"
    assert comfy.page.evaluate(value) == 20
    saved = comfy.page.evaluate("window.app.rootGraph.serialize().nodes[0].widgets_values")
    assert saved == ["choosable_00001", 20]


def test_the_embeddings_tab(page_host: Host, comfy: ComfyPage) -> None:
    folder = page_host.embeddings
    save_file({"emb_params": torch.rand(3, 768)}, folder / f"{HOSTILE}.safetensors")
    save_file({"emb_params": torch.rand(2, 768)}, folder / "easynegative.safetensors")
    save_file({"emb_params": torch.rand(1, 768)}, folder / "plain-word.safetensors")
    (folder / "plain-word.preview.png").write_bytes(b"no picture at all")
    page = comfy.page
    page.route(
        "**/embeddings/preview?file=plain-word*",
        lambda route: route.fulfill(content_type="image/jpeg", body="no picture at all"),
    )
    page.on(
        "dialog", lambda dialog: pytest.fail(f"a file's name ran as a script: {dialog.message}")
    )
    comfy.setting("Comfy.VueNodes.Enabled", False)
    open_template(comfy, "unused")
    page.evaluate(
        "window.app.extensionManager.sidebarTab.toggleSidebarTab('textual-inversion-embeddings')"
    )
    page.wait_for_selector(".ti-card")
    assert page.locator(".ti-name", has_text="<img src=x").count() == 1
    search = page.locator(".ti-search")
    search.fill("negative")
    # By their files: other tests leave words of similar names in the folder.
    negative = page.locator(".ti-card[title='easynegative.safetensors']")
    plain = page.locator(".ti-card[title='plain-word.safetensors']")
    assert negative.locator(".ti-kind").inner_text() == "negative"
    assert plain.count() == 0

    # Onto the graph: a negative makes another node than a positive.
    graph = page.locator("#graph-canvas")
    negative.drag_to(graph, target_position={"x": 1100, "y": 600})
    node = "window.app.rootGraph.nodes.find(n => n.comfyClass === '{}')"
    chosen = f"{node}?.widgets.find(w => w.name === 'file').value"
    made = chosen.format("TextualInversionApplyNegative")
    page.wait_for_function(f"{made} === 'easynegative.safetensors'")
    search.fill("plain")
    # Its picture turned out to be none as it came into view.
    assert plain.locator(".ti-blank").inner_text() == "P"
    plain.drag_to(graph, target_position={"x": 1250, "y": 250})
    made = chosen.format("TextualInversionLoad")
    page.wait_for_function(f"{made} === 'plain-word.safetensors'")

    # Into a prompt.
    comfy.leave_only("CLIPTextEncode")
    prompt = page.locator("textarea.comfy-multiline-input:visible").first
    plain.drag_to(prompt)
    assert "embedding:plain-word" in prompt.input_value()
    # Other tests of this server look at its cards, too.
    (folder / "plain-word.preview.png").unlink()


def make_run(folder: Path) -> None:
    """What a run leaves, of three steps."""
    from PIL import Image

    for part in ("words", "previews", "checkpoints"):
        (folder / part).mkdir(parents=True)
    (folder / "settings.json").write_text('{"settings": {"name": "choosable"}}')
    (folder / "status.json").write_text('{"status": "finished", "step": 30, "steps": 30}')
    for step, colour in ((10, "teal"), (20, "orange"), (30, "purple")):
        words = {"emb_params": torch.full((1, 768), float(step))}
        save_file(words, folder / "words" / f"step-{step:06d}.safetensors")
        Image.new("RGB", (64, 64), colour).save(folder / "previews" / f"step-{step:06d}.png")
    assert load_file(folder / "words" / "step-000010.safetensors")


def wait_until_idle(host: Host) -> None:
    """The rest of the graph runs on after the training; nothing of it belongs to the next test."""
    import time

    end = time.monotonic() + 120
    while host.get("/prompt")["exec_info"]["queue_remaining"]:
        assert time.monotonic() < end
        time.sleep(0.5)
