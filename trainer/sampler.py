"""Pictures drawn through the seam: enough for previews, on any `FrozenModel`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .model import FrozenModel
from .objective import split_prediction


@torch.no_grad()
def sample(
    model: FrozenModel,
    prompt: str,
    vectors: Mapping[str, Tensor],
    *,
    latent_shape: tuple[int, ...],
    seed: int,
    steps: int = 20,
    guidance: float = 7.0,
    negative: str = "",
) -> Tensor:
    """Draw one picture with DDIM (arXiv 2010.02502, eta 0) and classifier-free guidance.

    Args:
        model: any model behind the seam.
        prompt: text with `prompts.PLACEHOLDER` where the word stands.
        vectors: encoder key -> [vectors, width].
        latent_shape: [channels, h, w].
        seed: of the starting noise, drawn on the CPU.
        steps: calls of the network.
        guidance: classifier-free guidance scale; 1 leaves the negative prompt out.
        negative: the negative prompt.

    Returns:
        the picture, float32 [height, width, 3] in 0..1.
    """
    num_vectors = max((v.shape[0] for v in vectors.values()), default=1)
    tokens = [model.tokenize(text, num_vectors) for text in (prompt, negative)]
    if guidance == 1:
        tokens = tokens[:1]
    conditioning = model.encode_prompts(tokens, vectors)
    # The first timestep of each of `steps` equal stretches, from the noisiest down.
    timesteps = torch.linspace(len(model.schedule) - 1, 0, steps + 1).round().long()[:-1]
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn((1, *latent_shape), generator=generator).to(model.device)
    for i, t in enumerate(timesteps):
        alpha, sigma = model.schedule.at(t.view(1), latents)
        if i == 0:
            latents = sigma * latents
        batch = len(tokens)
        predictions = model.predict(
            latents.expand(batch, -1, -1, -1), t.repeat(batch), conditioning
        )
        prediction = predictions[:1]
        if batch == 2:
            prediction = predictions[1:] + guidance * (prediction - predictions[1:])
        x0, noise = split_prediction(model.parameterization, latents, prediction, alpha, sigma)
        if i + 1 < steps:
            alpha, sigma = model.schedule.at(timesteps[i + 1].view(1), latents)
            latents = alpha * x0 + sigma * noise
        else:
            latents = x0
    return model.decode_latents(latents)[0]
