"""Train the tiny model's text encoder, on its own and before the UNet, as CLIP is.

What a caption says must stand in the text encoder's states before a UNet can look for it
there. Left to the UNet's loss alone, the text encoder learns the ground that fills the
picture, and of the object next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .captioner import Captioner, NamedText, look_features
from .model import TEXT_WIDTH, CLIPTokenizer
from .train_autoencoder import learning_rate
from .workers import average_gradients, rank, workers
from .world import BACKGROUNDS, PLACES, SIZES, Scene


def scene_features(scene: Scene) -> list[float]:
    """Everything about a scene as numbers around -1..1, named in captions or not."""
    return [
        *look_features(scene.look, style=False),
        *(float(scene.background == name) for name in BACKGROUNDS),
        *(float(scene.size == name) for name in SIZES),
        *(float(scene.place == name) for name in PLACES),
    ]


def train_text(
    scenes: list[Scene],
    tokenizer: CLIPTokenizer,
    steps: int,
    *,
    batch: int = 96,
    peak: float = 1e-3,
    seed: int = 0,
    start: dict[str, torch.Tensor] | None = None,
    report: Callable[[int, float], None] | None = None,
) -> NamedText:
    """Train to tell scenes from their captions, as far as these say.

    A linear reading of the states, from the end of the text on, is to give the scene's
    features; of what a caption leaves open the mean is the best that it can say.
    With a finished encoder as `start` only its namer is trained, on the scenes at hand.
    """
    torch.manual_seed(seed)
    text = NamedText(tokenizer)
    if start is not None:
        text.encoder.load_state_dict(start)
        text.encoder.requires_grad_(False)
    features = torch.tensor([scene_features(s) for s in scenes], dtype=torch.float32)
    reading = nn.Linear(TEXT_WIDTH, features.shape[1])
    moved = [p for p in (*text.parameters(), *reading.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(moved, lr=peak, betas=(0.9, 0.99), weight_decay=0.01)
    captioner = Captioner(tokenizer, np.random.default_rng([seed, rank()]))
    dice = torch.Generator().manual_seed(seed * 1000 + rank())
    torch.manual_seed(seed + 1 + rank())
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        chosen = torch.randint(len(scenes), (batch // workers(),), generator=dice)
        tokens, looks = captioner([scenes[i] for i in chosen.tolist()])
        states = text(tokens, looks)
        ended = (tokens == tokenizer.eos_token_id).cumsum(dim=1) > 0
        wanted = features[chosen][:, None].expand(-1, tokens.shape[1], -1)
        loss = functional.mse_loss(reading(states)[ended], wanted[ended])
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        average_gradients(moved)
        nn.utils.clip_grad_norm_(moved, 1.0)
        optimizer.step()
        if report is not None:
            report(step, loss.item())
    return text.eval().requires_grad_(False)
