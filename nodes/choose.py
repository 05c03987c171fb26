"""The node that picks a word among the steps that a run has kept."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from comfy_api.latest import io
from PIL import Image

from ..trainer.errors import InputError
from ..trainer.runs.run_folder import RunFolder, find_run, list_runs
from .inputs import CATEGORY, EmbeddingSocket, found_as
from .page.runs import runs_folder

NOTHING = "no runs yet"


class ChooseTrainingStep(io.ComfyNode):
    """Run and step -> EMBEDDING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host; the list of runs is made anew each time."""
        return io.Schema(
            node_id="TextualInversionChoose",
            display_name="Choose Training Step",
            category=CATEGORY,
            **found_as(
                "checkpoint of a training",
                "earlier step",
                "training previews",
                "pick embedding step",
            ),
            description="Shows what a training run drew at each step, and outputs the word from "
            "the one you choose.",
            inputs=[
                io.Combo.Input(
                    "run",
                    options=[run.id for run in list_runs(runs_folder())] or [NOTHING],
                    tooltip="A training run, the newest first. Press R to refresh the list.",
                ),
                io.Int.Input(
                    "step",
                    default=0,
                    min=0,
                    max=100_000,
                    tooltip="The step to take the word from: click its picture. 0 takes the last "
                    "one kept.",
                ),
            ],
            outputs=[
                EmbeddingSocket.Output(
                    display_name="embedding", tooltip="The word as it was after this step."
                ),
                io.Image.Output(
                    display_name="preview",
                    tooltip="What was drawn at this step; black if nothing was.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, run: str | None) -> bool | str:
        """A run that began after the page was loaded is fine, too."""
        try:
            if run is not None:  # One that comes through a link is not known yet.
                find_run(runs_folder(), run)
        except InputError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, run: str | None, step: int | None) -> str:
        """Notice a run that has gone on; any, where it comes through a link."""
        if run is None:
            return " ".join(f"{one.id} {one.words()}" for one in list_runs(runs_folder()))
        folder = find_run(runs_folder(), run)
        chosen = step or max(folder.words(), default=0)
        path = folder.word_file(chosen)
        content = path.read_bytes() if chosen in folder.words() else b""
        return f"{chosen} {hashlib.sha256(content).hexdigest()}"

    @classmethod
    def execute(cls, run: str, step: int) -> io.NodeOutput:
        """Read the word and its picture."""
        folder = find_run(runs_folder(), run)
        word = folder.word(step)
        return io.NodeOutput(word, _picture(folder, step or folder.words()[-1]))


def _picture(folder: RunFolder, step: int) -> torch.Tensor:
    """What was drawn at a step as the host's IMAGE, [1, height, width, 3]."""
    if step not in folder.previews():
        return torch.zeros(1, 64, 64, 3)
    with Image.open(folder.preview_file(step), formats=("PNG",)) as picture:
        picture.thumbnail((2048, 2048))
        pixels = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(pixels)[None]
