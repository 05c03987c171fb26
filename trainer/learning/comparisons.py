"""What there is to minimise where pairs of pictures are compared (see `comparison_objectives`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.batches import Batch, draw_noise, draw_timesteps
from ..data.pairs import Pair, compared, draw_pairs
from ..data.pictures import Picture
from ..data.randomness import Stream, generator
from ..data.training_set import encode
from ..embeddings.embedding import Rows, row_count
from ..errors import InputError
from ..methods.diffusion import add_noise, target
from ..methods.timesteps import FULL
from ..model import FrozenModel, TokenizedPrompt
from ..settings import RatingSettings
from .comparison_objectives import Comparison
from .distributed import Processes
from .losses import Evaluation, squared_errors
from .objectives import NoisyBatch, TokenizedPrompts
from .state import Stateful

LEVELS = 8
"""Amounts of noise at which each pair that is held out is tried."""

LEAST = 0.03
"""What a judgement of held-out pairs, 0..1, is uncertain by at least: they are few."""


def comparison(
    model: FrozenModel,
    batch: Batch,
    tokenized: Mapping[str, TokenizedPrompt],
    vectors: Rows,
    objective: Comparison,
    kept: dict[str, Sequence[Tensor]] | None = None,
) -> tuple[Tensor, Tensor]:
    """How the word compares two pictures.

    Args:
        model: the frozen model.
        batch: pairs: latents [pairs, 2, channels, h, w], the liked picture first; noise
            [pairs, channels, h, w]; timesteps and prompts, one for each pair.
        tokenized: prompt -> its tokens.
        vectors: encoder key -> [vectors, width]; the answers have a gradient in them.
        objective: where the word stands.
        kept: of a batch that is seen again, what does not depend on the word; filled at first.

    Returns:
        by how much the word predicts the wrong one of a pair better than the right one, below 0
        where it ranks them right, [pairs]; and how far it moves the prediction of the liked one,
        [pairs]. Both in units of the model's own squared error for the pair.
    """
    pairs = len(batch.timesteps)
    latents = batch.latents.flatten(0, 1).to(model.device)
    noise = batch.noise.repeat_interleave(2, 0).to(model.device)
    timesteps = batch.timesteps.repeat_interleave(2)
    prompts = [prompt for prompt in batch.prompts for _ in range(2)]
    alpha, sigma = model.schedule.at(timesteps, latents)
    shown = NoisyBatch(add_noise(latents, noise, alpha, sigma), timesteps, prompts, tokenized)
    wanted = target(model.parameterization, latents, noise, alpha, sigma)
    kept = {} if kept is None else kept
    if "frozen" not in kept:
        kept["frozen"] = objective.frozen(model, shown, vectors)
    prediction = objective.predict_from(model, shown, vectors, kept["frozen"])
    reference = kept["frozen"][0]
    before = squared_errors(reference, wanted).view(pairs, 2)
    unit = before.mean(1).clamp_min(1e-12)
    change = squared_errors(prediction, wanted).view(pairs, 2) - before
    liked, disliked = change.unbind(1)
    margin = (liked - disliked) / unit
    moved = squared_errors(prediction, reference).view(pairs, 2)[:, 0] / unit
    return (margin if objective.likes else -margin), moved


class ComparisonLosses:
    """Rated pictures, encoded once: from rows of vectors to the losses of pairs.

    See `StepLosses`, whose place it takes.

    Raises:
        InputError: pictures or captions cannot be used, or make too few pairs.
    """

    def __init__(
        self,
        model: FrozenModel,
        pictures: Sequence[Picture],
        settings: RatingSettings,
        objective: Comparison,
        processes: Processes,
    ) -> None:
        self._model, self._settings, self._objective, self._processes = (
            model,
            settings,
            objective,
            processes,
        )
        for picture in pictures:
            if picture.mask is not None:
                raise InputError(
                    f"{picture.source} has a mask, but whole pictures are rated: leave masks out."
                )
        self._compared = compared(pictures, settings.name, settings.seed)
        encoded = encode(model, pictures, settings, objective.prompts)
        self._latents = [views[0].latents for views in encoded.pictures]
        at_once = min(settings.batch_size, self._pairs_at_once or settings.batch_size)
        self._fixed: list[tuple[Batch, dict[str, Sequence[Tensor]]]] = [
            (piece, {}) for piece in self._held_out().pieces(at_once)
        ]
        self.parts: Mapping[str, Stateful] = {}
        self._tokenized = cache(lambda rows: TokenizedPrompts(model, rows // objective.words))

    def tokenize(self, rows: Rows) -> None:
        """See `StepLosses`."""
        found = self._compared
        prompts = {group.prompt for group in found.groups} | {p.prompt for p in found.held_out}
        for text in {text for prompt in prompts for text in self._objective.texts(prompt)}:
            self._tokens(rows)[text]

    def losses(self, step: int, rows: Rows, anchors: Rows) -> Iterator[Tensor]:
        """See `StepLosses`: a batch is of pairs."""
        count, beta = self._settings.accumulate, self._settings.preference
        for position in range(step * count, (step + 1) * count):
            batch = self._processes.part_of(self._draw(position))
            for piece in batch.pieces(self._pairs_at_once):
                margin, moved = self._compare(piece, rows)
                each = F.softplus(beta * margin) + beta * (moved - self._settings.leeway).relu()
                yield each.sum() / (len(batch.timesteps) * count)

    def measure(self, rows: Rows, scale: float) -> None:
        """See `StepLosses`: nothing is learned from single gradients."""

    @torch.no_grad()
    def evaluate(self, rows: Rows) -> Evaluation:
        """See `StepLosses`: how surely pairs that are held out are ranked wrong, 0..1."""
        on_device = {key: vectors.to(self._model.device) for key, vectors in rows.items()}
        found = self._processes.shared(
            self._fixed,
            lambda part: list(self._compare(part[0], on_device, part[1])[0].tolist()),
            lambda part: len(part[0].timesteps),
            self._model.device,
        )
        margins = torch.tensor(found)
        # Bounded, unlike what is minimised: of a few pairs, one that is odd must not decide.
        losses = torch.sigmoid(self._settings.preference * margins)
        ranked = (margins.view(-1, LEVELS).mean(1) < 0).float().mean()
        pairs = losses.view(-1, LEVELS).mean(1)
        uncertainty = max(LEAST, float(pairs.std() / len(pairs) ** 0.5))
        length = len(self._model.schedule)
        levels = [int(t) / length for piece, _ in self._fixed for t in piece.timesteps]
        return Evaluation(losses.tolist(), levels, float(ranked), uncertainty)

    def _compare(
        self, piece: Batch, rows: Rows, kept: dict[str, Sequence[Tensor]] | None = None
    ) -> tuple[Tensor, Tensor]:
        return comparison(self._model, piece, self._tokens(rows), rows, self._objective, kept)

    def _draw(self, position: int) -> Batch:
        """The pairs of this number since the start of the run; position and seed decide all."""
        settings = self._settings
        rng = generator(settings.seed, position)
        pairs = draw_pairs(self._compared.groups, settings.batch_size, rng)
        timesteps = draw_timesteps(self._model.schedule, settings, position)
        return self._batch(pairs, timesteps, rng)

    def _held_out(self) -> Batch:
        """Each pair that is held out at each of `LEVELS` amounts of noise."""
        window = self._settings.timestep_range
        shares = (torch.arange(LEVELS) + 0.5) / LEVELS
        thousandths = window.low + shares * (window.high - window.low)
        levels = (thousandths / FULL * len(self._model.schedule)).long()
        pairs = [pair for pair in self._compared.held_out for _ in range(LEVELS)]
        rng = generator(self._settings.seed, Stream.EVALUATION)
        return self._batch(pairs, levels.repeat(len(self._compared.held_out)), rng)

    def _batch(self, pairs: Sequence[Pair], timesteps: Tensor, rng: torch.Generator) -> Batch:
        latents = torch.stack(
            [torch.stack([self._latents[p.liked], self._latents[p.disliked]]) for p in pairs]
        )
        noise = draw_noise(latents[:, 0].shape, self._settings, rng)
        return Batch(latents, noise, timesteps, [pair.prompt for pair in pairs], None)

    @property
    def _pairs_at_once(self) -> int | None:
        at_once = self._model.pictures_at_once
        return None if at_once is None else max(1, at_once // 2)

    def _tokens(self, rows: Rows) -> TokenizedPrompts:
        return self._tokenized(row_count(rows))
