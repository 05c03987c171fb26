"""The templates and help pages that come with the pack fit the nodes, and the templates run."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from PIL import Image
from support.client import Host
from support.paths import ROOT
from support.server import PACK
from support.training import photos
from support.workflows import WorkflowError, inputs_of, to_api

TEMPLATES = sorted((ROOT / "example_workflows").glob("*.json"))
SHARED_CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
SHARED_PICTURE = "example.png"
"""What templates name: a checkpoint that the page offers to download, a picture of every host."""

QUICK: dict[str, dict[str, Any]] = {
    "TextualInversionTrain": {"steps": 3, "resolution": 64, "previews": 1},
    "EmptyLatentImage": {"width": 64, "height": 64},
    "KSampler": {"steps": 2},
}
"""Values with which a template runs in seconds."""

NODES = sorted(path.stem for path in (ROOT / "js" / "docs").glob("*.md"))


@pytest.fixture(scope="module")
def definitions(host: Host, sd1_checkpoint: Path) -> dict[str, Any]:
    """What the server offers once the files that the templates name are there."""
    link = host.server.base / "models" / "checkpoints" / SHARED_CHECKPOINT
    if not link.is_symlink():
        link.symlink_to(sd1_checkpoint)
    host.upload_image(Image.new("RGB", (96, 64), "teal"), SHARED_PICTURE)
    return host.object_info()


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_template_fits_the_nodes(path: Path, definitions: dict[str, Any]) -> None:
    graph = to_api(read(path), definitions)
    ours = [node for node in graph.values() if node["class_type"].startswith("TextualInversion")]
    assert ours
    with Image.open(path.with_suffix(".jpg")) as thumbnail:
        assert min(thumbnail.size) >= 256
    assert path.with_suffix(".jpg").stat().st_size < 300_000


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_template_runs(path: Path, host: Host, definitions: dict[str, Any]) -> None:
    graph = to_api(read(path), definitions)
    pictures = photos(host)
    loaders = [node for node in graph.values() if node["class_type"] == "LoadImage"]
    for number, loader in enumerate(loaders):
        loader["inputs"]["image"] = pictures[number % len(pictures)]
    for node in graph.values():
        node["inputs"].update(QUICK.get(node["class_type"], {}))
        if node["class_type"] == "TextualInversionTrain":
            node["inputs"]["name"] = f"{path.stem}-in-test"
    result = host.run(graph)
    saved = next(key for key, node in graph.items() if node["class_type"] == "SaveImage")
    assert host.fetch_image(result[saved]["images"][0]).shape[-1] == 3


def test_the_server_offers_the_templates(host: Host) -> None:
    offered = host.get("/workflow_templates")[PACK]
    assert sorted(offered) == [path.stem for path in TEMPLATES]
    assert host.get(f"/api/workflow_templates/{PACK}/{offered[0]}.json")["nodes"]


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda node: node.update(type="Absent"), "no node Absent"),
        (lambda node: node["widgets_values"].pop(), "no value for previews"),
        (lambda node: node["widgets_values"].append(1), "left over"),
        (lambda node: node["widgets_values"].__setitem__(3, "thing"), "learn is 'thing'"),
        (lambda node: node["widgets_values"].__setitem__(4, 0), "steps is 0"),
        (lambda node: node["inputs"][0].update(link=None), "do not know of it"),
        (lambda node: node["inputs"][0].update(name="modell"), "no input modell"),
        (lambda node: node["inputs"].reverse(), r"do not know|leads|not there"),
    ],
)
def test_a_damaged_template_is_noticed(
    damage: Any, complaint: str, definitions: dict[str, Any]
) -> None:
    workflow = copy.deepcopy(read(TEMPLATES[0]))
    damage(next(n for n in workflow["nodes"] if n["type"] == "TextualInversionTrain"))
    with pytest.raises(WorkflowError, match=complaint):
        to_api(workflow, definitions)


@pytest.mark.parametrize("node", NODES)
def test_a_help_page_names_every_input_and_output(
    node: str, host: Host, definitions: dict[str, Any]
) -> None:
    """In lists, with the default at the end; tables do not fit into the page's narrow panel."""
    page = (ROOT / "js" / "docs" / f"{node}.md").read_text(encoding="utf-8")
    definition = definitions[node]
    assert page.startswith(f"# {definition['display_name']}\n")
    assert "/docs/" not in page, "pictures in help pages need addresses that the host serves"
    inputs, outputs = page.split("## Inputs")[1].split("## Outputs")
    rows = re.findall(r"^- \*\*(\w+)\*\*: .*?(?: Default: (.+)\.)?$", inputs, re.MULTILINE)
    assert rows == [
        (name, shown(options.get("default", ""))) for name, _, options, _ in inputs_of(definition)
    ]
    rows = re.findall(r"^- \*\*(\w+)\*\*:", outputs, re.MULTILINE)
    assert rows == definition["output_name"]
    with urlopen(f"{host.server.url}/extensions/{PACK}/docs/{node}.md") as answer:
        assert answer.read().decode() == page


def shown(default: Any) -> str:
    """A default as the help pages write it."""
    return {True: "on", False: "off"}[default] if isinstance(default, bool) else str(default)


def test_all_nodes_have_a_help_page(definitions: dict[str, Any]) -> None:
    ours = {name for name in definitions if name.startswith("TextualInversion")}
    assert ours == set(NODES)
