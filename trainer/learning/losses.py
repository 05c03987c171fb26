"""What there is to minimise: the loss of each picture of a batch, of a step, of the fixed batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from ..data.batches import Batch, draw_batch, evaluation_batches
from ..data.pictures import Picture, meant
from ..data.training_set import encode
from ..embeddings.embedding import Rows, row_count
from ..errors import InputError
from ..methods.context import context_loss, with_context
from ..methods.diffusion import add_noise, target
from ..methods.measured_weights import MEASURED
from ..methods.weighting import loss_weights
from ..model import FrozenModel, TokenizedPrompt
from ..settings import Settings
from .distributed import Processes
from .objectives import NoisyBatch, Objective, TokenizedPrompts, Word
from .picture_gradients import PictureGradients
from .state import Stateful

WORD = Word()

SURE = 2.0
"""Standard errors by which a word must have become worse for its run to end."""


@dataclass(frozen=True)
class Evaluation:
    """How a word does on what is the same for every evaluation of a run.

    Attributes:
        losses: of each sample.
        noise_levels: how noisy each is, as a share of the schedule, 0..1.
        ranked: the share of pairs of pictures that it ranks right, where it compares.
        uncertainty: standard error of the mean loss; None where a run is not ended by it.
    """

    losses: Sequence[float]
    noise_levels: Sequence[float]
    ranked: float | None = None
    uncertainty: float | None = None

    @property
    def mean(self) -> float:
        """The mean loss."""
        return sum(self.losses) / len(self.losses)

    def is_worse_than(self, lowest: float) -> bool:
        """Whether the mean is above one from earlier in the run, beyond what is uncertain."""
        return self.uncertainty is not None and self.mean > lowest + SURE * self.uncertainty


def batch_losses(
    model: FrozenModel,
    batch: Batch,
    tokenized: Mapping[str, TokenizedPrompt],
    vectors: Rows,
    weighting: str = "none",
    objective: Objective = WORD,
) -> Tensor:
    """The loss of each picture of a batch, [batch], with a gradient in `vectors`."""
    latents, noise = batch.latents.to(model.device), batch.noise.to(model.device)
    mask = None if batch.masks is None else batch.masks.to(model.device)
    alpha, sigma = model.schedule.at(batch.timesteps, latents)
    noisy = add_noise(latents, noise, alpha, sigma)
    shown = NoisyBatch(noisy, batch.timesteps, batch.prompts, tokenized)
    prediction = objective.predict(model, shown, vectors)
    wanted = target(model.parameterization, latents, noise, alpha, sigma)
    weights = loss_weights(weighting, model.parameterization, alpha, sigma)
    return squared_errors(prediction, wanted, mask, weights)


def unlike_losses(
    model: FrozenModel,
    batch: Batch,
    tokenized: Mapping[str, TokenizedPrompt],
    vectors: Rows,
    anchors: Rows,
    weighting: str = "none",
    objective: Objective = WORD,
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
        objective: see `batch_losses`.
    """
    began = {key: anchors[key][: rows.shape[0]] for key, rows in vectors.items()}
    with torch.no_grad():
        before = batch_losses(model, batch, tokenized, began, weighting, objective)
    return (before - batch_losses(model, batch, tokenized, vectors, weighting, objective)).relu()


def squared_errors(
    prediction: Tensor, wanted: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
) -> Tensor:
    """Mean squared error of each picture, [batch].

    Args:
        prediction: [batch, channels, h, w].
        wanted: the same shape.
        mask: weight of each place, [batch, 1, h, w]; each picture counts by the mean over
            its weighted places, so that a small object is not drowned by its frame.
        weights: of each picture, [batch].
    """
    error = (prediction - wanted).square()
    places = tuple(range(1, error.ndim))
    if mask is None:
        each = error.mean(places)
    else:
        shares = mask.expand_as(error)
        each = (error * shares).sum(places) / shares.sum(places).clamp_min(1e-6)
    return each if weights is None else each * weights


