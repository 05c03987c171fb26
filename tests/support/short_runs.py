"""Runs of seconds on a model in this process, and single steps of the host's sampler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from .families import with_frames
from .loaded import Loaded, executing, sampler_step
from .small_families import HostFamily

STEP = 400


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def learn(loaded: Loaded, steps: int = 2, **changes: Any) -> Any:
    """A short run; returns its last progress."""
    from textual_inversion.nodes.host.model import HostModel
    from textual_inversion.trainer.data.pictures import Picture
    from textual_inversion.trainer.learning.loop import train
    from textual_inversion.trainer.settings import Settings

    settings = Settings(
        **{"name": "way", "init_words": "toy cat", "steps": steps, "resolution": 64,
           "evaluations": 0} | changes
    )  # fmt: skip
    generator = torch.Generator().manual_seed(5)
    pictures = [Picture(torch.rand(64, 64, 3, generator=generator)) for _ in range(2)]
    with executing(), HostModel(loaded.model, loaded.clip, loaded.vae, resolution=64) as model:
        *_, last = train(model, pictures, settings)
    return last


def draw(loaded: Loaded, control: Any = None) -> torch.Tensor:
    """One step of the stock sampler with a stock prompt, by a ControlNet if there is one."""
    import nodes as host_nodes

    with torch.inference_mode():
        (prompt,) = host_nodes.CLIPTextEncode().encode(loaded.clip, "a castle by the sea")
        if control is not None:
            hint = random(1, 64, 64, 3, seed=3).sigmoid()
            apply = host_nodes.ControlNetApplyAdvanced().apply_controlnet
            prompt, _ = apply(prompt, prompt, control, hint, 1.0, 0.0, 1.0)
        channels = loaded.model.model.latent_format.latent_channels
        noise, x0 = (random(1, channels, 8, 8, seed=seed) for seed in (1, 2))
        sigma = loaded.model.get_model_object("model_sampling").sigmas[STEP]
        return sampler_step(loaded.model, prompt, noise, x0, sigma)[1]


def learn_save_and_apply(loaded: Loaded, family: HostFamily, folder: Path) -> tuple[float, float]:
    """A word from a short run, through its file into a prompt.

    Returns:
        how far what the prompt says is from what was trained with, relative to its size; and how
        far the sampler's step with it is from training's, relative to what that takes off.
    """
    import node_helpers
    from textual_inversion.nodes.apply import ApplyEmbedding
    from textual_inversion.nodes.host.model import HostModel
    from textual_inversion.trainer.embeddings.embedding import Embedding
    from textual_inversion.trainer.files.reading import read_embedding
    from textual_inversion.trainer.files.writing import write_embedding

    vectors = learn(loaded).kept.vectors
    path = folder / "learned.safetensors"
    write_embedding(Embedding(path.stem, vectors), path, overwrite=True)
    channels = loaded.model.model.latent_format.latent_channels
    noise, x0 = (random(1, channels, 8, 8, seed=seed) for seed in (1, 2))
    prompt = "a photo of a [name]"
    with (
        executing(),
        torch.no_grad(),
        HostModel(loaded.model, loaded.clip, loaded.vae, resolution=64) as model,
    ):
        tokens = [model.tokenize(prompt, len(next(iter(vectors.values()))))]
        trained = model.encode_prompts(tokens, vectors)
        alpha, sigma = model.schedule.at(torch.tensor([STEP]), x0)
        predicted = model.predict(alpha * x0 + sigma * noise, torch.tensor([STEP]), trained)
    sampling = loaded.model.get_model_object("model_sampling")
    sigma = sampling.sigmas[STEP]
    with torch.inference_mode():
        word = read_embedding(path)
        applied = ApplyEmbedding.execute(loaded.clip, prompt, 1.0, word).args[0]
        said, meant = applied[0][0], trained[0]["cond"]
        applied = node_helpers.conditioning_set_values(applied, {"guidance": 1.0})
        noise, x0, predicted = (with_frames(family, one) for one in (noise, x0, predicted))
        noisy, denoised = sampler_step(loaded.model, applied, noise, x0, sigma)
        ours = sampling.calculate_denoised(sigma.view(1), predicted, noisy)
        return (
            ((said - meant).norm() / meant.norm()).item(),
            ((ours - denoised).norm() / (noisy - denoised).norm()).item(),
        )


def predicted_as_sampled(loaded: Loaded) -> torch.Tensor:
    """Training's prediction, once it is known to be the sampler's."""
    from textual_inversion.nodes.host.model import HostModel

    with executing(), HostModel(loaded.model, loaded.clip, loaded.vae, resolution=64) as model:
        noise, x0 = (random(1, 4, 8, 8, seed=seed) for seed in (1, 2))
        alpha, sigma = model.schedule.at(torch.tensor([STEP]), x0)
        tokens = [model.tokenize("a castle by the sea", 1)]
        with torch.no_grad():
            predicted = model.predict(
                alpha * x0 + sigma * noise, torch.tensor([STEP]), model.encode_prompts(tokens, {})
            )
    sampling = loaded.model.get_model_object("model_sampling")
    sigma = sampling.sigmas[STEP].clone().view(1)
    denoised = sampling.calculate_denoised(sigma, predicted, x0 + sigma * noise)
    drawn = draw(loaded)
    torch.testing.assert_close(denoised, drawn, atol=1e-4 * drawn.abs().max().item(), rtol=1e-3)
    return predicted
