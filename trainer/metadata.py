"""What an embedding file says about how it was made (modelspec 1.0.1 plus our settings)."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime, timezone

from .model import FrozenModel
from .settings import Settings


def training_metadata(
    model: FrozenModel, settings: Settings, pictures: int, steps_done: int, loss: float
) -> dict[str, str]:
    """Metadata for safetensors, all values text.

    Keys `modelspec.*` follow https://github.com/Stability-AI/ModelSpec; `model.description`
    adds what the model knows of itself; `textual_inversion.*` is what a rerun needs.
    """
    return {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.title": settings.name,
        "modelspec.trigger_phrase": settings.name,
        "modelspec.implementation": "textual-inversion",
        "modelspec.date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "modelspec.resolution": f"{settings.resolution}x{settings.resolution}",
        "modelspec.prediction_type": "v"
        if model.parameterization == "v_prediction"
        else model.parameterization,
        **model.description,
        "textual_inversion.settings": json.dumps(asdict(settings), sort_keys=True),
        "textual_inversion.pictures": str(pictures),
        "textual_inversion.steps": str(steps_done),
        "textual_inversion.loss": f"{loss:.6f}",
    }
