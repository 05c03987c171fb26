"""The checkpoints made for tests are the same model in ComfyUI and in diffusers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import checkpoints
from support.checkpoints import Family
from support.diffusers_folder import load_pipeline

PROMPT = "a photo of a dog on the beach"


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        (checkpoints.SD1, "EPS"),
        pytest.param(checkpoints.SD2_V, "V_PREDICTION", marks=pytest.mark.slow),
        pytest.param(checkpoints.SDXL, "EPS", marks=pytest.mark.slow),
    ],
    ids=lambda value: value.name if isinstance(value, Family) else value,
)
@torch.no_grad()
def test_comfyui_and_diffusers_agree(
    family: Family,
    kind: str,
    host_modules: object,
    diffusers_folder: Callable[[Family], Path],
) -> None:
    import comfy.model_management
    import comfy.sd

    path = checkpoints.cached(family)
    pipeline = load_pipeline(family, path, diffusers_folder(family))
    patcher, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(
        str(path), output_vae=True, output_clip=True
    )
    model = patcher.model
    assert model.model_type.name == kind

    context, pooled = clip.encode_from_tokens(clip.tokenize(PROMPT), return_pooled=True)
    extra: dict[str, Any] = {}
    adm = None
    if family is checkpoints.SDXL:
        expected, _, expected_pooled, _ = pipeline.encode_prompt(
            PROMPT, device="cpu", do_classifier_free_guidance=False
        )
        torch.testing.assert_close(pooled, expected_pooled, atol=1e-4, rtol=0)
        adm = model.encode_adm(pooled_output=pooled, width=256, height=192, device="cpu")
        sizes = torch.tensor([[192.0, 256, 0, 0, 192, 256]])
        extra["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": sizes}
    else:
        expected, _ = pipeline.encode_prompt(PROMPT, "cpu", 1, False)
    torch.testing.assert_close(context, expected, atol=1e-4, rtol=0)

    comfy.model_management.load_models_gpu([patcher])
    noisy = torch.randn(1, 4, 24, 32, generator=torch.Generator().manual_seed(1))

    def predict(step: int, text: torch.Tensor) -> torch.Tensor:
        steps = torch.tensor([step])
        here = model.diffusion_model(noisy, steps, context=text, y=adm, transformer_options={})
        there = pipeline.unet(noisy, steps, text, **extra).sample
        torch.testing.assert_close(here, there, atol=1e-4, rtol=0)
        return here

    early, late = predict(50, context), predict(900, context)
    assert 0.2 < late.std() < 2
    assert (late - early).std() > 0.05
    other, _ = clip.encode_from_tokens(clip.tokenize("a photo of a cat"), return_pooled=True)
    assert (predict(900, other) - late).std() > 0.02

    pixels = torch.rand(1, 48, 64, 3, generator=torch.Generator().manual_seed(2))
    latents = vae.encode(pixels)
    scaled = model.process_latent_in(latents)
    expected = pipeline.vae.encode(2 * pixels.movedim(-1, 1) - 1).latents
    torch.testing.assert_close(scaled, expected, atol=1e-4, rtol=0)
    drawn = pipeline.vae.decode(expected).sample.movedim(1, -1) / 2 + 0.5
    torch.testing.assert_close(vae.decode(latents), drawn.clamp(0, 1), atol=1e-4, rtol=0)
