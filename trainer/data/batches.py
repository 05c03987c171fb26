"""What a step sees: pictures, prompts, timesteps and noise, drawn from seed and position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..model import NoiseSchedule
from ..settings import Settings
from .buckets import pictures_of_batch
from .randomness import Stream, generator
from .training_set import TrainingSet, View

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

    def part(self, places: slice) -> Batch:
        """Some of its samples."""
        masks = None if self.masks is None else self.masks[places]
        return Batch(
            self.latents[places],
            self.noise[places],
            self.timesteps[places],
            self.prompts[places],
            masks,
        )

    def pieces(self, size: int | None) -> list[Batch]:
        """The whole in pieces of at most this many samples; in one, if None."""
        count = len(self.timesteps)
        step = size or count
        return [self.part(slice(first, first + step)) for first in range(0, count, step)]


def draw_batch(
    training_set: TrainingSet, schedule: NoiseSchedule, settings: Settings, position: int
) -> Batch:
    """The batch of this number since the start of the run; position and seed decide all."""
    rng = generator(settings.seed, position)
    chosen = pictures_of_batch(training_set.buckets, settings.batch_size, settings.seed, position)
    views = [_pick_view(training_set.pictures[i], rng) for i in chosen]
    prompts = [_pick(view.prompts, rng) for view in views]
    timesteps = draw_timesteps(schedule, settings, position)
    noise = draw_noise((len(views), *views[0].latents.shape), settings, rng)
    return _batch(views, noise, timesteps, prompts)


def evaluation_batches(
    training_set: TrainingSet, schedule: NoiseSchedule, settings: Settings
) -> list[Batch]:
    """The same few samples for every evaluation of a run (DVAR, arXiv 2302.04841).

    With latents, noise, timesteps and prompts frozen, what changes in the loss is what has
    been learned. Split into batches of one shape and at most the size that training uses.
    """
    rng = generator(settings.seed, Stream.EVALUATION)
    # Each picture as it is, whatever else training shows of it.
    views = [
        training_set.pictures[i % len(training_set.pictures)][0] for i in range(EVALUATION_SAMPLES)
    ]
    prompts = [_pick(view.prompts, rng) for view in views]
    middles = (torch.arange(EVALUATION_SAMPLES) + 0.5) / EVALUATION_SAMPLES
    # In a mixed order, so that a picture does not always meet the same amount of noise.
    order = torch.randperm(EVALUATION_SAMPLES, generator=rng)
    timesteps = (middles * len(schedule)).long()[order]
    noise = [torch.randn(view.latents.shape, generator=rng) for view in views]
    batches = []
    for bucket in training_set.buckets:
        members = [i for i in range(EVALUATION_SAMPLES) if i % len(training_set.pictures) in bucket]
        for first in range(0, len(members), settings.batch_size):
            part = members[first : first + settings.batch_size]
            batches.append(
                _batch(
                    [views[i] for i in part],
                    torch.stack([noise[i] for i in part]),
                    timesteps[part],
                    [prompts[i] for i in part],
                )
            )
    return batches


def draw_noise(size: Sequence[int], settings: Settings, rng: torch.Generator) -> Tensor:
    """Noise of this size, [batch, channels, h, w], as the settings want it."""
    noise = torch.randn(tuple(size), generator=rng)
    if settings.noise_offset:
        # One number for each channel teaches brightness and colour, which noise of single
        # places leaves nearly untouched (crosslabs.org, "Diffusion with offset noise").
        noise += settings.noise_offset * torch.randn((*noise.shape[:2], 1, 1), generator=rng)
    return noise


def draw_timesteps(schedule: NoiseSchedule, settings: Settings, position: int) -> Tensor:
    """This batch's part of the timesteps of its update, which are spread evenly."""
    update, part = divmod(position, settings.accumulate)
    source = settings.timestep_range
    rng = generator(settings.seed, Stream.TIMESTEPS, update)
    drawn = source.draw(settings.batch_size * settings.accumulate, len(schedule), rng)
    return drawn[part * settings.batch_size :][: settings.batch_size]


def _batch(
    views: Sequence[View], noise: Tensor, timesteps: Tensor, prompts: Sequence[str]
) -> Batch:
    """Views of one shape together; where any has a mask, the others are seen everywhere."""
    latents = torch.stack([view.latents for view in views])
    masks = None
    if any(view.mask is not None for view in views):
        masks = torch.stack(
            [torch.ones_like(v.latents[:1]) if v.mask is None else v.mask for v in views]
        )
    return Batch(latents, noise, timesteps, prompts, masks)


def _pick(options: Sequence[str], rng: torch.Generator) -> str:
    return options[int(torch.randint(len(options), (1,), generator=rng))]


def _pick_view(views: Sequence[View], rng: torch.Generator) -> View:
    weights = torch.tensor([view.weight for view in views])
    return views[int(torch.multinomial(weights, 1, generator=rng))]
