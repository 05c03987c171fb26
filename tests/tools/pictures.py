"""Makes the pictures of the templates and of the docs anew, by running the templates.

    cd tests && python -m tools.pictures        # all
    cd tests && python -m tools.pictures 1 4    # those of these templates

Each template gets a thumbnail: what its word was learned from, and what is drawn. The first also
gives the README's picture and the guide's chart, and what it learns the story of the demo.

Wanted whenever a template, the training node or the weights of the tiny model have changed.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from support.browser import TRAIN, ComfyPage, browser_page, read_workflow
from support.client import Host, serving
from support.comfyui import find_comfyui
from support.http import ask
from support.package import use_checkout
from support.paths import ROOT, template
from support.results import Result
from support.workflows import to_api

Pixels = NDArray[np.uint8]

DOCS = ROOT / "docs"
PICTURES = "TextualInversionDemoPictures"
RATE = "TextualInversionRate"
RATINGS = "/textual_inversion/ratings"
SIDE, GAP, LABEL = 512, 10, 42
"""Pixels of a thumbnail; the page shows it at less than half of that."""
GROUND, INK = "#20222e", "#f4f1ea"
WINDOW = (1700, 1000)
DENSE = 2
"""Pixels of a picture for one of the page's, so that small text can be read when enlarged."""
EDGE, HEAD = 24, 84
"""Pixels between the parts of the README's picture, and of its row of labels."""
GIVEN = "Five pictures of something new"


@dataclass(frozen=True)
class Shown:
    """What a thumbnail shows below three of the given pictures.

    Attributes:
        labels: one for each of two pictures, or one for both.
        places: where they are drawn: the title of a node, and the number of its picture.
        stand_in: for a template that wants a checkpoint, what the tiny model learns in its place,
            and the prompts of the two pictures.
    """

    labels: tuple[str, ...]
    places: tuple[tuple[str, int], ...]
    stand_in: tuple[str, ...] = ()


DRAWN = "Drawn with the word"
SHOWN = {
    1: Shown(("before", "after"), (("Before: ordinary words", 3), ("After: the new word", 3))),
    2: Shown(
        ("learned",),
        ((DRAWN, 0),),
        (
            "lagoon-star",
            "a photo of a [name] on a yellow background, in the center",
            "a photo of a [name] on a pink background, in the center",
        ),
    ),
    3: Shown(
        ("in this style",),
        ((DRAWN, 0),),
        (
            "ink-checks",
            "a flower on a white background, in the center, in the style of [name]",
            "a square on a pink background, in the center, in the style of [name]",
        ),
    ),
    4: Shown(("without", "with"), (("Without the negative", 0), ("With the negative", 0))),
    5: Shown(("drawn at once",), ((DRAWN, 0), (DRAWN, 1))),
    6: Shown(("1 vector", "4 vectors"), (("A: one vector", 0), ("B: four vectors", 0))),
    7: Shown(("without", "with"), (("Without the word", 0), ("With the word", 0))),
}


