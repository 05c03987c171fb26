from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

from textual_inversion.demo.captions import words
from textual_inversion.demo.concepts import CONCEPTS, concept_pictures
from textual_inversion.demo.layout import TEXT_PREFIX, UNET_PREFIX
from textual_inversion.demo.model import (
    SCHEDULE_CONFIG,
    TOKENIZER_FOLDER,
    WEIGHTS,
    TinyModel,
    host_text_config,
    host_unet_config,
    host_vae_weights,
    load_weights,
    original_weights,
)
from textual_inversion.demo.sampling import encode_prompts, sample, sample_latents
from textual_inversion.demo.vocabulary import write_vocabulary
from textual_inversion.trainer.embeddings.encoders import family_of


def without_prefix(weights, prefix):
    return {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}


PROMPTS = ["a photo of a small red star on a white background", "a ring, on the left"]


def test_all_weights_take_less_than_ten_megabytes():
    assert sum(file.stat().st_size for file in WEIGHTS.rglob("*") if file.is_file()) < 10_000_000


def test_weights_are_half_precision_in_the_original_layout():
    weights = load_weights()
    assert all(value.dtype == torch.float16 for value in weights.values())
    assert {name.split(".")[0] for name in weights} == {
        "model",
        "cond_stage_model",
        "first_stage_model",
    }


def test_vocabulary_is_the_one_that_the_words_give(tmp_path):
    write_vocabulary(tmp_path)
    for name in ("vocab.json", "merges.txt"):
        assert (tmp_path / name).read_bytes() == (TOKENIZER_FOLDER / name).read_bytes()


def test_its_words_are_known_as_words_for_it(tiny: TinyModel):
    widths = {"clip_l": tiny.text_encoder.config.hidden_size}
    assert family_of(widths) == "the tiny demo model"


def test_known_words_are_one_token_and_others_fall_apart(tiny: TinyModel):
    tokenizer = tiny.tokenizer
    for word in words():
        assert len(tokenizer(word).input_ids) == 3, word
    ids = tokenizer("a photo of a sks café").input_ids
    assert tokenizer.eos_token_id not in ids[1:-1]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a photo of a sks café"
    assert tokenizer.pad_token_id == tokenizer.eos_token_id


def test_layout_round_trip(tiny: TinyModel):
    again = original_weights(tiny.unet, tiny.text_encoder, tiny.vae)
    weights = load_weights()
    assert set(again) == set(weights)
    for name, value in weights.items():
        assert torch.equal(value.float(), again[name]), name


def test_names_are_those_that_diffusers_converts(tiny: TinyModel):
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    own = tiny.unet.state_dict()
    converted = convert_ldm_unet_checkpoint(dict(load_weights()), tiny.unet.config)
    assert set(converted) == set(own)
    assert all(torch.equal(converted[name].float(), own[name]) for name in own)


def test_autoencoder_gives_pictures_back_from_latents_of_unit_spread(tiny: TinyModel):
    drawn = [p for name in CONCEPTS for p in concept_pictures(name, 4)]
    pictures = torch.from_numpy(np.stack(drawn)).movedim(-1, 1)
    latents = tiny.vae.encode(pictures * 2.0 - 1.0).latents
    back = tiny.vae.decode(latents).sample * 0.5 + 0.5
    assert latents.shape[1:] == (4, 16, 16)
    assert (back - pictures).abs().mean() < 0.03  # measured: 0.022
    assert latents.std() == pytest.approx(1.0, abs=0.3)


def test_last_timestep_is_pure_noise(tiny: TinyModel):
    assert tiny.scheduler.alphas_cumprod[-1] < 1e-6
    assert SCHEDULE_CONFIG["prediction_type"] == "v_prediction"


def test_pictures_of_a_seed_do_not_hang_on_the_batch(tiny: TinyModel):
    both = sample_latents(tiny, encode_prompts(tiny, PROMPTS), seed=3, steps=4)
    one = sample_latents(tiny, encode_prompts(tiny, PROMPTS[:1]), seed=3, steps=4)
    assert torch.allclose(both[:1], one, atol=1e-3)
    pictures = sample(tiny, PROMPTS, seed=3, steps=4)
    assert pictures.shape == (2, 128, 128, 3)
    assert float(pictures.min()) >= 0.0
    assert float(pictures.max()) <= 1.0


@pytest.mark.host
class TestHost:
    """The same file in ComfyUI's own classes."""

    def test_unet_predicts_the_same(self, host_modules, tiny: TinyModel):
        import comfy.ops
        from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

        unet = UNetModel(
            **host_unet_config(),
            dtype=torch.float32,
            operations=comfy.ops.disable_weight_init,
        )
        own = {
            n.removeprefix(UNET_PREFIX): w for n, w in load_weights().items() if UNET_PREFIX in n
        }
        unet.load_state_dict(own, strict=True)
        noisy, at = torch.randn(3, 4, 16, 16), torch.tensor([10, 500, 999])
        states = encode_prompts(tiny, ["", *PROMPTS])
        with torch.no_grad():
            mine = tiny.unet(noisy, at, states).sample
            theirs = unet(noisy, at, context=states)
        assert torch.allclose(mine, theirs, atol=1e-4)

    def test_text_encoder_gives_the_same_states(self, host_modules, tiny: TinyModel):
        import comfy.ops
        from comfy.clip_model import CLIPTextModel

        config = host_text_config(tiny.tokenizer)
        encoder = CLIPTextModel(config, torch.float32, "cpu", comfy.ops.disable_weight_init)
        # The host makes every CLIP table as long as the original's.
        words_table = torch.nn.Embedding(config["vocab_size"], config["hidden_size"])
        encoder.text_model.embeddings.token_embedding = words_table
        own = {
            n.removeprefix(TEXT_PREFIX): w for n, w in load_weights().items() if TEXT_PREFIX in n
        }
        missing, unexpected = encoder.load_state_dict(own, strict=False)
        assert missing == ["text_projection.weight"]  # not used by Stable Diffusion
        assert not unexpected
        tokens = tiny.tokenizer(
            PROMPTS, padding="max_length", max_length=77, return_tensors="pt"
        ).input_ids
        with torch.no_grad():
            theirs = encoder(None, embeds=words_table(tokens), num_tokens=[12, 8])[0]
        assert torch.allclose(encode_prompts(tiny, PROMPTS), theirs, atol=1e-4)

    def test_autoencoder_is_loaded_by_the_stock_vae(self, host_modules, tiny: TinyModel):
        import comfy.sd

        vae = comfy.sd.VAE(sd=host_vae_weights(load_weights()), dtype=torch.float32)
        vae.throw_exception_if_invalid()
        pictures = torch.from_numpy(np.stack(concept_pictures("ember-star", 3)))
        latents = tiny.vae.encode(pictures.movedim(-1, 1) * 2.0 - 1.0).latents
        assert torch.allclose(vae.encode(pictures) * 0.18215, latents, atol=1e-4)
        mine = tiny.vae.decode(latents).sample.clamp(-1.0, 1.0).movedim(1, -1) * 0.5 + 0.5
        assert torch.allclose(vae.decode(latents / 0.18215), mine, atol=1e-4)

    def test_noise_schedule_is_the_hosts_zero_terminal_one(self, host_modules, tiny: TinyModel):
        import comfy.model_sampling

        host = comfy.model_sampling.ModelSamplingDiscrete(zsnr=True)
        alphas = 1.0 / (host.sigmas**2 + 1.0)
        assert torch.allclose(alphas, tiny.scheduler.alphas_cumprod, atol=1e-5)
