"""Ways to learn a word from pairs of a liked and a disliked picture of one prompt.

Diffusion-DPO (arXiv 2311.12908), on a word alone. With the errors e of the prediction for the
liked picture w and the disliked one l, under the same noise,

    loss = −log σ(−β · [(e_w − e_w*) − (e_l − e_l*)] / e*),

where * is the same model without the word, which is the paper's reference: ε(c), the prediction for
the prompt; e* is the mean of e_w* and e_l*. What both pictures share cancels out. In units of e*,
one β means the same for every model, amount of noise and parameterisation. Where the word stands
decides what is predicted:

- *in the prompt*: ε(c, word);
- *in the negative prompt, described*: ε(c, word) with liked and disliked exchanged: the word
  describes what is disliked, and is used where that is avoided;
- *in the negative prompt, through guidance*: ε(c) + guided(c, word) − guided(c, ∅), what the word
  changes about a guided prediction;
- *both*: ε(c) + guided((c, word), word⁻) − guided(c, ∅).

Guided predictions themselves are no measure: what plain guidance adds is far larger than any
mistake of the model, and would drown what tells the two pictures apart (see `negative_objectives`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from ..data.captions import clean_caption
from ..data.pairs import WANTED, compared
from ..data.pictures import Picture
from ..embeddings.embedding import Embedding, Rows, row_count
from ..methods.guidance import guide
from ..model import FrozenModel
from ..prompts import PLACEHOLDER
from ..settings import Settings
from .negative_objectives import ALONE, IS_NEGATIVE, Pair, from_padding, joined
from .objectives import NoisyBatch, Objective, PreviewPrompt, Word


class Comparison(Objective, Protocol):
    """An objective that compares pictures; its prompts are those that they were drawn with."""

    @property
    def likes(self) -> bool:
        """Whether the word is to predict the liked pictures better, not the disliked ones."""

    def texts(self, prompt: str) -> Sequence[str]:
        """All that is read of a prompt: what the predictions ask for."""

    def frozen(self, model: FrozenModel, shown: NoisyBatch, vectors: Rows) -> Sequence[Tensor]:
        """The predictions without the word, the reference first; no gradient is kept."""

    def predict_from(
        self, model: FrozenModel, shown: NoisyBatch, vectors: Rows, frozen: Sequence[Tensor]
    ) -> Tensor:
        """The prediction with the word, with a gradient in it.

        Args:
            model: the frozen model.
            shown: pictures under noise.
            vectors: the rows being trained.
            frozen: from `frozen`.
        """


def with_word(prompt: str) -> str:
    """A prompt with the word added, as people add one."""
    return f"{prompt}, {PLACEHOLDER}"


class FromRatings(Word):
    """What the ways have in common."""

    likes: ClassVar[bool] = True

    def initial(
        self, model: FrozenModel, settings: Settings, start: Embedding | None
    ) -> dict[str, Tensor]:
        """See `Objective`: from padding, which says nothing, unless words are given."""
        if start is not None or settings.init_words.strip():
            # Not `super()`, which in `BothFromRatings` is a pair, of two words already.
            return Word.initial(self, model, settings, start)
        return from_padding(model, settings.num_vectors)

    def prompts(self, caption: str | None, settings: Settings, number: int) -> Sequence[str]:
        """See `Objective`: the prompt that the picture was drawn with."""
        return [clean_caption(caption, settings.name)]

    def texts(self, prompt: str) -> Sequence[str]:
        """See `Comparison`."""
        return [prompt, with_word(prompt)]

    @torch.no_grad()
    def frozen(self, model: FrozenModel, shown: NoisyBatch, vectors: Rows) -> Sequence[Tensor]:
        """See `Comparison`."""
        # The word is in none of the prompts.
        return [shown.predict(model, vectors)]

    def predict_from(
        self, model: FrozenModel, shown: NoisyBatch, vectors: Rows, frozen: Sequence[Tensor]
    ) -> Tensor:
        """See `Comparison`: for the prompt with the word."""
        return shown.predict(model, vectors, [with_word(prompt) for prompt in shown.prompts])

    def predict(self, model: FrozenModel, shown: NoisyBatch, vectors: Rows) -> Tensor:
        """See `Objective`."""
        return self.predict_from(model, shown, vectors, self.frozen(model, shown, vectors))

    def notices(self, pictures: Sequence[Picture], settings: Settings) -> Sequence[str]:
        """See `Objective`: how many pairs there are, and how many are wanted."""
        found = compared(pictures, settings.name, settings.seed)
        pairs, held_out = found.pairs, len(found.held_out)
        more = f" {WANTED - pairs} more would be better." if pairs < WANTED else ""
        return [f"{pairs} pairs to learn from, of which {held_out} are held out to judge by.{more}"]

    def preview_prompts(
        self, captions: Sequence[str | None], settings: Settings
    ) -> Sequence[PreviewPrompt]:
        """See `Objective`: each prompt once, with the word."""
        prompts = dict.fromkeys(clean_caption(caption, settings.name) for caption in captions)
        return [self._preview(prompt) for prompt in prompts]

    def _preview(self, prompt: str) -> PreviewPrompt:
        return PreviewPrompt(with_word(prompt), plain=prompt)


class Describing(FromRatings):
    """A word in the prompt that describes what is liked."""


class DescribingDislikes(FromRatings):
    """A word that describes what is disliked, for negative prompts."""

    likes = False
    notes = IS_NEGATIVE

    def _preview(self, prompt: str) -> PreviewPrompt:
        return PreviewPrompt(prompt, ALONE, plain=prompt)


@dataclass(frozen=True)
class ThroughGuidance(FromRatings):
    """A word in the negative prompt, which leads the guided prediction to what is liked.

    Attributes:
        guidance: s, above 1.
    """

    guidance: float
    notes: ClassVar = IS_NEGATIVE

    def texts(self, prompt: str) -> Sequence[str]:
        """See `Comparison`."""
        return [prompt, "", ALONE]

    def frozen(self, model: FrozenModel, shown: NoisyBatch, vectors: Rows) -> Sequence[Tensor]:
        """See `Comparison`: for the prompt, and for the empty one."""
        return _with_empty(model, shown, vectors)

    def predict_from(
        self, model: FrozenModel, shown: NoisyBatch, vectors: Rows, frozen: Sequence[Tensor]
    ) -> Tensor:
        """See `Comparison`: what the word changes about the guided prediction."""
        plain, empty = frozen
        negative = shown.predict(model, vectors, [ALONE] * len(shown.prompts))
        return plain + guide(plain, negative, self.guidance) - guide(plain, empty, self.guidance)

    def _preview(self, prompt: str) -> PreviewPrompt:
        return PreviewPrompt(prompt, ALONE, plain=prompt)


@dataclass(frozen=True)
class BothFromRatings(FromRatings, Pair):
    """A word for the prompt and one for the negative prompt, learned through guidance."""

    def initial(
        self, model: FrozenModel, settings: Settings, start: Embedding | None
    ) -> dict[str, Tensor]:
        """See `Objective`: the negative from padding."""
        positive = FromRatings.initial(self, model, settings, start)
        return joined(positive, from_padding(model, row_count(positive)))

    def texts(self, prompt: str) -> Sequence[str]:
        """See `Comparison`."""
        return [prompt, with_word(prompt), "", ALONE]

    def frozen(self, model: FrozenModel, shown: NoisyBatch, vectors: Rows) -> Sequence[Tensor]:
        """See `Comparison`: for the prompt, and for the empty one."""
        return _with_empty(model, shown, self.split(vectors)[0])

    def predict_from(
        self, model: FrozenModel, shown: NoisyBatch, vectors: Rows, frozen: Sequence[Tensor]
    ) -> Tensor:
        """See `Comparison`: what both words change about the guided prediction."""
        plain, empty = frozen
        first, second = self.split(vectors)
        positive = shown.predict(model, first, [with_word(prompt) for prompt in shown.prompts])
        negative = shown.predict(model, second, [ALONE] * len(shown.prompts))
        return plain + guide(positive, negative, self.guidance) - guide(plain, empty, self.guidance)

    def _preview(self, prompt: str) -> PreviewPrompt:
        return PreviewPrompt(with_word(prompt), ALONE, plain=prompt)


@torch.no_grad()
def _with_empty(model: FrozenModel, shown: NoisyBatch, vectors: Rows) -> Sequence[Tensor]:
    """The predictions for the prompts, and for the empty one, in one pass."""
    prompts = [*shown.prompts, *[""] * len(shown.prompts)]
    return shown.predict(model, vectors, prompts).chunk(2)
