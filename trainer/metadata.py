"""What an embedding file says about how it was made (modelspec 1.0.1 plus our settings)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone

import torch
from torch import Tensor

from .embedding import TRIGGER, Embedding
from .fingerprints import network_fingerprint, pictures_fingerprint
from .model import FrozenModel, Parameterization, TextEncoder
from .pictures import Picture, meant
from .settings import Settings
from .thumbnails import THUMBNAIL, thumbnail
from .timesteps import parse_timesteps
from .version import VERSION

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
    encoders: Sequence[TextEncoder],
    parameterization: Parameterization,
    network: Iterable[Tensor],
    checkpoint: str = "",
    program: str = "",
) -> dict[str, str]:
    """What a file says of the model that its vectors are for.

    Args:
        encoders: the model's.
        parameterization: the model's.
        network: the weights of the network that predicts noise.
        checkpoint: name of its file without suffix, never a path; empty if it is not known.
        program: which runs the model, with its version.
    """
    architecture = _ARCHITECTURES.get((tuple(e.width for e in encoders), parameterization))
    described = {
        "modelspec.architecture": f"{architecture}/textual-inversion" if architecture else "",
        "modelspec.prediction_type": "v"
        if parameterization == "v_prediction"
        else parameterization,
        "sd_checkpoint_name": checkpoint,
        "textual_inversion.model": network_fingerprint(network),
        "textual_inversion.program": program,
    }
    return {key: value for key, value in described.items() if value}


def run_metadata(
    model: FrozenModel,
    settings: Settings,
    pictures: Sequence[Picture],
    start: Embedding | None = None,
) -> dict[str, str]:
    """Metadata for safetensors that is the same for all steps of a run, all values text.

    Keys `modelspec.*` follow https://github.com/Stability-AI/ModelSpec; `model.description`
    adds what the model knows of itself; `textual_inversion.*` is what a rerun needs. Pictures
    and models are named by their fingerprints, never by where they lie.
    """
    timesteps = parse_timesteps(settings.timesteps, settings.learn)
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
        "textual_inversion.pictures_hash": pictures_fingerprint(pictures),
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


def with_thumbnail(word: Embedding, picture: Tensor) -> Embedding:
    """The word with a small picture of what it draws in its metadata.

    Args:
        word: of any kind.
        picture: float32 [height, width, 3] in 0..1.
    """
    return replace(word, metadata={**word.metadata, THUMBNAIL: thumbnail(picture)})
