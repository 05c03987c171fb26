"""The host's model behind our seam against diffusers with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from support.checkpoints import SD1, SD2_V, SDXL, Family
from support.loaded import executing, load

PROMPTS = [
    "a photo of a [name]",
    r"a (close-up) photo of the ([name]:1.3) \(new\) beside a ((small) and old:0.6) dog",
]
TIMESTEPS = torch.tensor([120, 781])
SAME_NOTES = ("modelspec.architecture", "modelspec.prediction_type", "textual_inversion.model")


def loss_and_gradient(model, vectors, latents, noise):
    """The objective at fixed noise and timesteps, through the seam alone."""
    from textual_inversion.trainer.learning.losses import squared_errors
    from textual_inversion.trainer.methods import diffusion as objective

    live = {k: v.clone().requires_grad_() for k, v in vectors.items()}
    prompts = [model.tokenize(prompt, 2) for prompt in PROMPTS]
    alpha, sigma = model.schedule.at(TIMESTEPS, latents)
    noisy = objective.add_noise(latents, noise, alpha, sigma)
    prediction = model.predict(noisy, TIMESTEPS, model.encode_prompts(prompts, live))
    wanted = objective.target(model.parameterization, latents, noise, alpha, sigma)
    loss = squared_errors(prediction, wanted).mean()
    loss.backward()
    return loss.item(), {k: v.grad for k, v in live.items()}, prediction.detach()


def text_states(model, vectors):
    """What the encoders make of each token of the prompts."""
    with torch.no_grad():
        return model.text_states([model.tokenize(prompt, 2) for prompt in PROMPTS], vectors)


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(SD1, id="sd1"),
        pytest.param(SD2_V, id="sd2-v", marks=pytest.mark.slow),
        pytest.param(SDXL, id="sdxl", marks=pytest.mark.slow),
    ],
)
def test_same_loss_and_gradient_as_diffusers(
    host_modules: ModuleType,
    diffusers_folder: Callable[..., Path],
    family: Family,
    tmp_path: Path,
):
    from textual_inversion.nodes.host.model import HostModel
    from textual_inversion.trainer.diffusers_model.model import DiffusersModel
    from textual_inversion.trainer.learning.initial import initial_vectors

    generator = torch.Generator().manual_seed(1)
    # A side that is no power of two and not square, so that nothing fits by accident.
    latents = torch.randn((2, 4, 12, 8), generator=generator)
    noise = torch.randn(latents.shape, generator=generator)

    loaded = load(family, tmp_path)
    with executing(), HostModel(loaded.model, loaded.clip, loaded.vae) as ours:
        vectors = initial_vectors(ours.text_encoders, "toy cat", 2)
        host_loss, host_gradient, host_prediction = loss_and_gradient(ours, vectors, latents, noise)
        states = text_states(ours, vectors)
        kinds = (ours.parameterization, *(ours.description[key] for key in SAME_NOTES))
        schedule = ours.schedule
        padding = [encoder.padding for encoder in ours.text_encoders]

    oracle = DiffusersModel.from_pretrained(loaded.checkpoint, config=diffusers_folder(family))
    loss, gradient, prediction = loss_and_gradient(oracle, vectors, latents, noise)

    for found, expected in zip(states, text_states(oracle, vectors), strict=True):
        assert torch.equal(found.is_word, expected.is_word)
        assert torch.equal(found.is_text, expected.is_text)
        torch.testing.assert_close(found.states, expected.states, atol=1e-4, rtol=1e-3)

    assert padding == [encoder.padding for encoder in oracle.text_encoders]
    assert kinds == (oracle.parameterization, *(oracle.description[key] for key in SAME_NOTES))
    torch.testing.assert_close(schedule.alphas, oracle.schedule.alphas, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(host_prediction, prediction, atol=1e-3, rtol=1e-3)
    assert host_loss == pytest.approx(loss, rel=1e-5)
    assert set(host_gradient) == set(gradient) == set(vectors)
    for key, expected in gradient.items():
        found = host_gradient[key]
        assert found.norm() == pytest.approx(expected.norm().item(), rel=1e-4)
        cosine = torch.nn.functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0)
        assert cosine >= 0.99999
