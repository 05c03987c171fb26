"""The training loop: one generator, one objective.

The caller drives it, draws what it likes from each value, and cancels by closing it:

    for progress in train(model, pictures, settings):
        print(progress.step, progress.loss)
    word = progress.last
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from . import objective
from .data import Picture, TrainingSet, encode
from .embedding import Embedding
from .errors import DivergedError
from .initial import initial_vectors
from .metadata import training_metadata
from .model import FrozenModel, TokenizedPrompt
from .schedule import parse_learning_rate
from .settings import Settings

SMOOTHING = 0.98
"""Weight of the past in the smoothed loss: an average over about 50 steps."""


@dataclass(frozen=True)
class Progress:
    """What is known after a step.

    Attributes:
        step: steps done, from 1.
        steps: steps in all.
        loss: of this step; noisy, because timestep and noise are drawn anew.
        smoothed_loss: its running average.
        learning_rate: of this step.
        norms: encoder key -> mean norm of the vectors (a vocabulary row of CLIP-L has
            about 0.4).
        seconds: since the first step began.
        last: the embedding after this step.
        best: the embedding whose smoothed loss was lowest so far.
    """

    step: int
    steps: int
    loss: float
    smoothed_loss: float
    learning_rate: float
    norms: Mapping[str, float]
    seconds: float
    last: Embedding
    best: Embedding

    @property
    def seconds_left(self) -> float:
        """An estimate from the pace so far."""
        return self.seconds / self.step * (self.steps - self.step)

    def __str__(self) -> str:
        left = self.seconds_left
        clock = f"{left:.0f} s" if left < 90 else f"{left / 60:.0f} min"
        return f"step {self.step}/{self.steps} · loss {self.smoothed_loss:.4f} · {clock} left"


def train(
    model: FrozenModel,
    pictures: Sequence[Picture],
    settings: Settings,
    start: Embedding | None = None,
) -> Iterator[Progress]:
    """Learn a word from pictures by textual inversion (arXiv 2208.01618).

    Nothing but the word's vectors is trained. All random choices of a step depend on the
    seed and the number of the step alone and are drawn on the CPU, so that a run gives the
    same word on any device, as far as its arithmetic does.

    Args:
        model: the frozen model.
        pictures: what to learn from.
        settings: how.
        start: an embedding to go on from, instead of `settings.init_words`.

    Yields:
        a `Progress` after every step.

    Raises:
        InputError: pictures, captions, words or `start` cannot be used; before any step.
        DivergedError: the loss is no number any more; it carries the last good embedding.
    """
    initial = initial_vectors(model.text_encoders, settings.init_words, settings.num_vectors, start)
    vectors = {k: v.clone().to(model.device).requires_grad_() for k, v in initial.items()}
    num_vectors = max(v.shape[0] for v in vectors.values())
    training_set = encode(model, pictures, settings)
    tokenized = {
        prompt: model.tokenize(prompt, num_vectors)
        for prompts in training_set.prompts
        for prompt in prompts
    }
    learning_rate = parse_learning_rate(settings.learning_rate, settings.schedule, settings.steps)
    optimizer = torch.optim.AdamW(vectors.values(), lr=learning_rate(0), weight_decay=0.0)
    # Gradients of a half-precision network are too small for its number format: scale the
    # loss up before, the gradients down after, and skip a step that overflows.
    scaler = GradScaler(
        model.device.type, init_scale=2.0**14, enabled=model.compute_dtype == torch.float16
    )
    started = time.monotonic()
    good: Embedding | None = None  # the last one whose loss is known to be a number
    last: Embedding | None = None
    best: Embedding | None = None
    lowest = smoothed = math.nan

    for step in range(settings.steps):
        rate = learning_rate(step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        total = 0.0
        for part in range(settings.accumulate):
            position = step * settings.accumulate + part
            loss = batch_loss(model, training_set, tokenized, vectors, settings, position)
            scaler.scale(loss / settings.accumulate).backward()  # type: ignore[no-untyped-call]
            total += loss.item() / settings.accumulate
        if not math.isfinite(total):
            raise _diverged(step, good)
        good = last
        scaler.unscale_(optimizer)
        limit = settings.clip_gradient or math.inf
        norm = torch.nn.utils.clip_grad_norm_(vectors.values(), limit)
        if not scaler.is_enabled() and not torch.isfinite(norm):
            raise _diverged(step, good)
        scaler.step(optimizer)
        scaler.update()
        if scaler.is_enabled() and scaler.get_scale() < 1:
            raise _diverged(step, good)

        smoothed = total if step == 0 else SMOOTHING * smoothed + (1 - SMOOTHING) * total
        norms = {k: v.detach().norm(dim=1).mean().item() for k, v in vectors.items()}
        metadata = training_metadata(model, settings, len(pictures), step + 1, smoothed)
        last = Embedding(settings.name, vectors, metadata)
        # The average needs its length before it means anything.
        if best is None or step < 1 / (1 - SMOOTHING) or smoothed < lowest:
            best, lowest = last, smoothed
        seconds = time.monotonic() - started
        yield Progress(step + 1, settings.steps, total, smoothed, rate, norms, seconds, last, best)


def batch_loss(
    model: FrozenModel,
    training_set: TrainingSet,
    tokenized: Mapping[str, TokenizedPrompt],
    vectors: Mapping[str, Tensor],
    settings: Settings,
    position: int,
) -> Tensor:
    """The loss of one batch, a scalar with a gradient in `vectors`.

    `position`, the number of the batch since the start of the run, and the seed decide
    pictures, prompts, timesteps and noise.
    """
    generator = _generator(settings.seed, position)
    chosen = _pictures_at(position, settings, training_set.num_pictures)
    prompts = [_pick(training_set.prompts[i], generator) for i in chosen]
    indices = torch.tensor(chosen)
    if settings.flip:
        mirrored = torch.randint(2, indices.shape, generator=generator)
        indices = indices + mirrored * training_set.num_pictures
    latents = training_set.latents[indices]
    timesteps = objective.draw_timesteps(len(indices), model.schedule, generator)
    noise = torch.randn(latents.shape, generator=generator)
    latents, noise = latents.to(model.device), noise.to(model.device)
    mask = training_set.masks
    if mask is not None:
        mask = mask[indices].to(model.device)
    alpha, sigma = model.schedule.at(timesteps, latents)
    conditioning = model.encode_prompts([tokenized[p] for p in prompts], vectors)
    prediction = model.predict(
        objective.add_noise(latents, noise, alpha, sigma), timesteps, conditioning
    )
    wanted = objective.target(model.parameterization, latents, noise, alpha, sigma)
    return objective.loss(prediction, wanted, mask)


def _pictures_at(position: int, settings: Settings, count: int) -> list[int]:
    """The pictures of a batch: each one once, in a new order, before any comes again."""
    first = position * settings.batch_size
    chosen = []
    for place in range(first, first + settings.batch_size):
        turn, index = divmod(place, count)
        generator = _generator(settings.seed, turn)
        chosen.append(int(torch.randperm(count, generator=generator)[index]))
    return chosen


def _generator(seed: int, number: int) -> torch.Generator:
    """The random numbers of one batch or turn; the remainder is what torch can take."""
    return torch.Generator().manual_seed((seed * 1_000_003 + number) % 2**63)


def _pick(options: Sequence[str], generator: torch.Generator) -> str:
    return options[int(torch.randint(len(options), (1,), generator=generator))]


def _diverged(step: int, good: Embedding | None) -> DivergedError:
    kept = "the last vectors that were sound are kept" if good else "there is nothing to keep"
    return DivergedError(
        f"The loss was no longer a number at step {step + 1}; {kept}. Lower the learning rate, "
        "or use a model in bf16 or fp32 if it is fp16.",
        good,
    )
