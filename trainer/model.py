"""The one seam of the trainer: what a frozen text-to-image model must be able to do.

Whoever implements `FrozenModel` can be trained on: the loop, the objective and the
sampler know nothing else about models. Weights never change; the only tensors with a
gradient are the vectors that the trainer hands to `encode_prompts`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

Parameterization = Literal["epsilon", "v_prediction", "flow"]
"""What the network's output stands for.

- `epsilon`: the noise (DDPM, arXiv 2006.11239).
- `v_prediction`: alpha · noise − sigma · x0 (arXiv 2202.00512).
- `flow`: noise − x0 (rectified flow, arXiv 2209.03003).
"""

TokenizedPrompt = Any
"""A prompt tokenised by the model, with places kept for the word's vectors."""

USUAL_GUIDANCE = 7.0
"""The scale of classifier-free guidance that Stable Diffusion is usually drawn with."""

Conditioning = Any
"""Whatever the model's `predict` takes as its encoded prompts."""


@dataclass(frozen=True)
class NoiseSchedule:
    """How much picture and how much noise there is at each timestep.

    At timestep t a latent is `alphas[t] · x0 + sigmas[t] · noise`; t = 0 is the
    cleanest, `len(schedule) - 1` the noisiest.

    Attributes:
        alphas: float32 tensor [timesteps].
        sigmas: float32 tensor [timesteps].
    """

    alphas: Tensor
    sigmas: Tensor

    def __len__(self) -> int:
        return int(self.alphas.shape[0])

    def at(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma for each sample of a batch, shaped to multiply `like`."""
        shape = (-1,) + (1,) * (like.ndim - 1)
        timesteps = timesteps.to(self.alphas.device)
        alpha, sigma = (
            values[timesteps].view(shape).to(like.device) for values in (self.alphas, self.sigmas)
        )
        return alpha, sigma

    @classmethod
    def from_alphas_cumprod(cls, alphas_cumprod: Tensor) -> NoiseSchedule:
        """The variance-preserving schedule of DDPM from its cumulative alphas, [timesteps]."""
        alphas_cumprod = alphas_cumprod.detach().to("cpu", torch.float64)
        return cls(alphas_cumprod.sqrt().float(), (1 - alphas_cumprod).sqrt().float())


CLIP_ROW = 0.0144
"""Root mean square of a number in CLIP-L's vocabulary, whose rows have a length of 0.4."""


@dataclass(frozen=True)
class TextEncoder:
    """What the trainer needs to know of one of the model's text encoders.

    Attributes:
        key: the name under which embedding files keep vectors for it (`clip_l`, ...).
        vocabulary: the frozen table of token vectors, [tokens, width].
        token_ids: text -> ids of its tokens, without start, end and padding.
        scale: what the encoder multiplies a row by when it looks up a token (Gemma's is the
            square root of the width); vectors in place of a word are not multiplied.
        word: id of a token -> its text, for people.
        padding: id of the token that fills prompts up to their usual length.
    """

    key: str
    vocabulary: Tensor
    token_ids: Callable[[str], list[int]]
    scale: float = 1.0
    word: Callable[[int], str] = str
    padding: int = 0

    @property
    def width(self) -> int:
        """Length of one token vector."""
        return int(self.vocabulary.shape[1])

    @property
    def rate_scale(self) -> float:
        """How many times longer its rows are than CLIP-L's, number by number; 1 for any CLIP.

        Learning rates are known for CLIP, and Adam moves every number by about the rate.
        """
        if self.key.startswith("clip_"):
            return 1.0
        sample = self.vocabulary[:: max(1, len(self.vocabulary) // 1000)].float() * self.scale
        return sample.square().mean().sqrt().item() / CLIP_ROW

    @property
    def usual_length(self) -> float:
        """Mean length of the vectors that it reads for its tokens."""
        # A big vocabulary in float32 would be gigabytes at once.
        parts = torch.split(self.vocabulary.detach(), 16_384)
        return torch.cat([rows.float().norm(dim=1) for rows in parts]).mean().item() * self.scale

    def rows(self, ids: Sequence[int]) -> Tensor:
        """The vectors that the encoder reads for these tokens, float32 [tokens, width]."""
        return self.vocabulary[list(ids)].detach().to("cpu", torch.float32) * self.scale


@dataclass(frozen=True)
class TextStates:
    """What the text encoders make of one prompt, token by token.

    Attributes:
        states: [tokens, width], the widths of all encoders joined in their order.
        is_word: where the learned word stands, bool [tokens].
        is_text: where other words stand, bool [tokens]; not start, end and padding.
    """

    states: Tensor
    is_word: Tensor
    is_text: Tensor


class FrozenModel(Protocol):
    """A text-to-image diffusion model of which nothing is trained."""

    @property
    def text_encoders(self) -> Sequence[TextEncoder]:
        """The encoders whose rows can be learned, in a fixed order."""

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule that the model was trained with."""

    @property
    def parameterization(self) -> Parameterization:
        """What `predict` returns."""

    @property
    def compute_dtype(self) -> torch.dtype:
        """In which the network computes; float16 asks the trainer for loss scaling."""

    @property
    def device(self) -> torch.device:
        """Where latents are expected."""

    @property
    def pictures_at_once(self) -> int | None:
        """How many pictures of a batch memory holds at once; None for any number."""

    @property
    def guidance(self) -> float:
        """The scale of classifier-free guidance that suits it, to draw previews with."""

    @property
    def notes(self) -> Sequence[str]:
        """What people should know of how it computes, such as what memory made it choose."""

    @property
    def description(self) -> Mapping[str, str]:
        """File-metadata about the model: architecture, checkpoint name, ..."""

    def tokenize(self, prompt: str, num_vectors: int) -> TokenizedPrompt:
        """Tokenise a prompt once, keeping places for the word.

        Args:
            prompt: text in which `prompts.PLACEHOLDER` stands for the word, any number of
                times.
            num_vectors: how many vectors the word has.
        """

    def encode_prompts(
        self, prompts: Sequence[TokenizedPrompt], vectors: Mapping[str, Tensor]
    ) -> Conditioning:
        """Encode a batch of prompts, differentiably in `vectors`.

        Args:
            prompts: from `tokenize`.
            vectors: encoder key -> float32 tensor [vectors, width], placed where the word is; or
                [prompts, vectors, width], for each prompt its own.
        """

    def text_states(
        self, prompts: Sequence[TokenizedPrompt], vectors: Mapping[str, Tensor]
    ) -> Sequence[TextStates]:
        """What the text encoders make of prompts, differentiably in `vectors`.

        Only the methods that look at text alone need it.

        Args:
            prompts: from `tokenize`.
            vectors: as in `encode_prompts`.

        Raises:
            InputError: the model's encoders do not read the same tokens.
        """

    def encode_pictures(self, pixels: Tensor) -> Tensor:
        """Pictures [batch, height, width, 3] in 0..1 -> latents [batch, channels, h, w].

        Latents are scaled as the network expects them; no gradient.
        """

    def decode_latents(self, latents: Tensor) -> Tensor:
        """The way back: latents -> pictures [batch, height, width, 3] in 0..1; no gradient."""

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """The network's output in its own parameterisation, as float32.

        Args:
            noisy: float32 latents [batch, channels, h, w], `alpha · x0 + sigma · noise`.
            timesteps: int64 tensor [batch], indices into `schedule`.
            conditioning: from `encode_prompts`, of the same batch size.
        """