class StepLosses:
    """Pictures, encoded once, and a objective: from rows of vectors to their losses.

    Attributes:
        parts: all that one step hands to the next.

    Args:
        model: the frozen model.
        pictures: what to learn from; those that are `unlike` keep the word from meaning them.
        settings: of the run.
        objective: what is learned.
        processes: the processes that compute the losses together.

    Raises:
        InputError: pictures or captions cannot be used.
    """

    def __init__(
        self,
        model: FrozenModel,
        pictures: Sequence[Picture],
        settings: Settings,
        objective: Objective,
        processes: Processes,
    ) -> None:
        self._model, self._settings, self._objective, self._processes = (
            model,
            settings,
            objective,
            processes,
        )
        others = [p for p in pictures if p.unlike] if settings.unlike_weight else []
        if others and not objective.knows_unlike:
            raise InputError(
                "unlike_images cannot be used with the objective “good pictures”: its word is in "
                "no prompt of theirs. Disconnect them, or choose another objective."
            )
        self._pictures = encode(model, meant(pictures), settings, objective.prompts)
        self._others = [encode(model, others, settings, objective.prompts)] if others else []
        self._fixed = evaluation_batches(self._pictures, model.schedule, settings)
        self._own = PictureGradients() if settings.weighting == MEASURED else None
        self.parts: Mapping[str, Stateful] = self._own.parts if self._own else {}
        self._tokenized = cache(lambda rows: TokenizedPrompts(model, rows // objective.words))

    def tokenize(self, rows: Rows) -> None:
        """Split all prompts into tokens, which a step does only with those that it draws.

        Raises:
            InputError: a prompt that the model cannot take.
        """
        for pictures in (self._pictures, *self._others):
            for prompt in {one for prompts in pictures.prompts for one in prompts}:
                self._tokens(rows)[prompt]

    def losses(self, step: int, rows: Rows, anchors: Rows) -> Iterator[Tensor]:
        """Scalars whose sum is the loss of a step, or of this process's part of it.

        Each holds what the network computed: take its gradient before you ask for the next.

        Args:
            step: counted from 0; with the seed it decides all that is random.
            rows: encoder key -> [vectors, width]; the losses have a gradient in them.
            anchors: where they began; at least as many.
        """
        sets = [(self._pictures, self._fit), *((one, self._avoid) for one in self._others)]
        count = self._settings.accumulate
        for position in range(step * count, (step + 1) * count):
            for pictures, losses_of in sets:
                whole = draw_batch(pictures, self._model.schedule, self._settings, position)
                batch = self._processes.part_of(whole)
                for piece in batch.pieces(self._model.pictures_at_once):
                    each = losses_of(piece, position, rows, anchors)
                    yield each.sum() / (len(batch.timesteps) * count)

    def measure(self, rows: Rows, scale: float) -> None:
        """Take in what the gradients of a step's pictures say, once they are all there.

        Args:
            rows: those of the step.
            scale: by which gradients are larger than the loss's own.
        """
        if self._own:
            pictures = self._settings.batch_size // self._processes.size * self._settings.accumulate
            self._own.take(rows, scale / pictures, self._processes)

    @torch.no_grad()
    def evaluate(self, rows: Rows) -> Evaluation:
        """Each picture of the fixed batch; each process computes some of its parts."""
        model, objective = self._model, self._objective
        on_device = {key: vectors.to(model.device) for key, vectors in rows.items()}

        def losses_of(batch: Batch) -> list[float]:
            tokens = self._tokens(on_device)
            pieces = batch.pieces(model.pictures_at_once)
            each = (batch_losses(model, p, tokens, on_device, objective=objective) for p in pieces)
            return [loss for losses in each for loss in losses.tolist()]

        losses = self._processes.shared(
            self._fixed, losses_of, lambda batch: len(batch.timesteps), model.device
        )
        levels = [int(t) / len(model.schedule) for b in self._fixed for t in b.timesteps]
        return Evaluation(losses, levels)

    def _fit(self, piece: Batch, position: int, rows: Rows, anchors: Rows) -> Tensor:
        """How far the word is from pictures of what it means, [batch]."""
        model, settings = self._model, self._settings
        tokens = self._tokens(rows)
        if self._own:
            apart, weights = self._own.watch(rows, self._levels(piece))
            each = batch_losses(model, piece, tokens, apart, objective=self._objective)
            each = each * weights.to(each.device)
        else:
            each = batch_losses(model, piece, tokens, rows, settings.weighting, self._objective)
        if not settings.context:
            return each
        texts = [with_context(prompt, position) for prompt in piece.prompts]
        return each + settings.context * context_loss(model, texts, rows, anchors)

    def _avoid(self, piece: Batch, position: int, rows: Rows, anchors: Rows) -> Tensor:
        """How much it fits pictures of what it does not mean, [batch]."""
        model, settings = self._model, self._settings
        weighting = "none" if self._own else settings.weighting
        each = unlike_losses(
            model, piece, self._tokens(rows), rows, anchors, weighting, self._objective
        )
        if self._own:
            each = each * self._own.weights(self._levels(piece)).to(each.device)
        return settings.unlike_weight * each

    def _levels(self, piece: Batch) -> Tensor:
        """How noisy each picture is, as a share of the schedule, 0..1, [batch]."""
        return piece.timesteps / len(self._model.schedule)

    def _tokens(self, rows: Rows) -> TokenizedPrompts:
        return self._tokenized(row_count(rows))
