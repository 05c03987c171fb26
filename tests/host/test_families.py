"""One generic path for every family: small models of random weights, built by the host itself."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from support.double import double_precision
from support.families import build, model, supported, text_encoder, vae, with_frames
from support.loaded import Loaded, executing, sampler_step
from support.small_families import FAMILIES, HostFamily, clip, unet

PROMPTS = ("a photo of a [name]", "[name] beside a (wooden:1.3) boat")
NUM_VECTORS = 2
STEP = 400


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embeddings")


@pytest.fixture(scope="module", params=FAMILIES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def family(name: str) -> HostFamily:
    return FAMILIES[name]


@pytest.fixture(scope="module")
def loaded(
    name: str, host_modules: ModuleType, embeddings: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Loaded]:
    import comfy.supported_models

    # `test_family_table` wants every family of the host that is tested by default.
    if not hasattr(comfy.supported_models, FAMILIES[name].config):
        pytest.skip(f"This version of ComfyUI has no {FAMILIES[name].title}.")
    yield build(name, embeddings, tmp_path_factory.mktemp("models"))
    gc.collect()


def open_model(loaded: Loaded, patcher: Any = None, **options: Any):
    from textual_inversion.nodes.host.model import HostModel

    return HostModel(patcher or loaded.model, loaded.clip, loaded.vae, resolution=64, **options)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def latents_of(family: HostFamily, batch: int, seed: int) -> torch.Tensor:
    channels = supported(family).latent_format.latent_channels
    return random(batch, channels, family.side, family.side, seed=seed)


def word_for(model: Any) -> dict[str, torch.Tensor]:
    """Vectors a little away from common words."""
    from textual_inversion.trainer.learning.initial import initial_vectors

    start = initial_vectors(model.text_encoders, "toy cat", NUM_VECTORS)
    return {k: v + 0.1 * v.std() * random(*v.shape, seed=2) for k, v in start.items()}


def objective(model: Any, family: HostFamily) -> Callable[[dict[str, torch.Tensor]], Any]:
    """A number that depends on everything the network says for two prompts."""
    tokens = [model.tokenize(prompt, NUM_VECTORS) for prompt in PROMPTS]
    noisy, weights = latents_of(family, 2, seed=3), latents_of(family, 2, seed=4)
    timesteps = torch.tensor([STEP, len(model.schedule) // 2])

    def value(vectors: dict[str, torch.Tensor]) -> torch.Tensor:
        predicted = model.predict(noisy, timesteps, model.encode_prompts(tokens, vectors))
        return (predicted * weights).mean()

    return value


def gradient(loaded: Loaded, family: HostFamily, **options: Any) -> dict[str, torch.Tensor]:
    with executing(), open_model(loaded, **options) as model:
        vectors = {k: v.requires_grad_() for k, v in word_for(model).items()}
        objective(model, family)(vectors).backward()
        return {k: v.grad for k, v in vectors.items()}


def test_the_gradient_is_that_of_finite_differences(loaded: Loaded, family: HostFamily) -> None:
    """In float64, along each encoder's own gradient; and float32 finds the same one."""
    patcher = loaded.model.clone()
    patcher.set_model_compute_dtype(torch.float64)
    exact = {}
    with executing(), open_model(loaded, patcher) as model:
        start = {k: v.double() for k, v in word_for(model).items()}
        assert {k: v.shape[1] for k, v in start.items()} == dict(family.learns)
        # The host's weights are taken over here, as they are.
        value = objective(model, family)
        with torch.no_grad():
            value(word_for(model))
        with double_precision():
            vectors = {k: v.clone().requires_grad_() for k, v in start.items()}
            result = value(vectors)
            assert result.dtype == torch.float64
            result.backward()
            for key, vector in vectors.items():
                exact[key] = vector.grad
                slope = vector.grad.norm()
                assert slope > 0, key
                step = 1e-4 * start[key].norm() * vector.grad / slope
                with torch.no_grad():
                    ahead, behind = (
                        value(start | {key: start[key] + sign * step}) for sign in (1, -1)
                    )
                rise = ((ahead - behind) / (2 * step.norm())).item()
                assert rise == pytest.approx(slope.item(), rel=1e-3), key
    for key, found in gradient(loaded, family).items():
        torch.testing.assert_close(
            found.double(), exact[key], rtol=1e-3, atol=1e-3 * exact[key].abs().max().item()
        )


def test_checkpointing_gives_the_same_gradient(loaded: Loaded, family: HostFamily) -> None:
    from textual_inversion.nodes.host.families import FAMILIES as KNOWN
    from textual_inversion.trainer.errors import InputError

    if KNOWN[family.config].overwrites:
        with pytest.raises(InputError, match="cannot be computed twice"):
            gradient(loaded, family, checkpointing=True)
        return
    plain = gradient(loaded, family)
    for key, found in gradient(loaded, family, checkpointing=True).items():
        scale = plain[key].abs().max().item()
        torch.testing.assert_close(found, plain[key], rtol=1e-4, atol=1e-4 * scale)


