"""The templates, the subgraph and the search for nodes, as ComfyUI's page shows them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.client import Host
from support.paths import ROOT, TEMPLATES, template
from support.server import PACK
from support.workflows import to_api

pytest.importorskip("playwright", reason="the Python package playwright is not installed")

from support.browser import IN_A_BROWSER, read_workflow

if TYPE_CHECKING:
    from support.browser import ComfyPage

BLUEPRINT = ROOT / "subgraphs" / "Train a word.json"

pytestmark = IN_A_BROWSER


def open_as_template(comfy: ComfyPage, workflow: dict[str, Any]) -> None:
    comfy.page.set_viewport_size({"width": 1280, "height": 720})
    comfy.page.evaluate(
        "w => window.app.loadGraphData(w, true, true, 'template', { openSource: 'template' })",
        workflow,
    )
    comfy.page.wait_for_timeout(500)


def add_by_search(comfy: ComfyPage, title: str) -> None:
    """Put a node onto the graph as a user does who types its name."""
    page = comfy.page
    page.mouse.dblclick(700, 500)
    page.wait_for_timeout(1000)
    page.keyboard.type(title)
    page.wait_for_timeout(1500)
    page.keyboard.press("Enter")
    page.wait_for_function(
        "title => window.app.rootGraph.nodes.some((node) => node.title === title)", arg=title
    )
    # It follows the mouse until it is put down, which a dialog that still closes would prevent.
    page.get_by_role("dialog").wait_for(state="hidden")
    page.mouse.move(600, 450)
    page.mouse.click(600, 450)
    page.wait_for_function(
        "title => window.app.rootGraph.nodes.some((n) => n.title === title && !n.flags.ghost)",
        arg=title,
        timeout=10_000,
    )


def test_templates_are_shown_in_order_with_their_pictures(comfy: ComfyPage) -> None:
    page = comfy.page
    page.evaluate("window.app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.get_by_text(PACK, exact=True).first.click()
    cards = page.locator("[data-testid^='template-workflow-'] h3")
    cards.first.wait_for()
    names = sorted(path.stem for path in TEMPLATES.glob("*.json"))
    page.wait_for_function(
        "n => document.querySelectorAll(\"[data-testid^='template-workflow-']\").length === n",
        arg=len(names),
    )
    assert cards.all_inner_texts() == names
    loaded = "[...document.querySelectorAll(\"[data-testid^='template-workflow-'] img\")]"
    page.wait_for_function(f"{loaded}.every((one) => one.naturalWidth === 512)")


@pytest.mark.parametrize("design", ["classic", "vue"])
def test_templates_open_large_and_without_errors(
    page_host: Host, comfy: ComfyPage, design: str
) -> None:
    """And what the page sends for each is what the other tests take it for."""
    comfy.setting("Comfy.VueNodes.Enabled", design == "vue")
    definitions = page_host.object_info()
    for path in sorted(TEMPLATES.glob("*.json")):
        workflow = read_workflow(path)
        open_as_template(comfy, workflow)
        wrong = "window.app.rootGraph.nodes.filter(n => n.has_errors).map(n => n.type)"
        assert comfy.page.evaluate(wrong) == [], path.stem
        # Below 0.572 the page draws no text of classic nodes.
        assert comfy.page.evaluate("window.app.canvas.ds.scale") > 0.575, path.stem
        sent = comfy.page.evaluate("async () => (await window.app.graphToPrompt()).output")
        expected = to_api(workflow, definitions)
        assert sent.keys() == expected.keys(), path.stem
        for key, node in expected.items():
            assert sent[key]["class_type"] == node["class_type"]
            # What the page adds by itself, such as how a text is shown, is its own.
            named = {name: sent[key]["inputs"].get(name) for name in node["inputs"]}
            assert named == node["inputs"], f"{path.stem}: {node['class_type']}"


@pytest.mark.parametrize("design", ["classic", "vue"])
def test_the_subgraph_trains_a_word(
    page_host: Host, comfy: ComfyPage, sd1_checkpoint: Any, design: str
) -> None:
    """It is offered as a node, shows what has to be chosen, and what it sends can be run."""
    name = f"blueprint-{design}"
    comfy.setting("Comfy.VueNodes.Enabled", design == "vue")
    checkpoint = page_host.add_checkpoint(sd1_checkpoint)
    comfy.open()
    comfy.load({**read_workflow(template(1)), "nodes": [], "links": []})
    add_by_search(comfy, BLUEPRINT.stem)
    shown = comfy.page.evaluate(
        """([title, values]) => {
            const graph = window.app.rootGraph;
            const word = graph.nodes.find((one) => one.title === title);
            const pictures = LiteGraph.createNode("TextualInversionDemoPictures");
            const preview = LiteGraph.createNode("PreviewImage");
            graph.add(pictures);
            graph.add(preview);
            pictures.connect(0, word, word.inputs.findIndex((one) => one.name === "images"));
            word.connect(word.outputs.findIndex((one) => one.name === "preview"), preview, 0);
            for (const widget of word.widgets)
                if (widget.name in values) widget.value = values[widget.name];
            return word.widgets.map((one) => one.name);
        }""",
        [BLUEPRINT.stem, {"ckpt_name": checkpoint, "name": name, "resolution": 64}],
    )
    assert shown == ["ckpt_name", "name", "init_words", "learn", "resolution"]
    sent = comfy.page.evaluate("async () => (await window.app.graphToPrompt()).output")
    (train,) = (n for n in sent.values() if n["class_type"] == "TextualInversionTrain")
    assert (train["inputs"]["name"], train["inputs"]["resolution"]) == (name, 64)
    if design == "classic":
        quick = {"steps": 1, "evaluations": 0, "previews": 1, "preview_every": 0}
        train["inputs"].update(quick)
        page_host.run(sent, timeout=600)
        assert (page_host.embeddings / f"{name}.safetensors").is_file()


def test_the_server_offers_the_subgraph(page_host: Host) -> None:
    offered = page_host.get("/global_subgraphs")
    (number,) = (n for n, one in offered.items() if one["name"] == BLUEPRINT.stem)
    assert json.loads(page_host.get(f"/global_subgraphs/{number}")["data"]) == read_workflow(
        BLUEPRINT
    )


@pytest.mark.parametrize(
    ("search", "node"),
    [
        ("train concept", "TextualInversionTrain"),
        ("lora alternative", "TextualInversionTrain"),
        ("dreambooth", "TextualInversionTrain"),
        ("bad hands", "TextualInversionTrainNegative"),
        ("load TI", "TextualInversionLoad"),
        ("mix embeddings", "TextualInversionBlend"),
        ("my taste", "TextualInversionTrainRatings"),
        ("thumbs up", "TextualInversionRate"),
    ],
)
def test_nodes_are_found_by_what_people_call_them(page_host: Host, search: str, node: str) -> None:
    aliases = page_host.object_info(node)["search_aliases"]
    assert any(search.lower() in alias.lower() for alias in aliases)
