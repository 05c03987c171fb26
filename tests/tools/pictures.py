"""Makes the templates' pictures anew: each as the page shows it, run where it needs no checkpoint.

The training node of the first also gives the guide's picture of the chart.

    cd tests && python -m tools.pictures                # all
    cd tests && python -m tools.pictures 1-first-word   # this one

Wanted whenever a template, the training node or the weights of the tiny model have changed.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from support.browser import TRAIN, ComfyPage, browser_page
from support.client import Host, serving
from support.comfyui import find_comfyui
from support.paths import ROOT

TEMPLATES = ROOT / "example_workflows"
CHART = ROOT / "docs" / "guide" / "chart.png"
WIDTH = 1100
ROOM = 120
"""Pixels of the window to the left of and above the graph, where the page has bars."""


def main(names: Sequence[str]) -> int:
    """Make the pictures of these templates; returns the exit code."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(find_comfyui(), Path(folder)) as host,
    ):
        for path in sorted(TEMPLATES.glob("*.json")):
            if not names or path.stem in names:
                _picture(host, path).save(path.with_suffix(".jpg"), quality=85)
                print(path.stem, flush=True)
    return 0


def _picture(host: Host, path: Path) -> Image.Image:
    workflow = json.loads(path.read_text(encoding="utf-8"))
    left, top, right, bottom = _bounds(workflow)
    scale = WIDTH / (right - left)
    height = round((bottom - top) * scale)
    # Room at the other sides, too: buttons and a map lie in the corner.
    with browser_page(host.server.url, WIDTH + 3 * ROOM, height + 3 * ROOM) as comfy:
        comfy.open()
        comfy.setting("Comfy.Minimap.Visible", False)
        # Else no text is drawn on a graph as small as this.
        comfy.setting("LiteGraph.Canvas.MinFontSizeForLOD", 0)
        comfy.load(workflow)
        if not any(node["type"] == "CheckpointLoaderSimple" for node in workflow["nodes"]):
            comfy.queue()
            comfy.page.wait_for_timeout(2000)
            while host.get("/prompt")["exec_info"]["queue_remaining"]:
                time.sleep(1)
        if path.stem == "1-first-word":
            node = next(node for node in workflow["nodes"] if node["type"] == TRAIN)
            (x, y), (_, tall) = node["pos"], node["size"]
            _look_from(comfy, 20 - x, 60 - y - tall / 2, 2.0)
            comfy.page.wait_for_timeout(1000)
            comfy.page.locator(".ti-panel").first.screenshot(path=CHART)
        _look_from(comfy, ROOM / scale - left, ROOM / scale - top, scale)
        comfy.page.wait_for_timeout(3000)
        clip: Any = {"x": ROOM, "y": ROOM, "width": WIDTH, "height": height}
        return Image.open(io.BytesIO(comfy.page.screenshot(clip=clip))).convert("RGB")


def _look_from(comfy: ComfyPage, x: float, y: float, scale: float) -> None:
    comfy.page.evaluate(
        """([x, y, scale]) => {
            const { ds } = window.app.canvas;
            ds.scale = scale;
            ds.offset = [x, y];
            window.app.canvas.setDirty(true, true);
        }""",
        [x, y, scale],
    )


def _bounds(workflow: dict[str, Any]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the groups, which hold all nodes."""
    boxes = [group["bounding"] for group in workflow["groups"]]
    return (
        min(x for x, *_ in boxes),
        min(y for _, y, *_ in boxes),
        max(x + width for x, _, width, _ in boxes),
        max(y + height for _, y, _, height in boxes),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
