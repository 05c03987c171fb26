"""What an embedding file says about the run that made it (modelspec 1.0.1 plus our settings)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone

import torch

from ..data.pictures import Picture, meant, pictures_fingerprint
from ..embeddings.embedding import TRIGGER, Embedding
from ..model import FrozenModel
from ..settings import Settings
from ..version import VERSION


def run_metadata(
    model: FrozenModel,
    settings: Settings,
    pictures: Sequence[Picture],
    start: Embedding | None = None,
    pictures_hash: str | None = None,
) -> dict[str, str]:
    """Metadata for safetensors that is the same for all steps of a run, all values text.

    Keys `modelspec.*` follow https://github.com/Stability-AI/ModelSpec; `model.description`
    adds what the model knows of itself; `textual_inversion.*` is what a rerun needs. Pictures
    and models are named by their fingerprints, never by where they lie.
    """
    timesteps = settings.timestep_range
    metadata = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.title": settings.name,
        TRIGGER: settings.name,
        "modelspec.implementation": "textual-inversion",
        "modelspec.resolution": f"{settings.resolution}x{settings.resolution}",
        "modelspec.timestep_range": f"{timesteps.low},{timesteps.high}",
        **model.description,
        "textual_inversion.version": VERSION,
        "textual_inversion.torch": torch.__version__,
        "textual_inversion.settings": json.dumps(asdict(settings), sort_keys=True),
        "textual_inversion.pictures": str(len(meant(pictures))),
        "textual_inversion.pictures_hash": pictures_hash or pictures_fingerprint(pictures),
    }
    if start is not None:
        metadata["textual_inversion.start_from"] = f"{start.name}, {start.fingerprint}"
    return metadata


def step_metadata(steps_done: int, loss: float) -> dict[str, str]:
    """Metadata about how far a run was when its word was handed out."""
    return {
        "modelspec.date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "textual_inversion.steps": str(steps_done),
        "textual_inversion.loss": f"{loss:.6f}",
    }
