"""The panel of the nodes that train, in ComfyUI's own page: of runs that have ended."""

from __future__ import annotations

import base64
import json
import shutil
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.client import Host
from support.paths import template

pytest.importorskip("playwright", reason="the Python package playwright is not installed")

from support.browser import IN_A_BROWSER, TRAIN, read_workflow
from textual_inversion.trainer.settings import Settings

if TYPE_CHECKING:
    from support.browser import ComfyPage

NEGATIVE = "TextualInversionTrainNegative"
SHORT = {"steps": 4, "batch_size": 1, "preview_every": 2, "save_every": 4, "previews": 0,
         "evaluations": 0, "schedule": "constant", "overwrite": False}  # fmt: skip
"""A run of a few seconds, whose words stay in their files."""

pytestmark = IN_A_BROWSER


def runs(host: Host) -> Path:
    return host.server.base / "output" / "textual_inversion"


def training_alone(number: int) -> dict[str, Any]:
    """A template without what it draws in the end."""
    workflow = read_workflow(template(number))
    kept = {node["id"]: node for node in workflow["nodes"] if "TextualInversion" in node["type"]}
    for node in kept.values():
        for output in node["outputs"]:
            output["links"] = []
    links = [link for link in workflow["links"] if link[1] in kept and link[3] in kept]
    for link, origin, slot, *_ in links:
        kept[origin]["outputs"][slot]["links"].append(link)
    return {**workflow, "nodes": list(kept.values()), "links": links}


def shown_run(comfy: ComfyPage) -> str:
    """The id of the run whose picture is shown."""
    address = comfy.page.locator(".ti-now .ti-picture").get_attribute("src") or ""
    return address.partition("id=")[2].partition("&")[0]


@pytest.mark.parametrize("design", ["classic", "vue"])
def test_earlier_pictures_are_seen_by_dragging_along_the_strip(
    page_host: Host, comfy: ComfyPage, design: str, name: str
) -> None:
    from PIL import Image

    folder = runs(page_host) / f"{name}_00001"
    (folder / "previews").mkdir(parents=True)
    (folder / "settings.json").write_text(json.dumps({"settings": {"name": name}}))
    (folder / "status.json").write_text('{"status": "finished", "step": 40, "steps": 40}')
    for step in (10, 20, 30, 40):
        Image.new("RGB", (64, 64), (6 * step, 80, 80)).save(
            folder / f"previews/step-{step:06d}.png"
        )
    comfy.setting("Comfy.VueNodes.Enabled", design == "vue")
    workflow = training_alone(1)
    (node,) = (node for node in workflow["nodes"] if node["type"] == TRAIN)
    node["properties"]["textual_inversion_run"] = f"{name}_00001"
    node["widgets_values"][0] = name
    comfy.load(workflow)
    comfy.look_at(TRAIN)
    page = comfy.page
    thumbnails = page.locator(".ti-strip .ti-thumbnail")
    thumbnails.nth(3).wait_for()
    places = [thumbnails.nth(i).bounding_box() for i in range(4)]
    at = [(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) for box in places if box]
    seen = page.locator(".ti-now .ti-caption")
    view = "[...trainNode().pos, ...window.app.canvas.ds.offset]"
    before = page.evaluate(view)
    assert seen.inner_text() == "step 40"

    # Without the button nothing happens.
    page.mouse.move(*at[0])
    page.mouse.move(*at[1])
    assert seen.inner_text() == "step 40"
    page.mouse.move(*at[0])
    page.mouse.down()
    steps = []
    for place in (at[1], at[2], at[1]):
        page.mouse.move(*place, steps=4)
        steps.append(seen.inner_text())
    page.mouse.up()
    assert steps == ["step 20", "step 30", "step 20"]
    assert thumbnails.nth(1).get_attribute("aria-pressed") == "true"
    # It stays, and neither the node nor the graph was dragged along.
    page.mouse.move(*at[2])
    assert seen.inner_text() == "step 20"
    assert page.evaluate(view) == before
    # Back at the newest, newer ones would be shown again.
    page.mouse.click(*at[3])
    assert seen.inner_text() == "step 40"


