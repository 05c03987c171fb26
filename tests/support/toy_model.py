"""A model whose right answer is known: a prompt means a colour, and nothing else is drawn."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import torch
from textual_inversion.trainer.model import (
    USUAL_GUIDANCE,
    NoiseSchedule,
    Parameterization,
    TextEncoder,
)
from torch import Tensor

WORDS = ("a", "photo", "of", "the", "toy", "cat", "red", "blue")
WIDTH = 4


class ToyModel:
    """`FrozenModel` by formulas.

    A prompt's tokens are added up and mapped to a colour; the prediction is what follows
    if the picture had that colour everywhere. So a word is learned perfectly when the prompts
    give the mean colour of the pictures.
    """

    def __init__(
        self,
        parameterization: Parameterization = "epsilon",
        compute_dtype: torch.dtype = torch.float32,
        change: Callable[[Tensor], Tensor] = lambda colour: colour,
    ) -> None:
        generator = torch.Generator().manual_seed(7)
        self._vocabulary = torch.randn(len(WORDS), WIDTH, generator=generator)
        self._colours = torch.randn(WIDTH, 3, generator=generator)
        self.text_encoders = [
            TextEncoder("clip_l", self._vocabulary, self.token_ids, word=WORDS.__getitem__)
        ]
        angles = torch.linspace(0.4, 1.2, 100)
        self.schedule = NoiseSchedule(angles.cos(), angles.sin())
        if parameterization == "flow":
            times = torch.linspace(0.3, 0.9, 100)
            self.schedule = NoiseSchedule(1 - times, times)
        self.parameterization = parameterization
        self.pixels_per_latent = 8
        self.compute_dtype = compute_dtype
        self.device = torch.device("cpu")
        self.pictures_at_once: int | None = None
        self.guidance = USUAL_GUIDANCE
        self.notes: Sequence[str] = ()
        self.description: dict[str, str] = {"modelspec.architecture": "toy"}
        self._change = change
        self.encoded_prompts: list[str] = []

    def token_ids(self, text: str) -> list[int]:
        return [WORDS.index(word) for word in text.split() if word in WORDS]

    def tokenize(self, prompt: str, num_vectors: int) -> str:
        return prompt

    def encode_prompts(self, prompts: Sequence[str], vectors: Mapping[str, Tensor]) -> Tensor:
        """The colour of each prompt, [batch, 3]."""
        self.encoded_prompts += prompts
        colours = []
        for number, prompt in enumerate(prompts):
            rows = vectors["clip_l"]
            word = (rows if rows.ndim == 2 else rows[number]).mean(0) * len(
                re.findall(r"\[name\]", prompt)
            )
            ids = self.token_ids(prompt.replace("[name]", " "))
            context = self._vocabulary[ids].sum(0) * 0.01
            colours.append(torch.tanh((word + context) @ self._colours))
        return torch.stack(colours)

    def encode_pictures(self, pixels: Tensor) -> Tensor:
        planes = pixels.movedim(-1, 1) * 2 - 1
        return torch.nn.functional.avg_pool2d(planes, self.pixels_per_latent)

    def decode_latents(self, latents: Tensor) -> Tensor:
        planes = latents.repeat_interleave(8, -1).repeat_interleave(8, -2)
        return (planes.movedim(1, -1) / 2 + 0.5).clamp(0, 1)

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Tensor) -> Tensor:
        alpha, sigma = self.schedule.at(timesteps, noisy)
        x0 = self._change(conditioning)[..., None, None].expand_as(noisy)
        noise = (noisy - alpha * x0) / sigma
        if self.parameterization == "epsilon":
            return noise
        if self.parameterization == "v_prediction":
            return alpha * noise - sigma * x0
        return noise - x0
