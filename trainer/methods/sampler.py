"""Pictures drawn through the seam: enough for previews, on any `FrozenModel`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..embeddings.embedding import Rows, row_count
from ..model import Conditioning, FrozenModel
from .diffusion import split_prediction
from .guidance import guide, rescaled


def sample(
    model: FrozenModel,
    prompt: str,
    vectors: Rows,
    *,
    latent_shape: tuple[int, ...],
    seed: int,
    steps: int = 20,
    guidance: float | None = None,
    rescale: float = 0.0,
    negative: str = "",
    negative_vectors: Rows | None = None,
) -> Tensor:
    """Draw one picture; see `sample_batch`.

    Returns:
        the picture, float32 [height, width, 3] in 0..1.
    """
    return sample_batch(
        model, [prompt], vectors, latent_shape=latent_shape, seeds=[seed], steps=steps,
        guidance=guidance, rescale=rescale, negative=negative, negative_vectors=negative_vectors,
    )[0]  # fmt: skip


@torch.no_grad()
def sample_batch(
    model: FrozenModel,
    prompts: Sequence[str],
    vectors: Rows,
    *,
    latent_shape: tuple[int, ...],
    seeds: Sequence[int],
    steps: int = 20,
    guidance: float | None = None,
    rescale: float = 0.0,
    negative: str = "",
    negative_vectors: Rows | None = None,
) -> Tensor:
    """Draw pictures with DDIM (arXiv 2010.02502, eta 0) and classifier-free guidance.

    Args:
        model: any model behind the seam.
        prompts: texts with `prompts.PLACEHOLDER` where the word stands, one for each picture.
        vectors: encoder key -> [vectors, width].
        latent_shape: [channels, h, w].
        seeds: of the starting noise of each picture, drawn on the CPU.
        steps: calls of the network.
        guidance: classifier-free guidance scale, the model's own if not given; 1 leaves the
            negative prompt out.
        rescale: see `guidance.rescaled`; 0 leaves guided predictions as they are.
        negative: the negative prompt.
        negative_vectors: those of the word in the negative prompt, if not the same.

    Returns:
        the pictures, float32 [pictures, height, width, 3] in 0..1.
    """
    count = len(prompts)
    scale = model.guidance if guidance is None else guidance
    conditionings = [_encode(model, prompts, vectors)]
    if scale != 1:
        other = vectors if negative_vectors is None else negative_vectors
        conditionings.append(_encode(model, [negative] * count, other))
    # The first timestep of each of `steps` equal stretches, from the noisiest down.
    timesteps = torch.linspace(len(model.schedule) - 1, 0, steps + 1).round().long()[:-1]
    noise = [torch.randn(latent_shape, generator=torch.Generator().manual_seed(s)) for s in seeds]
    latents = torch.stack(noise).to(model.device)
    for i, t in enumerate(timesteps):
        alpha, sigma = model.schedule.at(t.view(1), latents)
        if i == 0:
            latents = sigma * latents
        prediction, *without = [
            model.predict(latents, t.repeat(count), conditioning) for conditioning in conditionings
        ]
        if without:
            prediction = rescaled(guide(prediction, without[0], scale), prediction, rescale)
        x0, noise_part = split_prediction(model.parameterization, latents, prediction, alpha, sigma)
        if i + 1 < steps:
            alpha, sigma = model.schedule.at(timesteps[i + 1].view(1), latents)
            latents = alpha * x0 + sigma * noise_part
        else:
            latents = x0
    return model.decode_latents(latents)


def _encode(model: FrozenModel, prompts: Sequence[str], vectors: Rows) -> Conditioning:
    num_vectors = row_count(vectors) if vectors else 1
    tokens = {prompt: model.tokenize(prompt, num_vectors) for prompt in prompts}
    return model.encode_prompts([tokens[prompt] for prompt in prompts], vectors)