def main(numbers: Sequence[int]) -> int:
    """Make the pictures of these templates; returns the exit code."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(find_comfyui(), Path(folder)) as host,
    ):
        for number in numbers or SHOWN:
            path = template(number)
            _thumbnail(host, path, SHOWN[number]).save(path.with_suffix(".jpg"), quality=88)
            print(path.stem, flush=True)
            if number == 1:
                _pictures_of_the_page(host, path)
                _story(path)
    return 0


def _thumbnail(host: Host, path: Path, shown: Shown) -> Image.Image:
    titles = {node.get("title"): str(node["id"]) for node in read_workflow(path)["nodes"]}
    given: list[Pixels] = []
    drawn: list[Pixels] = []
    for graph in _graphs(host, path, shown):
        result = host.run(graph, timeout=3600)
        given = _given(host, graph, result)
        for title, number in shown.places:
            drawn.append(host.fetch_image(result[titles[title]]["images"][number]))
    return _composed(given[:3], drawn, shown.labels)


def _given(host: Host, graph: dict[str, Any], result: Result) -> list[Pixels]:
    """The pictures that the word was learned from; of rated ones, those that are liked."""
    for number, node in graph.items():
        if node["class_type"] == PICTURES:
            return [host.fetch_image(image) for image in result[number]["images"]]
    (name,) = (n["inputs"]["name"] for n in graph.values() if n["class_type"] == RATE)
    ratings = host.get(f"{RATINGS}?name={name}")["ratings"]
    keys = [rating["key"] for rating in ratings if rating["rating"] == "liked"]
    shown = [ask(host, f"{RATINGS}/picture?name={name}&key={key}")[2] for key in keys]
    return [np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for content in shown]


def _graphs(host: Host, path: Path, shown: Shown) -> Iterator[dict[str, Any]]:
    """The template as it is; or with the tiny model for its checkpoint, once for each prompt."""
    workflow = read_workflow(path)
    if not shown.stand_in:
        yield to_api(workflow, host.object_info())
        return
    concept, *prompts = shown.stand_in
    definitions = host.object_info()
    for prompt in prompts:
        graph = to_api(workflow, definitions)
        for node in graph.values():
            kind, inputs = node["class_type"], node["inputs"]
            if kind == "CheckpointLoaderSimple":
                node.update(class_type="TextualInversionDemoModel", inputs={})
            elif kind == "BatchImagesNode":
                node.update(class_type=PICTURES, inputs={"concept": concept, "count": 5, "seed": 0})
            elif kind == TRAIN:
                pictures = inputs["images"][0]
                inputs.update(resolution=128, captions=[pictures, 1], init_words=[pictures, 2])
                inputs["overwrite"] = True
            elif kind == "EmptyLatentImage":
                inputs.update(width=128, height=128)
            elif kind == "KSampler":
                inputs["cfg"] = 3.0
            elif kind == "CLIPTextEncode":
                inputs["text"] = ""
            elif kind == "TextualInversionApply":
                inputs["text"] = prompt
        yield {name: node for name, node in graph.items() if node["class_type"] != "LoadImage"}


def _composed(
    given: Sequence[Pixels], drawn: Sequence[Pixels], labels: Sequence[str]
) -> Image.Image:
    """Rows: the given pictures, labels, and as wide as these what was drawn."""
    made = Image.new("RGB", (SIDE, SIDE), GROUND)
    pen = ImageDraw.Draw(made)
    font = ImageFont.load_default(34)
    low = SIDE - GAP - _row(made, drawn, None)
    top = (low - LABEL - _row(made, given, None)) // 2
    _row(made, given, top)
    _row(made, drawn, low)
    for number, label in enumerate(labels):
        place = (SIDE * (2 * number + 1) / (2 * len(labels)), low - LABEL / 2)
        pen.text(place, label, fill=INK, font=font, anchor="mm")
    return made


def _row(made: Image.Image, pictures: Sequence[Pixels], top: int | None) -> int:
    """Put pictures side by side, or only say how many pixels wide and high each would be."""
    side = (SIDE - GAP * (len(pictures) + 1)) // len(pictures)
    if top is not None:
        for number, picture in enumerate(pictures):
            scaled = Image.fromarray(picture).convert("RGB").resize((side, side))
            made.paste(scaled, (GAP + number * (side + GAP), top))
    return side


def _pictures_of_the_page(host: Host, path: Path) -> None:
    """The README's picture: the panel that learns, before and after; and the guide's: the panel."""
    with browser_page(host.server.url, *WINDOW, dense=DENSE) as comfy:
        comfy.open()
        for part in ("Comfy.Minimap.Visible", "Comfy.Graph.CanvasMenu"):
            comfy.setting(part, False)
        comfy.load(read_workflow(path))
        comfy.queue()
        comfy.page.wait_for_timeout(2000)
        while host.get("/prompt")["exec_info"]["queue_remaining"]:
            time.sleep(1)
        comfy.page.wait_for_timeout(3000)
        titles = [title for title, _ in SHOWN[1].places]
        given, *drawn = (_in_node(host, comfy, title) for title in (GIVEN, *titles))
        _look_closely(comfy, 400)
        panel = Image.open(io.BytesIO(comfy.page.locator(".ti-panel").first.screenshot()))
        _first_word(given, panel, dict(zip(titles, drawn, strict=True))).save(
            DOCS / "first-word.jpg", quality=85
        )
        _look_closely(comfy, 840)
        comfy.page.locator(".ti-panel").first.screenshot(path=DOCS / "guide" / "chart.png")


def _in_node(host: Host, comfy: ComfyPage, title: str) -> list[Image.Image]:
    """The pictures that a node of the page shows."""
    addresses = comfy.page.evaluate(
        """title => window.app.rootGraph.nodes.find((node) => node.title === title)
            .imgs.map(({ src }) => src.slice(window.location.origin.length))""",
        title,
    )
    contents = [ask(host, address)[2] for address in addresses]
    return [Image.open(io.BytesIO(content)).convert("RGB") for content in contents]


def _first_word(
    given: Sequence[Image.Image], panel: Image.Image, drawn: Mapping[str, Sequence[Image.Image]]
) -> Image.Image:
    """What is given and the panel that learns from it; then, by their titles, what is drawn."""
    high = panel.height
    labels = {"Learning from five pictures": [_grid(given, 1, high), panel.convert("RGB")]}
    labels |= {title: [_grid(pictures, 2, high)] for title, pictures in drawn.items()}
    parts = [part for group in labels.values() for part in group]
    width = sum(part.width for part in parts) + EDGE * (len(parts) + 1)
    made = Image.new("RGB", (width, high + HEAD + EDGE), GROUND)
    pen = ImageDraw.Draw(made)
    left = EDGE
    for label, group in labels.items():
        pen.text((left, HEAD / 2), label, fill=INK, font=ImageFont.load_default(44), anchor="lm")
        for part in group:
            made.paste(part, (left, HEAD))
            left += part.width + EDGE
    return made


def _grid(pictures: Sequence[Image.Image], columns: int, height: int) -> Image.Image:
    """Pictures in rows, all in all so high."""
    rows = -(-len(pictures) // columns)
    side = (height - GAP * (rows - 1)) // rows
    made = Image.new("RGB", (columns * (side + GAP) - GAP, height), GROUND)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        made.paste(picture.resize((side, side)), (column * (side + GAP), row * (side + GAP)))
    return made


def _look_closely(comfy: ComfyPage, width: int) -> None:
    """Move the panel of the training node into the window; from 560 on its chart is beside it."""
    comfy.page.evaluate(
        """width => {
            const { ds } = window.app.canvas;
            const node = window.trainNode();
            node.pos = [node.pos[0], node.pos[1] + 5000]; // away from all others
            node.setSize([width, node.size[1]]);
            ds.scale = 1;
            ds.offset = [100 - node.pos[0], 960 - node.pos[1] - node.size[1]];
            window.app.canvas.setDirty(true, true);
        }""",
        width,
    )
    comfy.page.wait_for_timeout(1000)


def _story(path: Path) -> None:
    """What the demo shows of the thing that the first template learns."""
    use_checkout()
    from textual_inversion.demo.story import learn, lesson_settings, tell, tiny_model

    (node,) = (node for node in read_workflow(path)["nodes"] if node["type"] == PICTURES)
    settings = lesson_settings(node["widgets_values"][0])
    with tempfile.TemporaryDirectory() as folder:
        model = tiny_model()
        print(tell(Path(folder), settings.name, list(learn(model, settings)), model), flush=True)
        (DOCS / "story.png").write_bytes((Path(folder) / "story.png").read_bytes())


if __name__ == "__main__":
    sys.exit(main([int(number) for number in sys.argv[1:]]))
