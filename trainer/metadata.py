"""What an embedding file says about how it was made (modelspec 1.0.1 plus our settings)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone

from .model import FrozenModel, Parameterization, TextEncoder
from .settings import Settings

_ARCHITECTURES = {
    ((768,), "epsilon"): "stable-diffusion-v1",
    ((768,), "v_prediction"): "stable-diffusion-v1",
    ((1024,), "epsilon"): "stable-diffusion-v2-512",
    ((1024,), "v_prediction"): "stable-diffusion-v2-768-v",
    ((768, 1280), "epsilon"): "stable-diffusion-xl-v1-base",
    ((768, 1280), "v_prediction"): "stable-diffusion-xl-v1-base",
}
"""Widths of the text encoders and parameterisation -> name in modelspec."""


def describe_model(
    encoders: Sequence[TextEncoder], parameterization: Parameterization, checkpoint: str
) -> dict[str, str]:
    """What a file says of the model that its vectors are for.

    Args:
        encoders: the model's.
        parameterization: the model's.
        checkpoint: name of its file without suffix, never a path; empty if it is not known.
    """
    architecture = _ARCHITECTURES.get((tuple(e.width for e in encoders), parameterization))
    described = {
        "modelspec.architecture": f"{architecture}/textual-inversion" if architecture else "",
        "sd_checkpoint_name": checkpoint,
    }
    return {key: value for key, value in described.items() if value}


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
