"""Train the tiny model's autoencoder on pictures of the world."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import nn
from torch.nn import functional

from .model import LATENT_CHANNELS, AutoencoderTiny, new_vae
from .muon import Muon
from .workers import average_gradients, rank, share

M = TypeVar("M", bound=nn.Module)

EDGE_WEIGHT = 0.5
OBJECT_WEIGHT = 3.0
# Noise on the latents in training, in units of their spread: a denoiser's small errors
# must not show.
LATENT_NOISE = 0.08
# Side of the square cut from every picture of a batch: what the autoencoder does at a
# place depends on its surroundings only, so whole pictures would be the same few lessons
# at four times the price.
CROP = 64


def learning_rate(step: int, steps: int, peak: float, warm_up: int = 100) -> float:
    """Linear warm-up, then a cosine down to 2% of the peak."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    done = (step - warm_up) / max(1, steps - warm_up)
    return peak * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * done)))


class Average(Generic[M]):
    """Exponential moving average of a module's weights."""

    def __init__(self, module: M, decay: float = 0.999) -> None:
        self.module: M = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, module: M) -> None:
        """Take in the present weights; faster in the first steps."""
        self.steps += 1
        keep = min(self.decay, (1 + self.steps) / (10 + self.steps))
        pairs = zip(self.module.parameters(), module.parameters(), strict=True)
        for mine, theirs in pairs:
            mine.lerp_(theirs, 1.0 - keep)


def to_network(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures of 8-bit values (N, H, W, 3) as a network takes them: (N, 3, H, W), -1..1."""
    return pictures.movedim(-1, 1).float().div(127.5).sub(1.0)


def _crops(pictures: torch.Tensor, dice: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A square of each picture at random, and the colours of their grounds (N, 3, 1, 1)."""
    room = pictures.shape[1] - CROP
    corners = torch.randint(room + 1, (len(pictures), 2), generator=dice).tolist()
    pairs = zip(pictures, corners, strict=True)
    cut = torch.stack([whole[y : y + CROP, x : x + CROP] for whole, (y, x) in pairs])
    # No object reaches around a picture's corner.
    return to_network(cut), to_network(pictures[:, :1, :1])


def _likeness_loss(made: torch.Tensor, wanted: torch.Tensor, ground: torch.Tensor) -> torch.Tensor:
    """Difference of values and of steps between neighbours, most of all on the object.

    A small star is a few pixels of many; without the weight the ground would be learned
    to perfection first, and the star as a dot.
    """
    apart = (wanted - ground).abs().amax(dim=1, keepdim=True) > 0.1
    near = functional.max_pool2d(apart.float(), 5, stride=1, padding=2)
    weight = 1.0 + OBJECT_WEIGHT * near
    weight = weight / weight.mean(dim=(2, 3), keepdim=True)
    apart_by = made - wanted
    loss = (weight * (apart_by.abs() + apart_by.square())).mean()
    for dim in (2, 3):
        steps = made.diff(dim=dim) - wanted.diff(dim=dim)
        loss = loss + EDGE_WEIGHT * (weight.narrow(dim, 1, steps.shape[dim]) * steps.abs()).mean()
    return loss


def _fresh() -> AutoencoderTiny:
    """An autoencoder whose signals start at one size through all layers: it has no norms."""
    vae = new_vae()
    for module in vae.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for layer in [*vae.encoder.layers, *vae.decoder.layers]:
        if hasattr(layer, "fuse"):  # a residual block starts close to passing on
            layer.conv[4].weight.data *= 0.2
    last = vae.decoder.layers[-1]
    last.weight.data *= 0.2
    nn.init.constant_(last.bias, 0.5)
    return vae


def train_autoencoder(
    pictures: torch.Tensor,
    steps: int,
    *,
    start: AutoencoderTiny | None = None,
    batch: int = 16,
    peak: float = 2e-2,
    decoder_only: bool = False,
    seed: int = 0,
    report: Callable[[int, float], None] | None = None,
) -> AutoencoderTiny:
    """Train on pictures of 8-bit values (N, H, W, 3).

    `decoder_only` sharpens a finished autoencoder without moving its latents, so that
    a denoiser trained on them stays valid.
    """
    torch.manual_seed(seed)
    vae = start or _fresh()
    vae.train().requires_grad_(True)
    if decoder_only:
        vae.encoder.requires_grad_(False)
    average = Average(vae)
    # Holds the latents at zero mean and unit spread while the encoder finds its own.
    spread = nn.BatchNorm2d(LATENT_CHANNELS, affine=False)
    moved = [p for p in vae.parameters() if p.requires_grad]
    optimizer = Muon(moved, lr=peak)
    dice = torch.Generator().manual_seed(seed)
    crop_dice = torch.Generator().manual_seed(seed + 1 + rank())
    # The workers start alike, but must not draw the same latent noise.
    torch.manual_seed(seed + 1 + rank())
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        chosen = torch.randint(len(pictures), (batch,), generator=dice)
        wanted, ground = _crops(pictures[share(chosen)], crop_dice)
        latent = vae.encode(wanted).latents.float()
        if not decoder_only:
            latent = spread(latent)
        made = vae.decode(latent + LATENT_NOISE * torch.randn_like(latent)).sample
        loss = _likeness_loss(made.float(), wanted, ground)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        average_gradients(moved)
        nn.utils.clip_grad_norm_(moved, 1.0)
        optimizer.step()
        average.update(vae)
        if report is not None:
            report(step, loss.item())
    return average.module


@torch.no_grad()
def encode_all(vae: AutoencoderTiny, pictures: torch.Tensor, batch: int = 64) -> torch.Tensor:
    """The latents of many pictures (8-bit values, N, H, W, 3)."""
    parts = []
    for at in range(0, len(pictures), batch):
        parts.append(vae.encode(to_network(pictures[at : at + batch])).latents)
    return torch.cat(parts)


@torch.no_grad()
def normalise_latents(vae: AutoencoderTiny, pictures: torch.Tensor) -> None:
    """Fold the latents' mean and spread into the encoder's last convolution.

    Taken over the same kind of crops as in training: afterwards the encoder itself gives
    what the decoder has learned to read.
    """
    crops, _ = _crops(pictures, torch.Generator().manual_seed(0))
    latents = torch.cat([vae.encode(part).latents for part in torch.split(crops, 64)])
    mean, spread = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    last = vae.encoder.layers[-1]
    last.weight /= spread[:, None, None, None]
    last.bias.sub_(mean).div_(spread)
