"""ComfyUI and diffusers are the same model with the same weights, and so is our seam to each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import torch
from support.checkpoints import SD1, SD2_V, SDXL, Family
from support.diffusers_folder import pipeline
from support.loaded import Loaded, executing, load

if TYPE_CHECKING:
    from textual_inversion.trainer.diffusers_model.loading import Parts

KINDS = {SD1.name: "EPS", SD2_V.name: "V_PREDICTION", SDXL.name: "EPS"}
PROMPT = "a photo of a dog on the beach"
PROMPTS = [
    "a photo of a [name]",
    r"a (close-up) photo of the ([name]:1.3) \(new\) beside a ((small) and old:0.6) dog",
]
TIMESTEPS = torch.tensor([120, 781])
SAME_NOTES = ("modelspec.architecture", "modelspec.prediction_type", "textual_inversion.model")


def loss_and_gradient(model, vectors, latents, noise):
    """The objective at fixed noise and timesteps, through the seam alone."""
    from textual_inversion.trainer.learning.losses import squared_errors
    from textual_inversion.trainer.methods.diffusion import add_noise, target

    live = {k: v.clone().requires_grad_() for k, v in vectors.items()}
    prompts = [model.tokenize(prompt, 2) for prompt in PROMPTS]
    alpha, sigma = model.schedule.at(TIMESTEPS, latents)
    noisy = add_noise(latents, noise, alpha, sigma)
    prediction = model.predict(noisy, TIMESTEPS, model.encode_prompts(prompts, live))
    wanted = target(model.parameterization, latents, noise, alpha, sigma)
    loss = squared_errors(prediction, wanted).mean()
    loss.backward()
    return loss.item(), {k: v.grad for k, v in live.items()}, prediction.detach()


def text_states(model, vectors):
    """What the encoders make of each token of the prompts."""
    with torch.no_grad():
        return model.text_states([model.tokenize(prompt, 2) for prompt in PROMPTS], vectors)


@dataclass(frozen=True)
class Both:
    """One checkpoint, loaded by the host and by our reader of files for diffusers."""

    family: Family
    here: Loaded
    there: Parts


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(SD1, id="sd1"),
        pytest.param(SD2_V, id="sd2-v", marks=pytest.mark.slow),
        pytest.param(SDXL, id="sdxl", marks=pytest.mark.slow),
    ],
)
def both(
    request: pytest.FixtureRequest,
    host_modules: ModuleType,
    diffusers_folder: Callable[[Family], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Both:
    from textual_inversion.trainer.diffusers_model.loading import load_parts

    loaded = load(request.param, tmp_path_factory.mktemp("embeddings"))
    folder = diffusers_folder(request.param)
    return Both(request.param, loaded, load_parts(loaded.checkpoint, torch.float32, folder))


@torch.inference_mode()
def test_comfyui_and_diffusers_agree(both: Both) -> None:
    """The checkpoints made for tests are the same model in both, and depend on what they get."""
    import comfy.model_management

    clip, vae, model = both.here.clip, both.here.vae, both.here.model.model
    there = pipeline(both.family, both.there)
    assert model.model_type.name == KINDS[both.family.name]

    context, pooled = clip.encode_from_tokens(clip.tokenize(PROMPT), return_pooled=True)
    extra: dict[str, Any] = {}
    adm = None
    if both.family is SDXL:
        expected, _, expected_pooled, _ = there.encode_prompt(
            PROMPT, device="cpu", do_classifier_free_guidance=False
        )
        torch.testing.assert_close(pooled, expected_pooled, atol=1e-4, rtol=0)
        adm = model.encode_adm(pooled_output=pooled, width=256, height=192, device="cpu")
        sizes = torch.tensor([[192.0, 256, 0, 0, 192, 256]])
        extra["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": sizes}
    else:
        expected, _ = there.encode_prompt(PROMPT, "cpu", 1, False)
    torch.testing.assert_close(context, expected, atol=1e-4, rtol=0)

    comfy.model_management.load_models_gpu([both.here.model])
    noisy = torch.randn(1, 4, 24, 32, generator=torch.Generator().manual_seed(1))

    def predict(step: int, text: torch.Tensor) -> torch.Tensor:
        steps = torch.tensor([step])
        ours = model.diffusion_model(noisy, steps, context=text, y=adm, transformer_options={})
        theirs = there.unet(noisy, steps, text, **extra).sample
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
        return ours

    early, late = predict(50, context), predict(900, context)
    assert 0.2 < late.std() < 2
    assert (late - early).std() > 0.05
    other, _ = clip.encode_from_tokens(clip.tokenize("a photo of a cat"), return_pooled=True)
    assert (predict(900, other) - late).std() > 0.02

    pixels = torch.rand(1, 48, 64, 3, generator=torch.Generator().manual_seed(2))
    latents = vae.encode(pixels)
    scaled = model.process_latent_in(latents)
    expected = there.vae.encode(2 * pixels.movedim(-1, 1) - 1).latents
    torch.testing.assert_close(scaled, expected, atol=1e-4, rtol=0)
    drawn = there.vae.decode(expected).sample.movedim(1, -1) / 2 + 0.5
    torch.testing.assert_close(vae.decode(latents), drawn.clamp(0, 1), atol=1e-4, rtol=0)


def test_same_loss_and_gradient_through_both(both: Both) -> None:
    from textual_inversion.nodes.host.model import HostModel
    from textual_inversion.trainer.diffusers_model.model import DiffusersModel
    from textual_inversion.trainer.learning.initial import initial_vectors

    generator = torch.Generator().manual_seed(1)
    # A side that is no power of two and not square, so that nothing fits by accident.
    latents = torch.randn((2, 4, 12, 8), generator=generator)
    noise = torch.randn(latents.shape, generator=generator)

    here, there = both.here, both.there
    with executing(), HostModel(here.model, here.clip, here.vae) as ours:
        vectors = initial_vectors(ours.text_encoders, "toy cat", 2)
        host_loss, host_gradient, host_prediction = loss_and_gradient(ours, vectors, latents, noise)
        states = text_states(ours, vectors)
        kinds = (ours.parameterization, *(ours.description[key] for key in SAME_NOTES))
        schedule = ours.schedule
        padding = [encoder.padding for encoder in ours.text_encoders]

    oracle = DiffusersModel(
        there.unet, there.vae, there.text_encoders, there.tokenizers, there.scheduler,
        name=here.checkpoint.name,
    )  # fmt: skip
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
