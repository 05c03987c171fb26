"""The training loop: one generator, one objective.

The caller drives it, draws what it likes from each value, and cancels by closing it:

    for progress in train(model, pictures, settings):
        print(progress.step, progress.loss)
    word = progress.kept
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
from .batches import Batch, draw_batch, evaluation_batches
from .data import Picture, encode
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
        evaluation: the loss on a fixed batch, which falls as the word is learned; None at
            steps where it was not measured.
        learning_rate: of this step.
        norms: encoder key -> mean norm of the vectors (a vocabulary row of CLIP-L has
            about 0.4).
        seconds: since the first step began.
        last: the embedding after this step.
        best: the embedding whose evaluation was lowest so far; the last one before the
            first evaluation.
        kept: the one of the two that the settings ask for.
    """

    step: int
    steps: int
    loss: float
    smoothed_loss: float
    evaluation: float | None
    learning_rate: float
    norms: Mapping[str, float]
    seconds: float
    last: Embedding
    best: Embedding
    kept: Embedding

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
    smoothed, lowest = math.nan, math.inf
    fixed = evaluation_batches(training_set, model.schedule, settings)
    every = max(1, settings.steps // max(1, settings.evaluations))

    for step in range(settings.steps):
        rate = learning_rate(step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        total = 0.0
        for part in range(settings.accumulate):
            position = step * settings.accumulate + part
            batch = draw_batch(training_set, model.schedule, settings, position)
            loss = batch_loss(model, batch, tokenized, vectors)
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
        evaluation = None
        if settings.evaluations and ((step + 1) % every == 0 or step + 1 == settings.steps):
            evaluation = _evaluate(model, fixed, tokenized, vectors)
        if lowest == math.inf or (evaluation is not None and evaluation < lowest):
            best = last
        if evaluation is not None:
            lowest = min(lowest, evaluation)
        yield Progress(
            step=step + 1,
            steps=settings.steps,
            loss=total,
            smoothed_loss=smoothed,
            evaluation=evaluation,
            learning_rate=rate,
            norms=norms,
            seconds=time.monotonic() - started,
            last=last,
            best=best or last,
            kept=best or last if settings.keep == "best" else last,
        )


def batch_loss(
    model: FrozenModel,
    batch: Batch,
    tokenized: Mapping[str, TokenizedPrompt],
    vectors: Mapping[str, Tensor],
) -> Tensor:
    """The loss of one batch, a scalar with a gradient in `vectors`."""
    latents, noise = batch.latents.to(model.device), batch.noise.to(model.device)
    mask = None if batch.masks is None else batch.masks.to(model.device)
    alpha, sigma = model.schedule.at(batch.timesteps, latents)
    conditioning = model.encode_prompts([tokenized[p] for p in batch.prompts], vectors)
    prediction = model.predict(
        objective.add_noise(latents, noise, alpha, sigma), batch.timesteps, conditioning
    )
    wanted = objective.target(model.parameterization, latents, noise, alpha, sigma)
    return objective.loss(prediction, wanted, mask)


@torch.no_grad()
def _evaluate(
    model: FrozenModel,
    batches: Sequence[Batch],
    tokenized: Mapping[str, TokenizedPrompt],
    vectors: Mapping[str, Tensor],
) -> float:
    losses = [batch_loss(model, batch, tokenized, vectors).item() for batch in batches]
    sizes = [len(batch.timesteps) for batch in batches]
    return sum(x * n for x, n in zip(losses, sizes, strict=True)) / sum(sizes)


def _diverged(step: int, good: Embedding | None) -> DivergedError:
    kept = "the last vectors that were sound are kept" if good else "there is nothing to keep"
    return DivergedError(
        f"The loss was no longer a number at step {step + 1}; {kept}. Lower the learning rate, "
        "or use a model in bf16 or fp32 if it is fp16.",
        good,
    )
