"""What a step minimises: the loss of each picture of a batch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from . import objective
from .batches import Batch
from .model import FrozenModel, TokenizedPrompt
from .tasks import Task, Word
from .weighting import loss_weights

WORD = Word()


def batch_losses(
    model: FrozenModel,
    batch: Batch,
    tokenized: Mapping[str, TokenizedPrompt],
    vectors: Mapping[str, Tensor],
    weighting: str = "none",
    task: Task = WORD,
) -> Tensor:
    """The loss of each picture of a batch, [batch], with a gradient in `vectors`."""
    latents, noise = batch.latents.to(model.device), batch.noise.to(model.device)
    mask = None if batch.masks is None else batch.masks.to(model.device)
    alpha, sigma = model.schedule.at(batch.timesteps, latents)
    noisy = objective.add_noise(latents, noise, alpha, sigma)
    prediction = task.predict(model, noisy, batch.timesteps, batch.prompts, tokenized, vectors)
    wanted = objective.target(model.parameterization, latents, noise, alpha, sigma)
    weights = loss_weights(weighting, model.parameterization, alpha, sigma)
    return objective.losses(prediction, wanted, mask, weights)


def unlike_losses(
    model: FrozenModel,
    batch: Batch,
    tokenized: Mapping[str, TokenizedPrompt],
    vectors: Mapping[str, Tensor],
    anchors: Mapping[str, Tensor],
    weighting: str = "none",
    task: Task = WORD,
) -> Tensor:
    """By how much the word fits pictures better that it does not mean, [batch], 0 where it doesn't.

    What it began with is the measure: a word that came to stand for a background, or for all
    things of its kind, predicts other pictures of these better than that, and is driven back. A
    word that stands for its own thing alone does not, and is left in peace.

    Args:
        model: see `batch_losses`.
        batch: of pictures that show something else.
        tokenized: see `batch_losses`.
        vectors: encoder key -> [vectors, width]; the loss has a gradient in them.
        anchors: where they began; at least as many.
        weighting: see `batch_losses`.
        task: see `batch_losses`.
    """
    began = {key: anchors[key][: rows.shape[0]] for key, rows in vectors.items()}
    with torch.no_grad():
        before = batch_losses(model, batch, tokenized, began, weighting, task)
    return (before - batch_losses(model, batch, tokenized, vectors, weighting, task)).relu()
