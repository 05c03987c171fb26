"""What a step sees: pictures, prompts, timesteps and noise, drawn from seed and position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from . import objective
from .data import TrainingSet
from .model import NoiseSchedule
from .settings import Settings

EVALUATION_SAMPLES = 8
"""Size of the fixed batch: as many timesteps, spread evenly over the schedule."""


@dataclass(frozen=True)
class Batch:
    """Everything random about a step, drawn on the CPU.

    Attributes:
        latents: [batch, channels, h, w].
        noise: the same shape.
        timesteps: int64 [batch].
        prompts: one for each picture.
        masks: [batch, 1, h, w], or None.
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    prompts: Sequence[str]
    masks: Tensor | None


def draw_batch(
    training_set: TrainingSet, schedule: NoiseSchedule, settings: Settings, position: int
) -> Batch:
    """The batch of this number since the start of the run; position and seed decide all."""
    generator = _generator(settings.seed, position)
    first = position * settings.batch_size
    places = range(first, first + settings.batch_size)
    chosen = [_picture_at(place, settings.seed, training_set.num_pictures) for place in places]
    prompts = [_pick(training_set.prompts[i], generator) for i in chosen]
    indices = torch.tensor(chosen)
    if settings.flip:
        mirrored = torch.randint(2, indices.shape, generator=generator)
        indices = indices + mirrored * training_set.num_pictures
    timesteps = objective.draw_timesteps(len(indices), schedule, generator)
    return _batch(training_set, indices, prompts, timesteps, generator)


def evaluation_batches(
    training_set: TrainingSet, schedule: NoiseSchedule, settings: Settings
) -> list[Batch]:
    """The same few samples for every evaluation of a run (DVAR, arXiv 2302.04841).

    With latents, noise, timesteps and prompts frozen, what changes in the loss is what has
    been learned. Split into batches of the size that training uses.
    """
    generator = _generator(settings.seed, -1)
    chosen = torch.arange(EVALUATION_SAMPLES) % training_set.num_pictures
    prompts = [_pick(training_set.prompts[i], generator) for i in chosen.tolist()]
    middles = (torch.arange(EVALUATION_SAMPLES) + 0.5) / EVALUATION_SAMPLES
    # In a mixed order, so that a picture does not always meet the same amount of noise.
    order = torch.randperm(EVALUATION_SAMPLES, generator=generator)
    timesteps = (middles * len(schedule)).long()[order]
    whole = _batch(training_set, chosen, prompts, timesteps, generator)
    size = settings.batch_size
    return [_part(whole, slice(i, i + size)) for i in range(0, EVALUATION_SAMPLES, size)]


def _batch(
    training_set: TrainingSet,
    indices: Tensor,
    prompts: Sequence[str],
    timesteps: Tensor,
    generator: torch.Generator,
) -> Batch:
    latents, masks = training_set.latents[indices], training_set.masks
    noise = torch.randn(latents.shape, generator=generator)
    return Batch(latents, noise, timesteps, prompts, None if masks is None else masks[indices])


def _part(batch: Batch, part: slice) -> Batch:
    return Batch(
        batch.latents[part],
        batch.noise[part],
        batch.timesteps[part],
        batch.prompts[part],
        None if batch.masks is None else batch.masks[part],
    )


def _picture_at(place: int, seed: int, count: int) -> int:
    """Each picture once, in a new order, before any comes again."""
    turn, index = divmod(place, count)
    return int(torch.randperm(count, generator=_generator(seed, turn))[index])


def _generator(seed: int, number: int) -> torch.Generator:
    """The random numbers of one batch or turn; the remainder is what torch can take."""
    return torch.Generator().manual_seed((seed * 1_000_003 + number) % 2**63)


def _pick(options: Sequence[str], generator: torch.Generator) -> str:
    return options[int(torch.randint(len(options), (1,), generator=generator))]
