"""The seam over diffusers, against diffusers' own pipelines."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from support.tiny_models import TinyParts, scheduler, tiny, unet
from textual_inversion.trainer.data import Picture, encode
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.loop import batch_loss, train
from textual_inversion.trainer.model import NoiseSchedule
from textual_inversion.trainer.previews import preview_grid
from textual_inversion.trainer.settings import Settings

PROMPT = "a red photo of [name], a [name] toy"


def vectors_for(parts: TinyParts, count: int = 2, seed: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        encoder.key: torch.randn(count, encoder.width, generator=generator)
        for encoder in parts.model().text_encoders
    }


def pictures(count: int = 2) -> list[Picture]:
    generator = torch.Generator().manual_seed(4)
    return [Picture(torch.rand(64, 64, 3, generator=generator)) for _ in range(count)]


def hashes(parts: TinyParts) -> list[int]:
    return [hash(p.detach().numpy().tobytes()) for m in parts.modules() for p in m.parameters()]


@pytest.mark.parametrize("family", ["sd1", "sd2-v", "sdxl"])
@pytest.mark.parametrize("count", [1, 3])
def test_conditioning_equals_that_of_diffusers(family: str, count: int, tmp_path: Path) -> None:
    parts = tiny(family, tmp_path)
    vectors = vectors_for(parts, count)
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
    expected = model.encode_prompts(prompts, vectors_for(sdxl)).pooled
    usual, second.eos_token_id = (
        second.eos_token_id,
        2,
    )  # the largest id is the end, as in old files
    try:
        pooled = model.encode_prompts(prompts, vectors_for(sdxl)).pooled
    finally:
        second.eos_token_id = usual
    assert torch.equal(pooled, expected)


def test_batch_gives_what_its_prompts_give_alone(any_family: TinyParts) -> None:
    model, vectors = any_family.model(), vectors_for(any_family)
    prompts = [model.tokenize(text, 2) for text in (PROMPT, "cat", "[name]")]
    together = model.encode_prompts(prompts, vectors)
    for i, prompt in enumerate(prompts):
        alone = model.encode_prompts([prompt], vectors)
        torch.testing.assert_close(together.states[i : i + 1], alone.states)
        if alone.pooled is not None:
            torch.testing.assert_close(together.pooled[i : i + 1], alone.pooled)


def test_long_prompts_are_encoded_in_chunks(sdxl: TinyParts) -> None:
    model, vectors = sdxl.model(), vectors_for(sdxl)
    prompts = [model.tokenize(text, 2) for text in ("cat " * 70 + PROMPT, "red cat " * 100, "cat")]
    states = model.encode_prompts(prompts, vectors).states
    assert states.shape == (3, 6 * 77, 80)  # 2, 3 and 1 chunks
    assert torch.equal(states[0, :154], states[0, 154:308])
    first = model.encode_prompts([model.tokenize("cat " * 70 + "a red", 2)], vectors)
    assert not torch.equal(states[0, 77:154], states[0, :77])
    assert first.states.shape[1] == 77


def test_repeating_the_conditioning_changes_nothing(sd1: TinyParts) -> None:
    model, vectors = sd1.model(), vectors_for(sd1)
    short, long = model.tokenize(PROMPT, 2), model.tokenize("cat " * 80, 2)
    noisy, t = torch.randn(2, 4, 8, 8), torch.tensor([10, 500])
    with torch.no_grad():
        together = model.predict(noisy, t, model.encode_prompts([short, long], vectors))
        alone = model.predict(noisy[:1], t[:1], model.encode_prompts([short], vectors))
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-5)


def test_encoder_without_vectors_skips_the_word(sdxl: TinyParts) -> None:
    model = sdxl.model()
    first = {"clip_l": vectors_for(sdxl)["clip_l"]}
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


def test_step_loss_is_that_of_diffusers_training(any_family: TinyParts) -> None:
    from diffusers import DDPMScheduler

    model, vectors = any_family.model(), vectors_for(any_family)
    chosen = Settings(resolution=64, batch_size=2)
    training_set = encode(model, pictures(), chosen)
    tokenized = {p: model.tokenize(p, 2) for ps in training_set.prompts for p in ps}
    seen = {}
    original = model.predict

    def watch(noisy, timesteps, conditioning):
        seen.update(noisy=noisy, timesteps=timesteps, conditioning=conditioning)
        return original(noisy, timesteps, conditioning)

    model.predict = watch
    ours = batch_loss(model, training_set, tokenized, vectors, chosen, 0)

    oracle = DDPMScheduler.from_config(any_family.scheduler.config)
    timesteps, conditioning = seen["timesteps"], seen["conditioning"]
    # The pictures come in another order every turn; the noise tells them apart.
    alphas = oracle.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    losses = []
    for latents in (training_set.latents, training_set.latents.flip(0)):
        noise = (seen["noisy"] - alphas.sqrt() * latents) / (1 - alphas).sqrt()
        torch.testing.assert_close(oracle.add_noise(latents, noise, timesteps), seen["noisy"])
        added = None
        if conditioning.pooled is not None:
            time_ids = torch.tensor([[64.0, 64, 0, 0, 64, 64]]).repeat(2, 1)
            added = {"text_embeds": conditioning.pooled, "time_ids": time_ids}
        predicted = any_family.unet(
            seen["noisy"], timesteps, conditioning.states, added_cond_kwargs=added
        ).sample
        is_v = oracle.config.prediction_type == "v_prediction"
        target = oracle.get_velocity(latents, noise, timesteps) if is_v else noise
        losses.append(torch.nn.functional.mse_loss(predicted, target))
    assert min(abs(loss - ours) for loss in losses) < 1e-5


def test_gradient_is_that_of_finite_differences(any_family: TinyParts) -> None:
    parts = copy.deepcopy(any_family)
    for module in parts.modules():
        module.double()
    model = parts.model()
    vectors = {k: v.double().requires_grad_() for k, v in vectors_for(parts).items()}
    prompts = [model.tokenize(PROMPT, 2)]
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    weights = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)).double()

    def value(rows: dict[str, torch.Tensor]) -> torch.Tensor:
        conditioning = model.encode_prompts(prompts, rows)
        return (model.predict(noisy, torch.tensor([300]), conditioning).double() * weights).sum()

    value(vectors).backward()
    for key, rows in vectors.items():
        assert rows.grad.norm() > 0
        # Along the gradient: there float32 at the end of `predict` matters least.
        direction, step = rows.grad / rows.grad.norm(), 1e-3
        with torch.no_grad():
            ahead = value({**vectors, key: rows + step * direction})
            behind = value({**vectors, key: rows - step * direction})
        slope = (ahead - behind) / (2 * step)
        assert slope.item() == pytest.approx(rows.grad.norm().item(), rel=2e-3)


def test_checkpointing_gives_the_same_gradient(any_family: TinyParts) -> None:
    again: list[str] = []
    gradients = []
    watched = [any_family.text_encoders[0], any_family.unet.up_blocks[0].resnets[0]]
    hooks = [m.register_forward_pre_hook(lambda m, _: again.append(type(m))) for m in watched]
    for checkpointing in (False, True):
        vectors = {k: v.requires_grad_() for k, v in vectors_for(any_family).items()}
        model = any_family.model(checkpointing=checkpointing)
        conditioning = model.encode_prompts([model.tokenize(PROMPT, 2)], vectors)
        noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        loss = model.predict(noisy, torch.tensor([300]), conditioning).square().mean()
        again.clear()
        loss.backward()
        # Going backward, the encoder and the inside of every block run once more.
        assert len(again) == (2 if checkpointing else 0)
        gradients.append({key: rows.grad for key, rows in vectors.items()})
    any_family.model()
    for hook in hooks:
        hook.remove()
    for key, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], gradient)


def test_training_changes_no_weight_and_leaves_no_gradient(any_family: TinyParts) -> None:
    before = hashes(any_family)
    chosen = Settings(init_words="toy cat", num_vectors=2, resolution=64, steps=3, batch_size=2)
    runs = [list(train(any_family.model(), pictures(), chosen)) for _ in range(2)]
    assert hashes(any_family) == before
    for module in any_family.modules():
        assert not module.training
        assert all(p.grad is None and not p.requires_grad for p in module.parameters())
    assert runs[0][-1].last.fingerprint == runs[1][-1].last.fingerprint
    start = runs[0][0].last.vectors
    for key, rows in runs[0][-1].last.vectors.items():
        assert rows.shape[0] == 2
        assert not torch.equal(rows, start[key])
    # No hook is left behind on the vocabulary.
    for encoder in any_family.text_encoders:
        assert not encoder.get_input_embeddings()._forward_hooks


def test_learning_lowers_the_loss(sd1: TinyParts) -> None:
    model = sd1.model()
    chosen = Settings(init_words="cat", num_vectors=4, resolution=64, steps=40, batch_size=4,
                      learning_rate="0.1")  # fmt: skip
    training_set = encode(model, pictures(1), chosen)
    tokenized = {p: model.tokenize(p, 4) for p in training_set.prompts[0]}

    def fixed_loss(rows: dict[str, torch.Tensor]) -> float:
        with torch.no_grad():
            return sum(
                batch_loss(model, training_set, tokenized, rows, chosen, 10_000 + i).item()
                for i in range(4)
            )

    run = list(train(model, pictures(1), chosen))
    assert fixed_loss(run[-1].last.vectors) < fixed_loss(run[0].last.vectors) - 1e-3


def test_half_precision_unet(sd1: TinyParts) -> None:
    parts = copy.deepcopy(sd1)
    parts.unet.to(torch.bfloat16)
    model = parts.model()
    assert model.compute_dtype == torch.bfloat16
    chosen = Settings(init_words="cat", resolution=64, steps=2)
    *_, progress = train(model, pictures(1), chosen)
    assert progress.last.vectors["clip_l"].dtype == torch.float32


def test_preview_grid(sd1: TinyParts) -> None:
    model = sd1.model()
    chosen = Settings(init_words="cat", resolution=64, steps=1, previews=3)
    word = next(train(model, pictures(), chosen)).last
    grid = preview_grid(model, pictures(), chosen, word)
    assert grid.shape == (2 * 72, 3 * 72, 3)
    assert grid.dtype == torch.float32
    assert 0 <= grid.min() <= grid.max() <= 1
    torch.testing.assert_close(grid[:64, :64], pictures()[0].pixels)
    assert grid[:72, 144:].min() == 1  # there is no third picture
    assert grid[72 : 72 + 64, 144:208].std() > 0
    without = preview_grid(model, pictures(), Settings(resolution=64, previews=0), word)
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
    assert model.description == {
        "modelspec.architecture": f"{architecture}/textual-inversion",
        "sd_checkpoint_name": "model v1",
    }
