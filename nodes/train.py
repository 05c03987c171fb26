"""The node that trains."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import io
from torch import Tensor

from ..trainer.data import Picture
from ..trainer.embedding import Embedding, check_name
from ..trainer.errors import DivergedError, InputError
from ..trainer.loop import Progress, train
from ..trainer.previews import preview_grid
from ..trainer.settings import Settings, described_fields
from . import library
from .adapter import HostModel
from .common import CATEGORY, EmbeddingSocket, LossMapSocket, setting_inputs

SECONDS_BETWEEN_TEXTS = 0.25


class TrainTextualInversion(io.ComfyNode):
    """MODEL, CLIP, VAE and pictures -> a new word."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host."""
        return io.Schema(
            node_id="TextualInversionTrain",
            display_name="Train Textual Inversion",
            category=CATEGORY,
            description="Learns a new word from a few pictures with the model that the graph has "
            "loaded. The model itself does not change.",
            is_input_list=True,
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Model.Input("model", tooltip="The model to learn with; LoRAs on it count."),
                io.Clip.Input("clip", tooltip="Its text encoder; clip skip counts."),
                io.Vae.Input("vae", tooltip="Its VAE."),
                io.Image.Input(
                    "images",
                    tooltip="3 to 10 pictures of the same thing or style, as a batch or a list.",
                ),
                *setting_inputs(advanced=False),
                io.Boolean.Input(
                    "save",
                    default=True,
                    tooltip="Write the finished word into the embeddings folder, where every "
                    "prompt finds it. Off: it lives in this graph until saved by Save Embedding.",
                ),
                io.Boolean.Input(
                    "overwrite",
                    default=False,
                    tooltip="Replace an embedding of this name. Off: the node refuses before it "
                    "spends any time.",
                ),
                *setting_inputs(advanced=True),
                io.String.Input(
                    "captions",
                    optional=True,
                    force_input=True,
                    tooltip="A list of texts, one for each picture, each with [name] where the "
                    "picture shows the thing. Without captions the templates for object or style "
                    "are used.",
                ),
                io.Mask.Input(
                    "masks",
                    optional=True,
                    tooltip="Learn only where the mask is white; one for each picture. Load Image "
                    "gives transparent parts as white: put Invert Mask behind it.",
                ),
                EmbeddingSocket.Input(
                    "start_from",
                    optional=True,
                    tooltip="Go on from this word instead of init_words; num_vectors is its.",
                ),
            ],
            outputs=[
                EmbeddingSocket.Output(display_name="embedding"),
                LossMapSocket.Output(
                    display_name="loss", tooltip="For the host's Plot Loss Graph."
                ),
                io.Image.Output(
                    display_name="preview",
                    tooltip="The pictures to learn from, and what the model draws with the word.",
                ),
                io.String.Output(
                    display_name="prompt", tooltip="embedding:NAME, ready for a prompt."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, name: list[str] | None = None) -> bool | str:
        """Refuse an unusable name as soon as the graph is queued."""
        try:
            check_name(name[0] if name else "connected")
        except InputError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        model: list[Any],
        clip: list[Any],
        vae: list[Any],
        images: list[Tensor],
        save: list[bool],
        overwrite: list[bool],
        captions: list[str] | None = None,
        masks: list[Tensor] | None = None,
        start_from: list[Embedding] | None = None,
        **values: list[Any],
    ) -> io.NodeOutput:
        """Train, draw previews and save; what was learned survives an interrupt or an error."""
        settings = Settings(**{f.name: values[f.name][0] for f, _ in described_fields()})
        if save[0] and not overwrite[0]:
            library.check_free(settings.name)
        losses: list[float] = []
        word: Embedding | None = None
        # Everything below needs tensors that can carry a gradient; the host's own calls go
        # back into inference mode inside the adapter.
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            HostModel(
                model[0],
                clip[0],
                vae[0],
                batch_size=settings.batch_size,
                resolution=settings.resolution,
                checkpointing=settings.checkpointing,
            ) as frozen,
        ):
            pictures = to_pictures(images, captions, masks)
            start = start_from[0] if start_from else None
            display = _Display(cls.hidden.unique_id, settings.steps)
            try:
                display.say("encoding the pictures")
                for progress in train(frozen, pictures, settings, start):
                    word = progress.kept
                    losses.append(progress.loss)
                    display.show(progress)
                    comfy.model_management.throw_exception_if_processing_interrupted()
                learned = progress.kept
                if settings.previews:
                    display.say("drawing the preview")
                preview = preview_grid(frozen, pictures, settings, learned)
                if save[0]:
                    library.save(learned, overwrite=overwrite[0])
            except BaseException as reason:
                _rescue(word, reason)
                raise
        prompt = f"embedding:{learned.name}"
        display.say(f"saved as {prompt}" if save[0] else f"learned {learned.name}, not saved")
        return io.NodeOutput(learned, {"loss": losses}, preview[None], prompt)


class _Display:
    """The node's progress bar, and a line of text below it."""

    def __init__(self, node_id: str, steps: int) -> None:
        self._node_id = node_id
        self._bar = comfy.utils.ProgressBar(steps)
        self._said = 0.0

    def say(self, text: str) -> None:
        """Show a line of text."""
        from server import PromptServer

        self._said = time.monotonic()
        PromptServer.instance.send_progress_text(text, self._node_id)

    def show(self, progress: Progress) -> None:
        """Show how far training is; the text not too often, as every open page gets it."""
        self._bar.update_absolute(progress.step)
        if time.monotonic() - self._said > SECONDS_BETWEEN_TEXTS or progress.step == progress.steps:
            self.say(str(progress))


def to_pictures(
    images: Sequence[Tensor],
    captions: Sequence[str] | None = None,
    masks: Sequence[Tensor] | None = None,
) -> list[Picture]:
    """The host's batches and lists of pictures, captions and masks as single pictures.

    Args:
        images: tensors [batch, height, width, 3 or 4].
        captions: as many texts as pictures, one for all of them, or None.
        masks: tensors [batch, height, width] or [height, width], as many as pictures, one
            for all of them, or None.

    Raises:
        InputError: another number of captions or masks.
    """
    # Clones, because the host's own are inference tensors.
    frames = [frame.clone() for batch in images for frame in batch]
    texts = _one_each("captions", list(captions) if captions else [None], len(frames))
    planes = [plane.clone() for mask in masks or [] for plane in mask.view(-1, *mask.shape[-2:])]
    covers = _one_each("masks", planes or [None], len(frames))
    return [
        Picture(frame, text, cover, f"picture {number}")
        for number, (frame, text, cover) in enumerate(zip(frames, texts, covers, strict=True), 1)
    ]


def _one_each(what: str, values: list[Any], count: int) -> list[Any]:
    if len(values) == 1:
        return values * count
    if len(values) != count:
        raise InputError(
            f"There are {count} pictures but {len(values)} {what}: connect one for each picture."
        )
    return values


def _rescue(word: Embedding | None, reason: BaseException) -> None:
    """Keep what was learned before an interrupt or an error, without hiding the reason."""
    if isinstance(reason, DivergedError):
        word = reason.last_good
    if word is None:
        return
    # Shortened, so that the longest allowed name does not become too long to be saved.
    rescued = word.renamed(f"{word.name[:88]}-interrupted")
    try:
        path = library.save(rescued, overwrite=True)
        logging.info("Textual inversion: what was learned is kept in %s", path.name)
    except (OSError, InputError):
        logging.exception("Textual inversion: what was learned could not be saved")
