"""The seam over diffusers, against diffusers' own pipelines."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from support.tiny_models import TinyParts, pictures, scheduler, tiny, unet
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.learning.loop import train
from textual_inversion.trainer.model import NoiseSchedule
from textual_inversion.trainer.runs.previews import draw_previews, preview_grid
from textual_inversion.trainer.settings import Settings

PROMPT = "a red photo of [name], a [name] toy"


@pytest.mark.parametrize("family", ["sd1", "sd2-v", "sdxl"])
@pytest.mark.parametrize("count", [1, 3])
def test_conditioning_equals_that_of_diffusers(family: str, count: int, tmp_path: Path) -> None:
    parts = tiny(family, tmp_path)
    vectors = parts.vectors(count)
    model = parts.model()
    with torch.no_grad():
        ours = model.encode_prompts([model.tokenize(PROMPT, count)], vectors)
    pipeline = parts.pipeline()
    for (key, rows), text_encoder, words in zip(
        vectors.items(), parts.text_encoders, parts.tokenizers, strict=True
    ):
        pipeline.load_textual_inversion(
            {key: rows}, token="<word>", text_encoder=text_encoder, tokenizer=words
        )
    with torch.no_grad():
        theirs = pipeline.encode_prompt(
            PROMPT.replace("[name]", "<word>"),
            device="cpu",
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
    torch.testing.assert_close(ours.states, theirs[0], atol=1e-5, rtol=0)
    if family == "sdxl":
        torch.testing.assert_close(ours.pooled, theirs[2], atol=1e-5, rtol=0)
    else:
        assert ours.pooled is None


def test_places_of_the_word_do_not_move_the_end_of_the_text(sdxl: TinyParts) -> None:
    model = sdxl.model()
    second = sdxl.text_encoders[1].text_model
    prompts = [model.tokenize(PROMPT, 2)]
    expected = model.encode_prompts(prompts, sdxl.vectors()).pooled
    usual, second.eos_token_id = (
        second.eos_token_id,
        2,
    )  # the largest id is the end, as in old files
    try:
        pooled = model.encode_prompts(prompts, sdxl.vectors()).pooled
    finally:
        second.eos_token_id = usual
    assert torch.equal(pooled, expected)


def test_batch_gives_what_its_prompts_give_alone(any_family: TinyParts) -> None:
    model, vectors = any_family.model(), any_family.vectors()
    prompts = [model.tokenize(text, 2) for text in (PROMPT, "cat", "[name]")]
    together = model.encode_prompts(prompts, vectors)
    for i, prompt in enumerate(prompts):
        alone = model.encode_prompts([prompt], vectors)
        torch.testing.assert_close(together.states[i : i + 1], alone.states)
        if alone.pooled is not None:
            torch.testing.assert_close(together.pooled[i : i + 1], alone.pooled)


def test_long_prompts_are_encoded_in_chunks(sdxl: TinyParts) -> None:
    model, vectors = sdxl.model(), sdxl.vectors()
    prompts = [model.tokenize(text, 2) for text in ("cat " * 70 + PROMPT, "red cat " * 100, "cat")]
    states = model.encode_prompts(prompts, vectors).states
    assert states.shape == (3, 6 * 77, 80)  # 2, 3 and 1 chunks
    assert torch.equal(states[0, :154], states[0, 154:308])
    first = model.encode_prompts([model.tokenize("cat " * 70 + "a red", 2)], vectors)
    assert not torch.equal(states[0, 77:154], states[0, :77])
    assert first.states.shape[1] == 77


def test_repeating_the_conditioning_changes_nothing(sd1: TinyParts) -> None:
    model, vectors = sd1.model(), sd1.vectors()
    short, long = model.tokenize(PROMPT, 2), model.tokenize("cat " * 80, 2)
    noisy, t = torch.randn(2, 4, 8, 8), torch.tensor([10, 500])
    with torch.no_grad():
        together = model.predict(noisy, t, model.encode_prompts([short, long], vectors))
        alone = model.predict(noisy[:1], t[:1], model.encode_prompts([short], vectors))
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-5)


def test_encoder_without_vectors_skips_the_word(sdxl: TinyParts) -> None:
    model = sdxl.model()
    first = {"clip_l": sdxl.vectors()["clip_l"]}
    with_word, without = (model.tokenize(text, 2) for text in ("cat [name] toy", "cat toy"))
    assert torch.equal(
        model.encode_prompts([with_word], first).pooled,
        model.encode_prompts([without], first).pooled,
    )


def test_keys_of_the_encoders(any_family: TinyParts) -> None:
    model = any_family.model()
    assert [e.key for e in model.text_encoders] == ["clip_l", "clip_g"][: len(model.text_encoders)]
    ids = model.text_encoders[0].token_ids("a toy cat")
    assert any_family.tokenizers[0].decode(ids).strip() == "a toy cat"


def test_latents_are_those_of_the_pipeline(any_family: TinyParts) -> None:
    model = any_family.model()
    pixels = torch.stack([p.pixels for p in pictures()])
    latents = model.encode_pictures(pixels)
    assert latents.shape == (2, 4, 8, 8)
    assert not latents.requires_grad
    processor = any_family.pipeline().image_processor
    scale = any_family.vae.config.scaling_factor
    with torch.no_grad():
        encoded = any_family.vae.encode(processor.preprocess(pixels.movedim(-1, 1)))
        decoded = any_family.vae.decode(latents / scale).sample
    mode = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
    torch.testing.assert_close(latents, mode * scale)
    drawn = processor.postprocess(decoded, output_type="pt").movedim(1, -1)
    torch.testing.assert_close(model.decode_latents(latents), drawn)


def test_preview_grid(sd1: TinyParts) -> None:
    model = sd1.model()
    chosen = Settings(init_words="cat", resolution=64, steps=1, previews=3)
    word = next(train(model, pictures(), chosen)).last
    grid = preview_grid(pictures(), chosen, draw_previews(model, pictures(), chosen, word))
    assert grid.shape == (2 * 72, 3 * 72, 3)
    assert grid.dtype == torch.float32
    assert 0 <= grid.min() <= grid.max() <= 1
    torch.testing.assert_close(grid[:64, :64], pictures()[0].pixels)
    assert grid[:72, 144:].min() == 1  # there is no third picture
    assert grid[72 : 72 + 64, 144:208].std() > 0
    none = Settings(resolution=64, previews=0)
    without = preview_grid(pictures(), none, draw_previews(model, pictures(), none, word))
    assert without.shape == (72, 2 * 72, 3)


def with_unet(parts: TinyParts, **config) -> TinyParts:
    changed = copy.copy(parts)
    changed.unet = copy.deepcopy(parts.unet)
    changed.unet.register_to_config(**config)
    return changed


def test_models_that_cannot_be_trained_on(sd1: TinyParts, sdxl: TinyParts) -> None:
    with pytest.raises(InputError, match="takes 9 channels"):
        with_unet(sd1, in_channels=9).model()
    with pytest.raises(InputError, match="distilled"):
        with_unet(sd1, time_cond_proj_dim=256).model()
    refiner = copy.copy(sdxl)
    refiner.text_encoders, refiner.tokenizers = sdxl.text_encoders[1:], sdxl.tokenizers[1:]
    with pytest.raises(InputError, match="80 wide, the text encoders give 48"):
        refiner.model()


def test_other_predictions_are_refused(sd1: TinyParts) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    changed = copy.copy(sd1)
    changed.scheduler = scheduler("sample")
    with pytest.raises(InputError, match="predicts “sample”"):
        changed.model()
    changed.scheduler = FlowMatchEulerDiscreteScheduler()
    with pytest.raises(InputError, match="FlowMatchEulerDiscreteScheduler"):
        changed.model()


def test_schedule_without_signal_at_its_end(sd1: TinyParts) -> None:
    changed = copy.copy(sd1)
    changed.scheduler = scheduler("v_prediction", rescale_betas_zero_snr=True)
    model = changed.model()
    assert model.schedule.alphas[-1] == 0
    assert isinstance(model.schedule, NoiseSchedule)
    assert model.schedule.alphas[0] == pytest.approx(sd1.model().schedule.alphas[0].item())


@pytest.mark.parametrize(
    ("widths", "kind", "architecture"),
    [
        ((768,), "epsilon", "stable-diffusion-v1"),
        ((1024,), "v_prediction", "stable-diffusion-v2-768-v"),
        ((1024,), "epsilon", "stable-diffusion-v2-512"),
        ((768, 1280), "epsilon", "stable-diffusion-xl-v1-base"),
    ],
)
def test_description_names_family_and_checkpoint(widths, kind, architecture, sdxl) -> None:
    from transformers import CLIPTextConfig, CLIPTextModel

    encoders = []
    for width in widths:
        config = CLIPTextConfig(
            hidden_size=width, intermediate_size=8, num_hidden_layers=1, num_attention_heads=8,
            vocab_size=10,
        )  # fmt: skip
        encoders.append(CLIPTextModel(config))
    parts = TinyParts(
        unet(sum(widths), None), sdxl.vae, encoders, sdxl.tokenizers[: len(widths)], scheduler(kind)
    )
    model = parts.model(name="/somebody/private/model v1.safetensors")
    keys = {768: "clip_l", 1024: "clip_h", 1280: "clip_g"}
    assert [e.key for e in model.text_encoders] == [keys[width] for width in widths]
    description = dict(model.description)
    assert len(description.pop("textual_inversion.model")) == 64
    assert description.pop("textual_inversion.program").startswith("diffusers 0.")
    assert description == {
        "modelspec.architecture": f"{architecture}/textual-inversion",
        "modelspec.prediction_type": "v" if kind == "v_prediction" else "epsilon",
        "sd_checkpoint_name": "model v1",
    }


def test_each_prompt_may_have_a_word_of_its_own(any_family: TinyParts) -> None:
    """Also where a prompt takes several chunks; a gradient reaches the prompt's own rows alone."""
    model = any_family.model()
    long = "red " * 80 + "[name]"
    tokens = [model.tokenize(prompt, 2) for prompt in (PROMPT, long, "a toy")]
    own = [{k: r * scale for k, r in any_family.vectors(2).items()} for scale in (1.0, 0.5, 2.0)]
    apart = {k: torch.stack([one[k] for one in own]).requires_grad_() for k in own[0]}
    together = model.encode_prompts(tokens, apart).states
    for number, one in enumerate(own):
        alone = model.encode_prompts(tokens, one).states[number]
        torch.testing.assert_close(together[number], alone, atol=1e-5, rtol=0)
    together[1].square().sum().backward()
    for rows in apart.values():
        assert [bool(gradient.abs().sum() > 0) for gradient in rows.grad] == [False, True, False]
