"""The gradient of a word's vectors on a small model, and how its weights came for it."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.nn.functional import cosine_similarity

from .loaded import Loaded, executing
from .quantised import large
from .short_runs import random

PROMPTS = ("a photo of a [name]", "[name] beside a (wooden:1.3) boat")

LORAS = ("none", "in the weights", "held back", "at each use")
"""How the host may have a LoRA: it brings in the last two with the weights, the former with dynamic
VRAM and the latter for what it keeps off the GPU."""


STAYING = (None, 1.0, 0.5, 0.0)
"""How many of the blocks' bytes stay; None where the budget lets all weights stay."""


def let_stay(patch: pytest.MonkeyPatch, loaded: Loaded, share: float | None) -> None:
    """Have the budget let about this share of a model's blocks stay, see `STAYING`."""
    from textual_inversion.nodes.host import model as adapter
    from textual_inversion.nodes.host.memory import weights_of
    from textual_inversion.trainer.memory import Budget

    base, text = loaded.model.model, loaded.clip.cond_stage_model
    sizes = [*weights_of(base, torch.float32).blocks, *weights_of(text, torch.float32).blocks]
    chosen = Budget(2, False, 1, True, False)
    if share is not None:
        chosen = Budget(2, True, 1, True, True, True, int(share * sum(sizes)))
    patch.setattr(adapter, "plan", lambda *_: chosen)


def gradient(loaded: Loaded, at_once: int = 2, **options: Any) -> torch.Tensor:
    """Of all vectors, for two prompts, the pictures as many at once as said."""
    from textual_inversion.nodes.host.model import HostModel
    from textual_inversion.trainer.learning.initial import initial_vectors

    channels = loaded.model.model.latent_format.latent_channels
    noisy, weights = (random(2, channels, 8, 8, seed=seed) for seed in (3, 4))
    timesteps = torch.tensor([400, 600])
    with (
        executing(),
        HostModel(loaded.model, loaded.clip, loaded.vae, resolution=64, **options) as model,
    ):
        start = initial_vectors(model.text_encoders, "toy cat", 2)
        vectors = {
            k: (v.cpu() + 0.1 * v.cpu().std() * random(*v.shape, seed=2))
            .to(model.device)
            .requires_grad_()
            for k, v in start.items()
        }
        tokens = [model.tokenize(prompt, 2) for prompt in PROMPTS]
        for first in range(0, 2, at_once):
            part = slice(first, first + at_once)
            encoded = model.encode_prompts(tokens[part], vectors)
            predicted = model.predict(noisy[part].to(model.device), timesteps[part], encoded)
            (predicted * weights[part].to(model.device)).sum().backward()
        return torch.cat([v.grad.flatten() for v in vectors.values()])


def same(found: torch.Tensor, wanted: torch.Tensor, case: object = "") -> None:
    """Check that two gradients are one up to rounding."""
    cosine = cosine_similarity(found.double(), wanted.double(), dim=0)
    assert cosine > 1 - 1e-6, (case, 1 - cosine.item())
    assert found.norm() == pytest.approx(wanted.norm().item(), rel=1e-3), case


def add_lora(packed: Loaded, plain: Loaded, kind: str) -> dict[str, torch.Tensor]:
    """Give a model's network a LoRA, and have the host load it.

    Args:
        packed: the model.
        plain: the one that it was quantised from.
        kind: one of `LORAS`.

    Returns:
        what the LoRA adds to weights, as far as it is not in them; by the layers' names.
    """
    from comfy.model_patcher import LowVramPatch

    added = {}
    for name, part in large(plain.model.model.diffusion_model) if kind != "none" else ():
        rows, columns = part.weight.shape
        added[name] = 0.01 * random(rows, 2, seed=7) @ random(2, columns, seed=8)
    if kind == "in the weights":
        patches = {f"diffusion_model.{name}.weight": ("diff", (d,)) for name, d in added.items()}
        packed.model.add_patches(patches, 1.0)
    packed.have_host_load()
    if kind == "in the weights":
        return {}
    layers = dict(packed.model.model.diffusion_model.named_modules())
    for name, difference in added.items():
        patch = LowVramPatch(name, {name: [(1.0, ("diff", (difference,)), 1.0, None, None)]})
        if kind == "held back":
            layers[name].weight_lowvram_function = patch
        else:
            layers[name].weight_function = [patch]
    return added


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """How many blocks came and stayed, and how many had stand-ins at the same time at most."""
    from textual_inversion.nodes.host.weights import HostWeights

    found: Counter[str] = Counter()
    alive: dict[int, list[weakref.ref[Any]]] = {}
    bring = HostWeights.bring

    def watched(self: Any, module: torch.nn.Module) -> Any:
        made = bring(self, module)
        values = [one.value for one in made if isinstance(one.value, torch.Tensor)]
        alive[id(made)] = [weakref.ref(value.untyped_storage()) for value in values]
        now = sum(any(ref() is not None for ref in refs) for refs in alive.values())
        found["came"] += 1
        found["at once"] = max(found["at once"], now)
        return made

    HostWeights.bring = watched
    try:
        yield found
    finally:
        HostWeights.bring = bring


def description(loaded: Loaded) -> dict[str, str]:
    """What is noted of the model, by which runs are told apart."""
    from textual_inversion.nodes.host.model import HostModel

    parts = loaded.model, loaded.clip, loaded.vae
    with executing(), HostModel(*parts, resolution=64, memory=1) as model:
        return dict(model.description)