def test_the_objective_is_the_one_that_the_host_denoises_by(
    loaded: Loaded, family: HostFamily
) -> None:
    """From a perfect network's answer, the host's own formula finds the picture."""
    from textual_inversion.trainer.methods.diffusion import add_noise, target

    sampling = loaded.model.get_model_object("model_sampling")
    with executing(), open_model(loaded) as model:
        assert model.parameterization == family.parameterization
        schedule = model.schedule
        x0, noise = latents_of(family, 1, seed=5), latents_of(family, 1, seed=6)
        for step in (0, len(schedule) // 3, len(schedule) * 9 // 10):
            alpha, sigma = schedule.at(torch.tensor([step]), x0)
            wanted = target(model.parameterization, x0, noise, alpha, sigma)
            host_sigma = sampling.sigmas[step].clone()
            host_noisy = sampling.noise_scaling(host_sigma, noise.clone(), x0)
            adds = model.parameterization != "flow" or family.adds
            scale = alpha if adds else 1
            torch.testing.assert_close(
                add_noise(x0, noise, alpha, sigma), host_noisy * scale, atol=1e-5, rtol=1e-5
            )
            found = sampling.calculate_denoised(host_sigma, wanted, host_noisy)
            torch.testing.assert_close(found, x0, atol=2e-4 * (1 + host_sigma.item()), rtol=1e-4)


def test_what_is_learned_is_what_prompts_say(
    loaded: Loaded, family: HostFamily, name: str, embeddings: Path
) -> None:
    """The saved file gives the training conditioning, and the host samples as training saw it."""
    import node_helpers
    from textual_inversion.nodes.apply import ApplyEmbedding
    from textual_inversion.trainer.embeddings.embedding import Embedding
    from textual_inversion.trainer.files.reading import read_embedding
    from textual_inversion.trainer.files.writing import write_embedding

    sampling = loaded.model.get_model_object("model_sampling")
    with executing(), open_model(loaded) as model:
        vectors = word_for(model)
        tokens = [model.tokenize(prompt, NUM_VECTORS) for prompt in PROMPTS]
        with torch.no_grad():
            trained = model.encode_prompts(tokens, vectors)
            noise, x0 = latents_of(family, 1, seed=7), latents_of(family, 1, seed=8)
            alpha, sigma = model.schedule.at(torch.tensor([STEP]), x0)
            predicted = model.predict(alpha * x0 + sigma * noise, torch.tensor([STEP]), trained[:1])
    path = embeddings / f"of-{name}.safetensors"
    write_embedding(Embedding(path.stem, vectors), path, overwrite=True)
    word = read_embedding(path)
    for prompt, training in zip(PROMPTS, trained, strict=True):
        with torch.inference_mode():
            ((applied, extra),) = ApplyEmbedding.execute(loaded.clip, prompt, 1.0, word).args[0]
            text = prompt.replace("[name]", f"embedding:{path.stem}")
            stock, stock_extra = stock_conditioning(loaded.clip, text, family)
        torch.testing.assert_close(applied, training["cond"], atol=1e-5, rtol=1e-5)
        for key in extra.keys() & training.keys():
            if isinstance(extra[key], torch.Tensor):
                torch.testing.assert_close(extra[key], training[key], atol=1e-5, rtol=1e-5)
        found = applied.shape == stock.shape and torch.equal(applied, stock)
        pooled = extra["pooled_output"], stock_extra["pooled_output"]
        if found and pooled[0] is not None:
            found = torch.equal(*pooled)
        expected = family.stock and (family.first or not prompt.startswith("[name]"))
        # An old host reads the template after a word as part of its name.
        assert found == expected or (is_old() and expected and prompt.endswith("[name]"))

    with torch.inference_mode():
        prompt = ApplyEmbedding.execute(loaded.clip, PROMPTS[0], 1.0, word).args[0]
        if family.network.get("guidance_embed"):
            prompt = node_helpers.conditioning_set_values(prompt, {"guidance": 1.0})
        framed = with_frames(family, noise), with_frames(family, x0)
        host_noisy, denoised = sampler_step(loaded.model, prompt, *framed, sampling.sigmas[STEP])
        ours = sampling.calculate_denoised(
            sampling.sigmas[STEP].view(1), with_frames(family, predicted), host_noisy
        )
    torch.testing.assert_close(ours, denoised, atol=2e-4 * denoised.abs().max().item(), rtol=1e-3)


def stock_conditioning(clip: Any, text: str, family: HostFamily) -> tuple[torch.Tensor, Any]:
    """What the host's own node makes of a text; nothing where vectors make it stop."""
    import nodes as host_nodes

    try:
        return host_nodes.CLIPTextEncode().encode(clip, text)[0][0]
    except (TypeError, RuntimeError):
        if family.stock and family.first:
            raise
        return torch.zeros(0), {"pooled_output": None}


def is_old() -> bool:
    """Whether the host is older than 0.27.0, whose tokenizer minds what stands around a word."""
    from textual_inversion.nodes.host.compatibility import host_version

    return tuple(int(part) for part in host_version().split(".")[:2]) < (0, 27)


def test_the_word_stands_where_the_prompt_stands(loaded: Loaded) -> None:
    """Inside a chat template, and next to what the prompt says, at either end of it."""
    from textual_inversion.nodes.host.text_encoders import text_encoders

    with executing(), open_model(loaded) as model:
        for encoder in text_encoders(loaded.clip):
            for prompt in ("[name]", "[name] boat", "red [name]", "red [name] boat"):
                tokens = encoder.ids_of(model.tokenize(prompt, NUM_VECTORS))
                places = [i for i, token in enumerate(tokens) if isinstance(token, tuple)]
                assert [tokens[i] for i in places] == [(encoder.key, i) for i in range(NUM_VECTORS)]
                assert places == list(range(places[0], places[0] + NUM_VECTORS))
                texts = (prompt.replace("[name]", word) for word in ("cat", "dog"))
                others = [encoder.ids_of(model.tokenize(text, 0)) for text in texts]
                before = next(i for i, (a, b) in enumerate(zip(*others, strict=False)) if a != b)
                # The space before a word may be a token of its own; an old host drops the line
                # break.
                assert places[0] in (before, before + 1, before - is_old())
                start = max(0, before - 1)
                assert tokens[:start] == others[0][:start]


def test_what_a_template_adds_is_no_part_of_the_prompt(loaded: Loaded) -> None:
    from textual_inversion.nodes.host.text_encoders import text_encoders
    from textual_inversion.trainer.errors import InputError

    encoder = text_encoders(loaded.clip)[0]
    words = ("a red", "by the sea")
    with executing(), open_model(loaded) as model:
        tokens = model.tokenize(f"{words[0]} [name] {words[1]}", NUM_VECTORS)
        try:
            (states,) = model.text_states([tokens], word_for(model))
        except InputError as error:
            pytest.skip(str(error))
    assert int(states.is_word.sum()) == NUM_VECTORS
    expected = sum(len(encoder.token_ids(text)) for text in words)
    # Spaces beside the word may be tokens of their own.
    assert abs(int(states.is_text.sum()) - expected) <= 3


def test_a_run_learns_and_leaves_everything_as_it_was(loaded: Loaded, family: HostFamily) -> None:
    """Pictures through the VAE, both encoders, previews; then the same objects and weights."""
    from textual_inversion.nodes.host.families import family_of
    from textual_inversion.trainer.data.pictures import Picture
    from textual_inversion.trainer.learning.initial import initial_vectors
    from textual_inversion.trainer.learning.loop import train
    from textual_inversion.trainer.settings import Settings

    settings = Settings(
        name="learned", init_words="toy cat", num_vectors=NUM_VECTORS, steps=2, batch_size=2,
        resolution=8 * family.side, evaluations=0,
    )  # fmt: skip
    pictures = [Picture(torch.rand(64, 64, 3), mask=torch.ones(64, 64)) for _ in range(2)]
    loaded.have_host_load()
    before = loaded.objects(), loaded.weights_hash()
    with executing(), open_model(loaded) as model:
        assert model.guidance == family_of(loaded.model).for_previews()
        start = initial_vectors(model.text_encoders, "toy cat", NUM_VECTORS)
        *_, last = train(model, pictures, settings)
        drawn = model.decode_latents(latents_of(family, 1, seed=9))
    assert drawn.ndim == 4
    assert drawn.shape[-1] == 3
    for key, width in family.learns.items():
        assert last.kept.vectors[key].shape == (NUM_VECTORS, width)
        assert not torch.equal(last.kept.vectors[key], start[key]), key
    assert (loaded.objects(), loaded.weights_hash()) == before


def test_the_refiner_is_refused(host_modules: ModuleType, embeddings: Path, tmp_path: Path) -> None:
    from textual_inversion.trainer.errors import InputError

    refiner = replace(
        FAMILIES["sdxl"], config="SDXLRefiner", encoders={"clip_g": clip(96)},
        network=unet(96, adm_in_channels=2560, num_classes="sequential"),
    )  # fmt: skip
    with torch.inference_mode():
        parts = (model(refiner, tmp_path), text_encoder(refiner, embeddings), vae(refiner))
    with pytest.raises(InputError, match="SDXL refiner"):
        open_model(Loaded(*parts, tmp_path))


def test_a_network_of_long_steps_is_refused(
    host_modules: ModuleType, embeddings: Path, tmp_path: Path
) -> None:
    """HunyuanImage 2.1 distilled: it is told where the next step ends."""
    from textual_inversion.trainer.errors import InputError

    full = FAMILIES["hunyuan-image"]
    distilled = replace(full, network=full.network | {"meanflow": True})
    with torch.inference_mode():
        parts = (model(distilled, tmp_path), text_encoder(distilled, embeddings), vae(distilled))
    with pytest.raises(InputError, match="distilled to take few long steps"):
        open_model(Loaded(*parts, tmp_path))


def test_a_vae_of_another_family_is_refused(
    host_modules: ModuleType, embeddings: Path, tmp_path: Path
) -> None:
    from textual_inversion.trainer.errors import InputError

    loaded = build("sd1", embeddings, tmp_path)
    with torch.inference_mode():
        wrong = replace(loaded, vae=vae(FAMILIES["flux"]))
    with (
        executing(),
        open_model(wrong) as opened,
        pytest.raises(InputError, match="16 channels, but the model takes 4"),
    ):
        opened.encode_pictures(torch.rand(1, 64, 64, 3))


def test_a_quoted_word_has_no_place_among_letters(
    host_modules: ModuleType, embeddings: Path, tmp_path: Path
) -> None:
    """HunyuanImage reads quoted text by an encoder of bytes too, which takes no vectors."""
    loaded = build("hunyuan-image", embeddings, tmp_path)
    with executing(), open_model(loaded) as opened:
        tokens = opened.tokenize('a sign that says "the [name] cat"', NUM_VECTORS)
        (encoded,) = opened.encode_prompts([tokens], word_for(opened))
        assert all(isinstance(token[0], int) for chunk in tokens["byt5"] for token in chunk)
    assert encoded["conditioning_byt5small"].shape[-1] == 1472


def test_only_the_named_encoders_learn(
    host_modules: ModuleType, embeddings: Path, tmp_path: Path
) -> None:
    """The others keep the rows of the first words; a word of another family fills in too."""
    from textual_inversion.trainer.data.pictures import Picture
    from textual_inversion.trainer.embeddings.embedding import Embedding
    from textual_inversion.trainer.errors import InputError
    from textual_inversion.trainer.learning.initial import initial_vectors
    from textual_inversion.trainer.learning.loop import train
    from textual_inversion.trainer.settings import Settings

    loaded = build("sdxl", embeddings, tmp_path)
    pictures = [Picture(torch.rand(64, 64, 3))]
    common = {"name": "one", "init_words": "toy", "steps": 1, "resolution": 64, "evaluations": 0}
    with executing(), open_model(loaded) as opened:
        first = initial_vectors(opened.text_encoders, "toy", 1)
        *_, last = train(opened, pictures, Settings(**common, encoders="clip_g"))
        assert torch.equal(last.kept.vectors["clip_l"], first["clip_l"])
        assert not torch.equal(last.kept.vectors["clip_g"], first["clip_g"])

        start = Embedding("sd1-word", {"clip_l": 2 * first["clip_l"]})
        *_, last = train(opened, pictures, Settings(**common), start)
        assert not torch.equal(last.kept.vectors["clip_g"], first["clip_g"])
        with pytest.raises(InputError, match="no text encoder “t5xxl”"):
            next(iter(train(opened, pictures, Settings(**common, encoders="t5xxl"))))


def test_a_word_of_text_is_what_the_encoder_reads(loaded: Loaded) -> None:
    """Gemma multiplies the rows of its vocabulary; a word in their place has to be as long."""
    from textual_inversion.nodes.from_text import EmbeddingFromText
    from textual_inversion.nodes.host.text_encoders import text_encoders
    from textual_inversion.trainer.embeddings.inspection import inspect

    with torch.inference_mode():
        word = EmbeddingFromText.execute(loaded.clip, "toy cat", "word").result[0]
        encoders = text_encoders(loaded.clip)
        for encoder in encoders:
            ids = torch.tensor([encoder.token_ids("toy cat")])
            look_up = encoder.model.transformer.get_input_embeddings()
            read = look_up(ids, out_dtype=torch.float32)[0].float()
            torch.testing.assert_close(word.vectors[encoder.key], read, rtol=1e-2, atol=1e-4)
        for report in inspect(word, [encoder.described() for encoder in encoders]).encoders:
            assert 0.2 < report.rows[0].length / report.usual.mean < 5
