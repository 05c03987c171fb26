"""Which model the host's MODEL is, by its weights."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import torch

from ...trainer.embeddings.metadata import network_fingerprint
from .weights import HostWeights, compute_dtype_of


def fingerprint_of(model: Any) -> str:
    """What words learned with this MODEL, LoRAs included, note as `textual_inversion.model`."""
    with torch.inference_mode():
        # Only a loaded model has its LoRAs in its weights, or beside them.
        comfy.model_management.load_models_gpu([model])
        network = model.model.diffusion_model
        weights = HostWeights(network, model.load_device, compute_dtype_of(model))
        return network_fingerprint(weights.numbers())