@pytest.mark.parametrize("design", ["classic", "vue"])
def test_the_panel_shows_the_run_of_a_word_that_was_learned_before(
    page_host: Host, comfy: ComfyPage, design: str, name: str
) -> None:
    """Also in a graph that comes with a picture, which knows only of the run before its own."""
    comfy.setting("Comfy.VueNodes.Enabled", design == "vue")
    comfy.setting("Comfy.ColorPalette", "light" if design == "vue" else "dark")
    comfy.load(training_alone(1))
    comfy.set_widgets(TRAIN, SHORT)
    comfy.page.evaluate(
        """name => {
            const save = LiteGraph.createNode("SaveImage"), train = trainNode();
            save.pos = [train.pos[0] + 500, train.pos[1]];
            save.widgets[0].value = name;
            window.app.rootGraph.add(save);
            train.connect(train.outputs.findIndex(({ name }) => name === "preview"), save, 0);
        }""",
        name,
    )
    comfy.look_at(TRAIN)
    other = f"{name}-other"
    for word in (name, other):
        comfy.set_widgets(TRAIN, {"name": word})
        comfy.queue()
        comfy.wait_for_title(f"saved as {word}")
        assert shown_run(comfy) == f"{word}_00001"
    comfy.set_widgets(TRAIN, {"name": name})
    comfy.queue()
    comfy.page.wait_for_function(
        "id => document.querySelector('.ti-now .ti-picture').src.includes(id)", arg=f"{name}_00001"
    )
    comfy.wait_for_title(f"“{name}”")  # from its file
    assert len(list(runs(page_host).glob(f"{name}_*"))) == 1

    _, picture, *_ = sorted((page_host.server.base / "output").glob(f"{name}_*.png"))
    comfy.load({**training_alone(1), "nodes": [], "links": []})
    comfy.page.evaluate(
        """bytes => {
            const content = Uint8Array.from(atob(bytes), (char) => char.charCodeAt(0));
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([content], "picture.png", { type: "image/png" }));
            const target = document.querySelector("#graph-canvas");
            const place = { clientX: 700, clientY: 500, bubbles: true, cancelable: true };
            target.dispatchEvent(new DragEvent("drop", { dataTransfer, ...place }));
        }""",
        base64.b64encode(picture.read_bytes()).decode(),
    )
    comfy.page.wait_for_function("window.trainNode()")
    comfy.look_at(TRAIN)
    comfy.wait_for_title(f"finished after 4 steps; saved as {other}")
    assert shown_run(comfy) == f"{other}_00001"
    assert comfy.page.locator(".ti-stills .ti-picture").count() == 2


def test_showing_a_run_is_no_change_of_the_graph(
    page_host: Host, comfy: ComfyPage, name: str
) -> None:
    """It would take away what can be done again, and come back whenever it is undone."""
    page = comfy.page
    comfy.load(training_alone(1))
    comfy.set_widgets(TRAIN, {"name": name})
    given, place, moved = page.evaluate(
        """() => {
            const { changeTracker } = window.app.extensionManager.workflow.activeWorkflow;
            const note = () => (changeTracker.captureCanvasState ?? changeTracker.checkState)
                .call(changeTracker);
            const { pos, widgets } = trainNode(), [place] = pos;
            note();
            pos[0] += 10;
            note();
            const given = widgets.map(({ name, value }) => [name, value]);
            return [Object.fromEntries(given), place, pos[0]];
        }"""
    )
    # As if it had been run now.
    folder = runs(page_host) / f"{name}_00001"
    folder.mkdir(parents=True)
    known = {field.name for field in fields(Settings)}
    settings = Settings(**{name: value for name, value in given.items() if name in known})
    (folder / "settings.json").write_text(json.dumps({"settings": asdict(settings)}))
    (folder / "status.json").write_text('{"status": "finished", "step": 40, "steps": 40}')
    for keys, at in (("Control+z", place), ("Control+y", moved), ("Control+z", place)):
        page.keyboard.press(keys)
        page.wait_for_function("at => trainNode()?.pos[0] === at", arg=at, timeout=20_000)
        comfy.wait_for_title("finished")
        # After a click, the page compares the graph with what it was.
        page.mouse.click(1400, 880)
        page.wait_for_timeout(300)


