"""What a training would do and take, found out without keeping anything of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..data.checks import checks, expectation
from ..data.pictures import Picture, meant
from ..embeddings.embedding import Embedding
from ..learning.chosen_objective import objective_of
from ..learning.loop import train
from ..methods.settling import FIRST
from ..model import FrozenModel
from ..settings import RatingSettings, Settings

TRIED = 3
"""Steps that are tried; the first one takes longer than the others, and is not counted."""


def plan(
    model: FrozenModel,
    pictures: Sequence[Picture],
    settings: Settings,
    target: Path,
    start: Embedding | None = None,
) -> str:
    """Say what a run would do, what there is to know before it, and what it would take.

    Args:
        model: see `loop.train`.
        pictures: see `loop.train`.
        settings: see `loop.train`.
        target: the file that would be written, or the first of two.
        start: see `loop.train`.

    Raises:
        InputError: as `loop.train`.
        DivergedError: as `loop.train`.
    """
    encoders = ", ".join(encoder.key for encoder in model.text_encoders)
    # Where they are compared, those that are disliked teach as much.
    taught = pictures if isinstance(settings, RatingSettings) else meant(pictures)
    count = len(taught)
    objective = objective_of(settings)
    names = [f"{name}{target.suffix}" for name in objective.names(settings.name)]
    files = " and ".join(str(target.with_name(name)) for name in names)
    lines = [
        f"“{settings.name}” would be learned for {encoders} from {count} "
        f"picture{'s' if count != 1 else ''} of {settings.resolution} pixels, in "
        f"{'at most ' if settings.ends_by_itself else ''}{settings.steps} steps of "
        f"{settings.batch_size * settings.accumulate}, and written as {files}.",
        *objective.notices(pictures, settings),
        *checks(pictures, settings, model.text_encoders, start, objective.prompts),
        _taken(model, pictures, settings, start),
    ]
    return "\n".join(lines)


def _taken(
    model: FrozenModel, pictures: Sequence[Picture], settings: Settings, start: Embedding | None
) -> str:
    if settings.steps <= TRIED:
        return f"{settings.steps} steps take no time worth measuring."
    # Without what is done now and then, which counts little in a run and much in a few steps.
    few = replace(settings, steps=TRIED, evaluations=0, keep="last", stop_early=False)
    seconds = [progress.seconds for progress in train(model, pictures, few, start)]
    pace = (seconds[-1] - seconds[0]) / (TRIED - 1)
    # How soon a run ends that has no length of its own, only its gradients can tell.
    earliest = min(FIRST, settings.steps) if settings.ends_by_itself else settings.steps
    ends = (earliest, settings.steps)
    least, most = (seconds[0] + pace * (steps - 1) for steps in ends)
    told = expectation((least, most), ends, model.device)
    return told + _memory(model.device)


def _memory(device: torch.device) -> str:
    """The most memory that the process has used, where the system tells; a GPU's is told above."""
    if device.type == "cuda":
        return ""
    try:
        import resource
    except ImportError:  # Windows
        return ""
    import sys

    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    return f" They need {peak:.1f} GB of memory."
