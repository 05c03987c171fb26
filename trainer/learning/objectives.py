"""What a run learns: everything in which runs of the one loop differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

from torch import Tensor

from ..data.captions import prompts_of
from ..data.pictures import Picture
from ..embeddings.embedding import Embedding, Rows
from ..model import FrozenModel, TokenizedPrompt
from ..settings import Settings
from .initial import initial_vectors, prepared


class PreviewPrompt(NamedTuple):
    """What to draw as a preview.

    Attributes:
        prompt: with the word, where it stands there.
        negative: the same.
        plain: the prompt with which the same is drawn for comparison, without a negative prompt;
            None where nothing is compared.
    """

    prompt: str
    negative: str = ""
    plain: str | None = None


PREVIEWS: Mapping[str, Sequence[str]] = {
    "object": (
        "a photo of a [name]",
        "a photo of a [name] on a beach",
        "an oil painting of a [name]",
        "a [name] made of wood",
    ),
    "style": (
        "a cat in the style of [name]",
        "a house in the style of [name]",
        "a portrait in the style of [name]",
        "a landscape in the style of [name]",
    ),
}
"""The word as it was trained, then in places where only a word that listens looks right."""


@dataclass(frozen=True)
class NoisyBatch:
    """What a step shows the network.

    Attributes:
        noisy: float32 latents under noise, [batch, channels, h, w].
        timesteps: int64 [batch].
        prompts: one for each picture.
        tokenized: prompt -> its tokens, also for prompts that no picture has.
    """

    noisy: Tensor
    timesteps: Tensor
    prompts: Sequence[str]
    tokenized: Mapping[str, TokenizedPrompt]

    def predict(
        self, model: FrozenModel, vectors: Rows, prompts: Sequence[str] | None = None
    ) -> Tensor:
        """The network's prediction without guidance, [prompts, channels, h, w].

        Args:
            model: the frozen model.
            vectors: of the word in the prompts.
            prompts: in place of the pictures' own: for each of them one, or one after the other
                as many sets of these as are wanted.
        """
        tokens = [self.tokenized[p] for p in (self.prompts if prompts is None else prompts)]
        sets = len(tokens) // len(self.prompts)
        return model.predict(
            self.noisy.repeat(sets, 1, 1, 1),
            self.timesteps.repeat(sets),
            model.encode_prompts(tokens, vectors),
        )


class Objective(Protocol):
    """Where learning starts, from which prompts, and what prediction is to be right."""

    @property
    def words(self) -> int:
        """How many words share the rows that the loop trains, in equal parts."""

    @property
    def knows_unlike(self) -> bool:
        """Whether pictures of what the word does not mean can say anything to it."""

    @property
    def notes(self) -> Mapping[str, str]:
        """What the metadata says of what is learned."""

    def initial(
        self, model: FrozenModel, settings: Settings, start: Embedding | None
    ) -> dict[str, Tensor]:
        """The rows before the first step: encoder key -> float32 [words · vectors, width].

        Raises:
            InputError: `start` does not fit the model, words of the settings have no token, or
                the model has no encoder that they name.
        """

    def prompts(self, caption: str | None, settings: Settings, number: int) -> Sequence[str]:
        """The prompts to draw from for the picture of this number.

        Raises:
            InputError: the caption cannot be learned from.
        """

    def predict(self, model: FrozenModel, shown: NoisyBatch, vectors: Rows) -> Tensor:
        """What is to match the noise (or v, or the flow) of the pictures, like `shown.noisy`.

        Args:
            model: the frozen model.
            shown: pictures under noise, with prompts from `prompts`.
            vectors: the rows being trained.
        """

    def split(self, vectors: Rows) -> tuple[Rows, Rows]:
        """The rows of the word in the prompt, and of the word in the negative prompt."""

    def preview_prompts(
        self, captions: Sequence[str | None], settings: Settings
    ) -> Sequence[PreviewPrompt]:
        """What previews draw; captions are those of the pictures."""

    def notices(self, pictures: Sequence[Picture], settings: Settings) -> Sequence[str]:
        """Sentences on what such pictures can teach, to be told before the first step."""

    def names(self, name: str) -> Sequence[str]:
        """What the words are called, where the settings say `name`."""

    def hand_out(self, learned: Embedding) -> Sequence[Embedding]:
        """The words in what the loop has learned, in the order of `names`."""


class TokenizedPrompts(dict[str, TokenizedPrompt]):
    """Prompts tokenised once, when they are first asked for.

    Args:
        model: whose tokenizer to use.
        num_vectors: how many places to keep for the word.
    """

    def __init__(self, model: FrozenModel, num_vectors: int) -> None:
        super().__init__()
        self._model, self._num_vectors = model, num_vectors

    def __missing__(self, prompt: str) -> TokenizedPrompt:
        tokens = self[prompt] = self._model.tokenize(prompt, self._num_vectors)
        return tokens


class Word:
    """A word for what the pictures show: textual inversion as published (arXiv 2208.01618)."""

    words: ClassVar[int] = 1
    knows_unlike: ClassVar[bool] = True
    notes: ClassVar[Mapping[str, str]] = {}

    def initial(
        self, model: FrozenModel, settings: Settings, start: Embedding | None
    ) -> dict[str, Tensor]:
        """See `Objective`: from an embedding, which stays as it is, or from words."""
        rows = initial_vectors(
            model.text_encoders, settings.init_words, settings.num_vectors, start
        )
        return rows if start is not None else prepared(model, settings, rows)

    def prompts(self, caption: str | None, settings: Settings, number: int) -> Sequence[str]:
        """See `Objective`."""
        return prompts_of(caption, settings, number)

    def predict(self, model: FrozenModel, shown: NoisyBatch, vectors: Rows) -> Tensor:
        """See `Objective`: the plain prediction."""
        return shown.predict(model, vectors)

    def split(self, vectors: Rows) -> tuple[Rows, Rows]:
        """See `Objective`."""
        return vectors, vectors

    def preview_prompts(
        self, captions: Sequence[str | None], settings: Settings
    ) -> Sequence[PreviewPrompt]:
        """See `Objective`."""
        return [PreviewPrompt(prompt) for prompt in PREVIEWS[settings.learn]]

    def notices(self, pictures: Sequence[Picture], settings: Settings) -> Sequence[str]:
        """See `Objective`."""
        return []

    def names(self, name: str) -> Sequence[str]:
        """See `Objective`."""
        return [name]

    def hand_out(self, learned: Embedding) -> Sequence[Embedding]:
        """See `Objective`."""
        return [learned]
