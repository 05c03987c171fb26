"""How the nodes that train do it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..trainer.data.pictures import Picture, as_unlike
from ..trainer.embeddings.embedding import Embedding
from ..trainer.files.whole_files import try_folder
from ..trainer.learning.chosen_objective import objective_of
from ..trainer.presets import NONE, with_preset
from ..trainer.runs.live import LiveRun
from ..trainer.runs.previews import draw_previews, preview_grid
from ..trainer.runs.run import open_run
from ..trainer.runs.run_inputs import (
    fingerprints,
    has_settings,
    is_learned_from,
    runs_of,
)
from ..trainer.runs.training import Destination, train_and_save
from ..trainer.settings import Settings, described_fields
from .graph_names import check_alone
from .host import library
from .host.model import HostModel
from .inputs import one_each
from .page.runs import RUNS, NodeDisplay, runs_folder, temporary_folder


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
    preset: Sequence[str] = (NONE,),
    captions: list[str] | None = None,
    masks: list[Tensor] | None = None,
    start_from: list[Embedding] | None = None,
    unlike_images: list[Tensor] | None = None,
    unlike_captions: list[str] | None = None,
    **values: list[Any],
) -> Done:
    """Train, draw previews and save, as all nodes that train do.

    The keywords are the inputs of `training_inputs`, each as the list that the host gives, and
    captions of `unlike_images`. The kind of settings says what is learned. What was learned
    survives an interrupt or an error.

    Raises:
        InputError: something cannot be used; before any time is spent.
        DivergedError: see `loop.train`.
    """
    chosen = {f.name: values.get(f.name, [f.default])[0] for f, _ in described_fields(kind)}
    settings = kind(**with_preset(preset[0], chosen))
    objective = objective_of(settings)
    names = objective.names(settings.name) if save[0] else []
    check_alone(hidden, names)
    known = _learned_before(names, settings) if not overwrite[0] else []
    for name in names if not known else ():
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
            batch_size=settings.batch_pictures * objective.words,
            resolution=settings.resolution,
            checkpointing=settings.checkpointing,
            memory=settings.memory_bytes,
            negative=settings.guidance_of_negative,
        ) as frozen,
        ExitStack() as stack,
    ):
        pictures = [
            *to_pictures(images, captions, masks),
            *map(as_unlike, to_pictures(unlike_images or [], unlike_captions)),
        ]
        start = start_from[0] if start_from else None
        if known:
            if all(is_learned_from(w, frozen, settings, pictures, start) for w in known):
                return _done_before(known, frozen, settings, pictures, start)
            library.check_free(settings.name)
        run = open_run(runs_folder(), settings, fingerprints(frozen, pictures, start))
        live = LiveRun(run.folder, settings.steps, _owner(hidden))
        display = NodeDisplay(live)
        # From the last to the first on the way out: what is told comes after what is written.
        stack.callback(display.announce)
        stack.enter_context(RUNS.add(live))
        stack.enter_context(run)
        stack.enter_context(frozen)  # Again, so that the run hears of errors in its sentences, too.
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


def _learned_before(names: Sequence[str], settings: Settings) -> list[Embedding]:
    """The words of these names, if all of them were learned with these settings."""
    with torch.inference_mode(False):
        words = [word for name in names if (word := library.learned(name))]
    return words if words and len(words) == len(names) and _all_with(words, settings) else []


def _all_with(words: Sequence[Embedding], settings: Settings) -> bool:
    return all(has_settings(word, settings) for word in words)


def _done_before(
    words: Sequence[Embedding],
    model: HostModel,
    settings: Settings,
    pictures: Sequence[Picture],
    start: Embedding | None,
) -> Done:
    """What a training gave whose words are in their files; only the preview is made again."""
    names = " and ".join(f"“{word.name}”" for word in words)
    read = "is read from its file" if len(words) == 1 else "are read from their files"
    note = (
        f"Already learned from the same pictures with the same settings: {names} {read}. Turn on "
        "overwrite to train again."
    )
    run = next(runs_of(runs_folder(), settings, fingerprints(model, pictures, start)), None)
    # The words of a pair are drawn together, as they were learned.
    rows = draw_previews(model, pictures, settings, words[0]) if len(words) == 1 else []
    losses = [row.loss for row in run.losses()] if run else []
    return Done(
        words,
        {"loss": losses or [float(words[-1].metadata["textual_inversion.loss"])]},
        preview_grid(pictures, settings, rows)[None],
        f"embedding:{words[-1].name}",
        note,
        {"textual_inversion_run": [run.id] if run else [], "textual_inversion_note": [note]},
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
    texts = one_each("captions", list(captions) if captions else [None], len(frames))
    planes = [plane.clone() for mask in masks or [] for plane in mask.view(-1, *mask.shape[-2:])]
    covers = one_each("masks", planes or [None], len(frames))
    return [
        Picture(frame, text, cover, f"picture {number}")
        for number, (frame, text, cover) in enumerate(zip(frames, texts, covers, strict=True), 1)
    ]