def test_a_wire_to_an_advanced_input_ends_there(comfy: ComfyPage) -> None:
    """Also where its group is folded, as in each graph that is opened."""
    comfy.setting("Comfy.VueNodes.Enabled", False)
    comfy.leave_only(TRAIN)
    comfy.page.evaluate(
        """() => {
            const number = window.LiteGraph.createNode("PrimitiveInt"), train = trainNode();
            window.app.rootGraph.add(number);
            number.connect(0, train, train.inputs.findIndex(({ name }) => name === "steps"));
        }"""
    )
    heights = []
    for _ in range(3):
        comfy.load(comfy.page.evaluate("window.app.rootGraph.serialize()"))
        comfy.look_at(TRAIN)
        comfy.page.wait_for_timeout(500)  # until it is drawn
        of_model, of_steps, of_panel, height = comfy.page.evaluate(
            """() => {
                const node = trainNode();
                const slot = (wanted) => node.inputs.findIndex(({ name }) => name === wanted);
                const [model, steps] = ["model", "steps"].map((name) => slot(name));
                const panel = node.widgets.find(({ name }) => name === "training");
                return [node.getInputPos(model)[1], node.getInputPos(steps)[1],
                    node.pos[1] + panel.y, node.size[1]];
            }"""
        )
        assert of_model + 100 < of_steps < of_panel
        heights.append(height)
    assert heights[1] == heights[2], "it grows each time"


def test_nothing_is_asked_for_copies_that_are_in_no_graph(
    page_host: Host, comfy: ComfyPage, name: str
) -> None:
    """The page makes a node for each that is copied into the clipboard, and forgets it."""
    page = comfy.page
    (runs(page_host) / f"{name}_00001").mkdir(parents=True)
    comfy.load(training_alone(1))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.partition("/api/textual_")[2]))
    page.evaluate(
        """() => {
            for (const type of ["TextualInversionRate", "TextualInversionChoose"])
                window.app.rootGraph.add(window.LiteGraph.createNode(type));
        }"""
    )
    page.wait_for_timeout(1000)
    asked.clear()
    page.evaluate("() => { for (const node of [...window.app.rootGraph.nodes]) node.clone(); }")
    page.wait_for_timeout(1000)
    assert not any(asked)
    comfy.load(page.evaluate("window.app.rootGraph.serialize()"))
    page.wait_for_timeout(1000)
    assert asked.count("inversion/run/alike") == 1


@pytest.mark.parametrize("design", ["classic", "vue"])
def test_a_pair_of_words_from_their_files(
    page_host: Host, comfy: ComfyPage, design: str, name: str
) -> None:
    page = comfy.page
    comfy.setting("Comfy.VueNodes.Enabled", design == "vue")
    comfy.load(training_alone(4))
    comfy.set_widgets(NEGATIVE, {**SHORT, "name": name, "objective": "pair"})
    comfy.look_at(NEGATIVE)
    comfy.queue()
    comfy.wait_for_title(f"saved as {name} and {name}-neg")
    page_host.free()  # The host forgets what the node gave.
    comfy.queue()
    comfy.wait_for_title(f"“{name}” and “{name}-neg”")
    assert shown_run(comfy) == f"{name}_00001"
    assert page.locator(".ti-strip .ti-thumbnail").count() == 2

    # Nothing of another run stays where the run itself is gone.
    shutil.rmtree(runs(page_host) / f"{name}_00001")
    page_host.free()
    comfy.queue()
    page.wait_for_function("document.querySelector('.ti-pictures').hidden")
    comfy.wait_for_title(f"“{name}” and “{name}-neg”")
