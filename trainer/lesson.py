"""What there is to learn: the losses of every step, and those of the fixed batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import torch
from torch import Tensor

from .batches import Batch, draw_batch, evaluation_batches
from .core_regularizer import context_loss, with_context
from .data import encode
from .embedding import row_count
from .errors import InputError
from .losses import batch_losses, unlike_losses
from .model import FrozenModel
from .pictures import Picture, meant
from .settings import Settings
from .tasks import Rows, Task, TokenizedPrompts
from .team import Team


class Lesson:
    """Pictures, encoded once, and a task: from rows of vectors to their losses.

    Attributes:
        amounts: how noisy each sample of the fixed batch is, as a share of the schedule, 0..1.

    Args:
        model: the frozen model.
        pictures: what to learn from; those that are `unlike` keep the word from meaning them.
        settings: of the run.
        task: what is learned.
        team: the processes that compute the losses together.

    Raises:
        InputError: pictures or captions cannot be used.
    """

    def __init__(
        self,
        model: FrozenModel,
        pictures: Sequence[Picture],
        settings: Settings,
        task: Task,
        team: Team,
    ) -> None:
        self._model, self._settings, self._task, self._team = model, settings, task, team
        others = [p for p in pictures if p.unlike] if settings.unlike_weight else []
        if others and not task.knows_unlike:
            raise InputError(
                "unlike_images cannot be used with the objective “good pictures”: its word is in "
                "no prompt of theirs. Disconnect them, or choose another objective."
            )
        self._pictures = encode(model, meant(pictures), settings, task.prompts)
        self._others = [encode(model, others, settings, task.prompts)] if others else []
        self._fixed = evaluation_batches(self._pictures, model.schedule, settings)
        self.amounts = [int(t) / len(model.schedule) for b in self._fixed for t in b.timesteps]
        self._tokenized = cache(lambda rows: TokenizedPrompts(model, rows // task.words))

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
                batch = self._team.part_of(whole)
                for piece in batch.pieces(self._model.pictures_at_once):
                    each = losses_of(piece, position, rows, anchors)
                    yield each.sum() / (len(batch.timesteps) * count)

    @torch.no_grad()
    def evaluate(self, rows: Rows) -> list[float]:
        """The loss of each picture of the fixed batch; each process computes some of its parts."""
        model, team = self._model, self._team
        on_device = {key: vectors.to(model.device) for key, vectors in rows.items()}
        losses: list[float] = []
        for number, batch in enumerate(self._fixed):
            if number % team.size != team.rank:
                losses += [0.0] * len(batch.timesteps)
                continue
            for piece in batch.pieces(model.pictures_at_once):
                tokens = self._tokens(on_device)
                losses += batch_losses(model, piece, tokens, on_device, task=self._task).tolist()
        return team.total(losses, model.device)

    def _fit(self, piece: Batch, position: int, rows: Rows, anchors: Rows) -> Tensor:
        """How far the word is from pictures of what it means, [batch]."""
        model, settings = self._model, self._settings
        each = batch_losses(model, piece, self._tokens(rows), rows, settings.weighting, self._task)
        if not settings.context:
            return each
        texts = [with_context(prompt, position) for prompt in piece.prompts]
        return each + settings.context * context_loss(model, texts, rows, anchors)

    def _avoid(self, piece: Batch, position: int, rows: Rows, anchors: Rows) -> Tensor:
        """How much it fits pictures of what it does not mean, [batch]."""
        model, settings = self._model, self._settings
        each = unlike_losses(
            model, piece, self._tokens(rows), rows, anchors, settings.weighting, self._task
        )
        return settings.unlike_weight * each

    def _tokens(self, rows: Rows) -> TokenizedPrompts:
        return self._tokenized(row_count(rows))
