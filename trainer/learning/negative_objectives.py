"""Three ways to learn a word for negative prompts.

Classifier-free guidance (arXiv 2207.12598) draws with a combination of two predictions of the
network, one for the prompt c and one for the negative prompt n:

    guided(c, n) = ε(n) + s · (ε(c) − ε(n)) = ε(c) + (s − 1) · (ε(c) − ε(n)),    s > 1.

It goes away from n: the picture loses what n stands for. All of this is linear, so ε may as well
be v or the flow, whichever the network predicts.

- *From bad pictures*: n learns to predict bad pictures, by ordinary textual inversion. This is how
  the well-known negative embeddings were made.
- *From good pictures*: n learns that guidance with it predicts good pictures. The prompt c is
  the caption and stays as it is:

      ‖ ε(c) + (s − 1) · [(ε(c) − ε(n)) − k · (ε(c) − ε(∅))] − ε ‖²  →  min over n,

  where ∅ is the empty prompt. With k = 0 this asks that the guided prediction itself be the
  noise. But a network that was trained on this very error is nearly right without any guidance:
  its best n says the same as the captions, and takes the guidance away that makes pictures follow
  their prompts. With k = 1 the push of plain guidance is no error: where the network is right
  about good pictures, the best n is the empty prompt, which changes nothing; where it is wrong,
  n learns ε(∅) + (ε(c) − ε) / (s − 1), its mistakes, to be taken away again. Mistakes weigh more
  the lower s is.
- *A pair* (DreamArtist, arXiv 2211.11337): the prompt has a word of its own, and both learn at
  once that guided(p, n) predicts the pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..data.captions import Templates, clean_caption, filled, prompts_of
from ..data.pictures import Picture
from ..embeddings.embedding import TRIGGER, Embedding, Rows, row_count
from ..embeddings.metadata import NEGATIVE
from ..errors import InputError
from ..methods.guidance import guide
from ..model import FrozenModel
from ..prompts import FILEWORDS, PLACEHOLDER
from ..settings import PAIR_SUFFIX, Settings
from .initial import initial_vectors, prepared
from .objectives import NoisyBatch, PreviewPrompt, Word

DEFECT_TEMPLATES: Sequence[str] = (
    "[name]",
    "a [name] photo",
    "a [name] picture",
    "a [name] rendering",
    "a [name] painting",
    "[name], a photo",
    "a photo, [name]",
    "a picture, [name]",
    "[name], a picture of something",
    "a photo of a person, [name]",
    "a photo of a thing, [name]",
    "a drawing, [name]",
)
"""Contexts in which a word for something wrong stands, as in negative prompts: alone or added."""

FOR_DEFECTS = Templates(DEFECT_TEMPLATES, (f"{FILEWORDS}, {PLACEHOLDER}",))

PREVIEWS: Sequence[str] = (
    "a photo of a cat",
    "a portrait of a woman",
    "a painting of a house",
    "a photo of a street",
)
"""What is drawn with and without a word for defects, which can be anything."""

IS_NEGATIVE: Mapping[str, str] = {NEGATIVE: "true"}

ALONE = PLACEHOLDER
"""The negative prompt that negatives are trained in, and `Apply Negative Embedding` starts with."""


class FromBadPictures(Word):
    """A word for what is wrong with the pictures."""

    notes: ClassVar[Mapping[str, str]] = IS_NEGATIVE

    def prompts(self, caption: str | None, settings: Settings, number: int) -> Sequence[str]:
        """See `Objective`."""
        return prompts_of(caption, settings, number, FOR_DEFECTS)

    def notices(self, pictures: Sequence[Picture], settings: Settings) -> Sequence[str]:
        """See `Objective`."""
        return [
            "Bad pictures alone teach a glaring fault; on a faint one nothing was gained. If the "
            "model drew both bad and good pictures of the same prompts, compare them: "
            "Train from Ratings (textual-inversion train-ratings) learns from such pairs."
        ]

    def preview_prompts(
        self, captions: Sequence[str | None], settings: Settings
    ) -> Sequence[PreviewPrompt]:
        """See `Objective`: whatever, without what the word means."""
        return [PreviewPrompt(prompt, ALONE, plain=prompt) for prompt in PREVIEWS]


@dataclass(frozen=True)
class FromGoodPictures(Word):
    """A word for the mistakes of guidance on good pictures, whose captions stay as they are.

    Attributes:
        guidance: s, above 1.
        keep: k, the part of plain guidance that is no mistake, 0 to 1.
    """

    guidance: float
    keep: float
    knows_unlike: ClassVar[bool] = False
    notes: ClassVar[Mapping[str, str]] = IS_NEGATIVE

    def initial(
        self, model: FrozenModel, settings: Settings, start: Embedding | None
    ) -> dict[str, Tensor]:
        """See `Objective`: without words and embedding, from padding, which makes the empty prompt.

        The empty prompt is the best negative where the network makes no mistakes, so that what is
        learned can only be their mending. From anywhere else, most steps go into coming back.
        Encoders whose prompts are not filled up read some padding that no empty prompt has.
        """
        if start is not None or settings.init_words.strip():
            return super().initial(model, settings, start)
        return from_padding(model, settings.num_vectors)

    def prompts(self, caption: str | None, settings: Settings, number: int) -> Sequence[str]:
        """See `Objective`: the caption alone."""
        plain = clean_caption(caption, settings.name)
        if not plain:
            raise InputError(
                "Learning from good pictures needs a caption for each of them, which says what it "
                "shows: connect captions, or learn from bad pictures."
            )
        if PLACEHOLDER in plain:
            raise InputError(
                f"The caption “{plain}” contains the word that is to be a negative: leave it out, "
                "and say what the picture shows."
            )
        return filled((FILEWORDS,), plain, settings, number)

    def predict(self, model: FrozenModel, shown: NoisyBatch, vectors: Rows) -> Tensor:
        """See `Objective`: the guided prediction, less the part of plain guidance that is kept."""
        count = len(shown.prompts)
        with torch.no_grad():
            # Neither the captions nor the empty prompt learn: no graph, and one pass for both.
            empty = [""] * count if self.keep else []
            # The word is in none of them.
            unused = {key: rows.flatten(0, -2)[:1] for key, rows in vectors.items()}
            frozen = shown.predict(model, unused, [*shown.prompts, *empty])
        positive = frozen[:count]
        negative = shown.predict(model, vectors, [ALONE] * count)
        guided = guide(positive, negative, self.guidance)
        if not self.keep:
            return guided
        plain = guide(positive, frozen[count:], self.guidance)
        return guided - self.keep * (plain - positive)

    def preview_prompts(
        self, captions: Sequence[str | None], settings: Settings
    ) -> Sequence[PreviewPrompt]:
        """See `Objective`: what the captions say, drawn by the model."""
        prompts = [clean_caption(caption, settings.name) for caption in captions]
        return [PreviewPrompt(prompt, ALONE, plain=prompt) for prompt in prompts]


@dataclass(frozen=True)
class Pair(Word):
    """A word for the prompt and one for the negative prompt (DreamArtist, arXiv 2211.11337).

    The first half of the rows is the positive's.

    Attributes:
        guidance: s, above 1.
    """

    guidance: float
    words: ClassVar[int] = 2

    def initial(
        self, model: FrozenModel, settings: Settings, start: Embedding | None
    ) -> dict[str, Tensor]:
        """See `Objective`: the positive as any word, the negative from the vocabulary's mean."""
        positive = super().initial(model, settings, start)
        count = row_count(positive)
        negative = prepared(model, settings, initial_vectors(model.text_encoders, "", count))
        return joined(positive, negative)

    def predict(self, model: FrozenModel, shown: NoisyBatch, vectors: Rows) -> Tensor:
        """See `Objective`: the guided prediction, with a gradient in both words."""
        first, second = self.split(vectors)
        positive = shown.predict(model, first)
        negative = shown.predict(model, second, [ALONE] * len(shown.prompts))
        return guide(positive, negative, self.guidance)

    def split(self, vectors: Rows) -> tuple[Rows, Rows]:
        """See `Objective`: the rows of the positive and of the negative."""
        middle = {key: rows.shape[-2] // 2 for key, rows in vectors.items()}
        return (
            {key: rows[..., : middle[key], :] for key, rows in vectors.items()},
            {key: rows[..., middle[key] :, :] for key, rows in vectors.items()},
        )

    def preview_prompts(
        self, captions: Sequence[str | None], settings: Settings
    ) -> Sequence[PreviewPrompt]:
        """See `Objective`."""
        prompts = [own.prompt for own in super().preview_prompts(captions, settings)]
        return [PreviewPrompt(prompt, ALONE, plain=prompt) for prompt in prompts]

    def names(self, name: str) -> Sequence[str]:
        """See `Objective`: the positive's first."""
        return [name, f"{name}{PAIR_SUFFIX}"]

    def hand_out(self, learned: Embedding) -> Sequence[Embedding]:
        """See `Objective`: two words, each with notes of its own."""
        names, parts = self.names(learned.name), self.split(learned.vectors)
        return [
            Embedding(name, rows, {**learned.metadata, **_notes(name, negative)})
            for name, rows, negative in zip(names, parts, ("false", "true"), strict=True)
        ]


def joined(positive: Rows, negative: Rows) -> dict[str, Tensor]:
    """The rows of both words, as `Pair.split` takes them apart.

    Args:
        positive: encoder key -> [vectors, width]; a word to go on from may have fewer for some.
        negative: the same encoders, with at least as many vectors for each.
    """
    return {key: torch.cat([rows, negative[key][: len(rows)]]) for key, rows in positive.items()}


def _notes(name: str, negative: str) -> dict[str, str]:
    return {
        "modelspec.title": name,
        TRIGGER: name,
        NEGATIVE: negative,
    }


def from_padding(model: FrozenModel, num_vectors: int) -> dict[str, Tensor]:
    """The token that fills prompts up: alone it is the empty prompt; float32 [vectors, width]."""
    return {e.key: e.rows([e.padding] * num_vectors) for e in model.text_encoders}
