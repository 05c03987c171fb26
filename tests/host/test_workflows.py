"""The templates and help pages that come with the pack fit the nodes, and the templates run."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import pytest
from PIL import Image
from support.client import Host
from support.paths import ROOT, TEMPLATES, template
from support.server import PACK
from support.training import photos
from support.workflows import WorkflowError, inputs_of, to_api

PATHS = sorted(TEMPLATES.glob("*.json"))

QUICK: dict[str, dict[str, Any]] = {
    "TextualInversionTrain": {"steps": 3, "evaluations": 1, "previews": 1, "overwrite": True},
    "TextualInversionTrainNegative": {
        "steps": 3, "evaluations": 1, "previews": 1, "overwrite": True,
    },
    "TextualInversionTrainRatings": {
        "steps": 3, "evaluations": 1, "previews": 1, "overwrite": True,
    },
    "KSampler": {"steps": 2},
}  # fmt: skip
"""Values with which a template runs in seconds."""

SMALL: dict[str, dict[str, Any]] = {
    "TextualInversionTrain": {"resolution": 64, "steps": 2, "batch_size": 1, "evaluations": 0},
    "EmptyLatentImage": {"width": 64, "height": 64},
}
"""The same for models whose text encoders are of full size."""

LONG_ENOUGH: dict[str, dict[str, Any]] = {
    "TextualInversionTrain": {"steps": 60},
    "TextualInversionTrainNegative": {"steps": 60},
}
"""Steps that reach what comes every 50. `test_demo_nodes` goes on to the first template's end."""

NODES = sorted(path.stem for path in (ROOT / "js" / "docs").glob("*.md"))


@pytest.fixture(scope="module")
def definitions(host: Host) -> dict[str, Any]:
    """What the server says about its nodes."""
    return host.object_info()


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_template_fits_the_nodes(path: Path, definitions: dict[str, Any]) -> None:
    graph = to_api(read(path), definitions)
    ours = [node for node in graph.values() if node["class_type"].startswith("TextualInversion")]
    assert ours
    with Image.open(path.with_suffix(".jpg")) as thumbnail:
        assert thumbnail.size == (512, 512), "the page shows a square"
    assert path.with_suffix(".jpg").stat().st_size < 60_000


def test_the_first_template_is_small() -> None:
    assert len(read(template(1))["nodes"]) <= 8


def checkpoint_of(path: Path) -> str | None:
    """The fixture of what a template loads; None where it makes do with the tiny model."""
    if not any(node["type"] == "CheckpointLoaderSimple" for node in read(path)["nodes"]):
        return None
    return "sdxl_checkpoint" if "SDXL" in path.stem else "sd1_checkpoint"


def change(graph: dict[str, Any], values: dict[str, dict[str, Any]]) -> None:
    for node in graph.values():
        node["inputs"].update(values.get(node["class_type"], {}))


def check_run(graph: dict[str, Any], host: Host) -> None:
    """It ends with pictures, and no prompt names a word that is not there."""
    ignored = host.server.log().count("does not exist, ignoring")
    result = host.run(graph, timeout=1200)
    drawn = [k for k, node in graph.items() if node["class_type"] in ("SaveImage", "PreviewImage")]
    assert drawn
    for key in drawn:
        assert host.fetch_image(result[key]["images"][0]).std() > 0
    assert host.server.log().count("does not exist, ignoring") == ignored


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if "SDXL" in path.stem else [])
        for path in PATHS
    ],
)
def test_a_template_runs(
    path: Path, host: Host, definitions: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    """With fewer steps; models of full size are replaced by small ones of the same family."""
    graph = to_api(read(path), definitions)
    change(graph, QUICK)
    checkpoint = checkpoint_of(path)
    if checkpoint:
        change(graph, SMALL)
        small = host.add_checkpoint(request.getfixturevalue(checkpoint))
        change(graph, {"CheckpointLoaderSimple": {"ckpt_name": small}})
    pictures = photos(host)
    loaders = [node for node in graph.values() if node["class_type"] == "LoadImage"]
    for number, loader in enumerate(loaders):
        loader["inputs"]["image"] = pictures[number % len(pictures)]
    check_run(graph, host)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [p for p in PATHS if checkpoint_of(p) is None], ids=lambda path: path.stem
)
def test_a_template_of_the_tiny_model_runs_as_it_is(
    path: Path, host: Host, definitions: dict[str, Any]
) -> None:
    """But for the number of steps."""
    graph = to_api(read(path), definitions)
    change(graph, LONG_ENOUGH)
    check_run(graph, host)


def test_the_server_offers_the_templates(host: Host) -> None:
    offered = host.get("/workflow_templates")[PACK]
    assert sorted(offered) == [path.stem for path in PATHS]
    assert host.get(f"/api/workflow_templates/{PACK}/{quote(offered[0])}.json")["nodes"]


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda node: node.update(type="Absent"), "no node Absent"),
        (lambda node: node["widgets_values"].pop(), "no value for "),
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
    workflow = copy.deepcopy(read(PATHS[0]))
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
