"""What the nodes that train have in common."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..trainer.data.pictures import Picture, as_unlike
from ..trainer.embeddings.embedding import Embedding
from ..trainer.errors import InputError
from ..trainer.files.whole_files import try_folder
from ..trainer.learning.chosen_objective import objective_of
from ..trainer.presets import HELP as PRESET_HELP
from ..trainer.presets import NONE, PRESETS, with_preset
from ..trainer.runs.live import LiveRun
from ..trainer.runs.run import fingerprints, open_run
from ..trainer.runs.training import Destination, train_and_save
from ..trainer.settings import Settings, described_fields
from .host import library
from .host.model import HostModel
from .inputs import EmbeddingSocket, LossMapSocket, name_problem, setting_inputs
from .page.runs import RUNS, NodeDisplay, runs_folder, temporary_folder


def training_inputs(kind: type[Settings], *, images: str, captions: str) -> list[io.Input]:
    """The inputs of a node that trains.

    Args:
        kind: of its settings.
        images: tooltip of the pictures.
        captions: tooltip of their captions.
    """
    return [
        io.Model.Input(
            "model", tooltip="The model to train with, including any LoRAs applied to it."
        ),
        io.Clip.Input("clip", tooltip="The model's text encoder, including clip skip."),
        io.Vae.Input("vae", tooltip="The model's VAE."),
        io.Image.Input(
            "images",
            tooltip=images,
        ),
        *setting_inputs(kind, "front"),
        io.Boolean.Input(
            "save",
            default=True,
            tooltip="Save the finished word to the embeddings folder, where every prompt can use "
            "it. Off: it exists only in this graph until Save Embedding writes it.",
        ),
        io.Boolean.Input(
            "overwrite",
            default=False,
            tooltip="Replace an existing embedding of the same name. Off: the node refuses before "
            "training starts.",
        ),
        *setting_inputs(kind, "middle"),
        io.Combo.Input("preset", options=[NONE, *PRESETS], default=NONE, tooltip=PRESET_HELP),
        *setting_inputs(kind, "end"),
        io.String.Input(
            "captions",
            optional=True,
            force_input=True,
            tooltip=captions,
        ),
        io.Mask.Input(
            "masks",
            optional=True,
            tooltip="Learn only where the mask is white; one per picture. Load Image outputs "
            "transparent areas as white: put Invert Mask after it.",
        ),
        EmbeddingSocket.Input(
            "start_from",
            optional=True,
            tooltip="Continue from this word instead of init_words; it keeps its number of "
            "vectors.",
        ),
        io.Image.Input(
            "unlike_images",
            optional=True,
            tooltip="Pictures of what the word does not mean, such as other things of the same "
            "kind or the same places without it: what they have in common with images is not "
            "learned.",
        ),
    ]


def loss_output() -> io.Output:
    """The output of the losses of all steps."""
    return LossMapSocket.Output(
        display_name="loss", tooltip="The loss of every step, for Plot Loss Graph."
    )


def report_output() -> io.Output:
    """The output of what is known of the word."""
    return io.String.Output(
        display_name="report",
        tooltip="A report on the word: how far it has come, loss by noise level, lengths, nearest "
        "words, similarity to the start, and anything unusual. For Preview as Text.",
    )


def name_allowed(name: list[str] | None) -> bool | str:
    """Whether a word can be called so, as soon as the graph is queued; if not, why."""
    return name_problem(name[0] if name else None)


@dataclass(frozen=True)
class Done:
    """What a node that trains gives.

    Attributes:
        words: one, or those of a pair.
        losses: for the host's Plot Loss Graph.
        preview: [1, height, width, 3].
        prompt: `embedding:NAME` of the last word.
        report: what is known of them.
        shown: for the page.
    """

    words: Sequence[Embedding]
    losses: dict[str, list[float]]
    preview: Tensor
    prompt: str
    report: str
    shown: dict[str, list[str]]


def train_in_host(
    kind: type[Settings],
    hidden: Any,
    *,
    model: list[Any],
    clip: list[Any],
    vae: list[Any],
    images: list[Tensor],
    save: list[bool],
    overwrite: list[bool],
    preset: list[str],
    captions: list[str] | None = None,
    masks: list[Tensor] | None = None,
    start_from: list[Embedding] | None = None,
    unlike_images: list[Tensor] | None = None,
    **values: list[Any],
) -> Done:
    """Train, draw previews and save, as all nodes that train do.

    The keywords are the inputs of `training_inputs`, each as the list that the host gives. The kind
    of settings says what is learned. What was learned survives an interrupt or an error.

    Raises:
        InputError: something cannot be used; before any time is spent.
        DivergedError: see `loop.train`.
    """
    chosen = {f.name: values.get(f.name, [f.default])[0] for f, _ in described_fields(kind)}
    settings = kind(**with_preset(preset[0], chosen))
    objective = objective_of(settings)
    for name in objective.names(settings.name) if save[0] else ():
        library.check_free(name, overwrite=overwrite[0])
        library.try_to_write(name)
    try_folder(runs_folder(), f"{settings.name}_00001")
    destination = Destination(
        lambda word, replace: library.save(word, overwrite=replace),
        save[0],
        overwrite[0],
        temporary_folder(),
    )
    # Everything below needs tensors that can carry a gradient; the host's own calls go
    # back into inference mode inside `HostModel`.
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        HostModel(
            model[0],
            clip[0],
            vae[0],
            batch_size=settings.batch_size * objective.words,
            resolution=settings.resolution,
            checkpointing=settings.checkpointing,
            memory=settings.memory_bytes,
        ) as frozen,
        ExitStack() as stack,
    ):
        pictures = [
            *to_pictures(images, captions, masks),
            *(as_unlike(p) for p in to_pictures(unlike_images or [])),
        ]
        start = start_from[0] if start_from else None
        run = open_run(runs_folder(), settings, fingerprints(frozen, pictures, start))
        live = LiveRun(run.folder, settings.steps, _owner(hidden))
        display = NodeDisplay(live, hidden.unique_id)
        # From the last to the first on the way out: what is told comes after what is written.
        stack.callback(display.announce)
        stack.enter_context(RUNS.add(live))
        stack.enter_context(run)
        trained = train_and_save(frozen, pictures, settings, display, destination, start, run)
        names = [word.name for word in trained.words]
        prompts = [f"embedding:{name}" for name in names]
        display.say(
            f"saved as {' and '.join(prompts)}"
            if save[0] and not trained.unsaved
            else f"learned {' and '.join(names)}, not saved"
        )
    return Done(
        trained.words,
        {"loss": [row.loss for row in live.rows]},
        trained.preview[None],
        prompts[-1],
        str(trained.report),
        {"textual_inversion_run": [run.folder.id]},
    )


def _owner(hidden: Any) -> dict[str, str]:
    """Which node of which graph this is, for pages that show the same graph."""
    graph = (hidden.extra_pnginfo or {}).get("workflow") or {}
    return {"node": str(hidden.unique_id), "workflow": str(graph.get("id", ""))}


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
