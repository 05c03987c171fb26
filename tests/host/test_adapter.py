"""The adapter in the host's own process state, where tensors and objects can be compared."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from support.checkpoints import SD1, SD2_V, SDXL, Family
from support.loaded import Loaded, executing, load

PROMPTS = {
    "plain": "a photo of a [name] on a beach",
    "twice, weighted, with commas": "[name], (a toy:1.3) beside ([name]:0.8), [name]",
    "long": "a [name] " + "and many more words " * 40 + "[name] at the end",
}

FAMILIES = [
    pytest.param(SD1, id="sd1"),
    pytest.param(SD2_V, id="sd2-v", marks=pytest.mark.slow),
    pytest.param(SDXL, id="sdxl", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embeddings")


@pytest.fixture(scope="module")
def sd1(host_modules: ModuleType, embeddings: Path) -> Loaded:
    return load(SD1, embeddings)


def open_model(loaded: Loaded, clip=None, **options):
    from textual_inversion.nodes.host.model import HostModel

    return HostModel(loaded.model, clip or loaded.clip, loaded.vae, **options)


def steps(model, count: int = 2, **changes):
    """A short run on random pictures; returns the last progress."""
    from textual_inversion.trainer.data.pictures import Picture
    from textual_inversion.trainer.learning.loop import train
    from textual_inversion.trainer.settings import Settings

    settings = Settings(
        **{"name": "wordy", "init_words": "toy cat", "num_vectors": 3, "steps": count,
           "resolution": 64, "evaluations": 0} | changes
    )  # fmt: skip
    generator = torch.Generator().manual_seed(5)
    pictures = [Picture(torch.rand(70, 64, 3, generator=generator)) for _ in range(2)]
    *_, last = train(model, pictures, settings)
    return last


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(request: pytest.FixtureRequest, embeddings: Path, host_modules: ModuleType) -> Loaded:
    family: Family = request.param
    return request.getfixturevalue("sd1") if family is SD1 else load(family, embeddings)


@pytest.mark.parametrize("clip_skip", [None, -2])
def test_stock_encoder_gives_the_training_conditioning(
    loaded: Loaded, embeddings: Path, clip_skip: int | None
) -> None:
    """Prompts in training, the saved file in CLIPTextEncode, and Apply Embedding all agree."""
    from textual_inversion.nodes.apply import ApplyEmbedding
    from textual_inversion.trainer.embeddings.embedding import Embedding
    from textual_inversion.trainer.files.writing import write_embedding
    from textual_inversion.trainer.learning.initial import initial_vectors

    import nodes as host_nodes

    clip = loaded.clip.clone()
    if clip_skip:
        clip.clip_layer(clip_skip)
    with executing(), open_model(loaded, clip) as model:
        vectors = initial_vectors(model.text_encoders, "toy cat", 3)
        generator = torch.Generator().manual_seed(2)
        vectors = {
            k: v + 0.05 * torch.randn(v.shape, generator=generator) for k, v in vectors.items()
        }
        tokens = [model.tokenize(prompt, 3) for prompt in PROMPTS.values()]
        trained = model.encode_prompts(tokens, {k: v.requires_grad_() for k, v in vectors.items()})
        # The same rows as a copy for each prompt, as where gradients of pictures are told apart.
        copies = {k: v.detach().repeat(len(tokens), 1, 1) for k, v in vectors.items()}
        apart = model.encode_prompts(tokens, copies)
    for one, other in zip(trained, apart, strict=True):
        torch.testing.assert_close(one["cond"].detach(), other["cond"], atol=1e-5, rtol=0)
    word = Embedding(f"agree-{loaded.checkpoint.stem}", vectors)
    write_embedding(word, embeddings / f"{word.name}.safetensors", overwrite=True)
    for prompt, training in zip(PROMPTS.values(), trained, strict=True):
        with torch.inference_mode():
            text = prompt.replace("[name]", f" embedding:{word.name} ")
            ((stock, extra),) = host_nodes.CLIPTextEncode().encode(clip, text)[0]
            ((ours, ours_extra),) = ApplyEmbedding.execute(clip, prompt, 1.0, word).args[0]
        assert training["cond"].requires_grad
        torch.testing.assert_close(training["cond"].detach(), stock, atol=1e-5, rtol=0)
        torch.testing.assert_close(
            training["pooled_output"].detach(), extra["pooled_output"], atol=1e-5, rtol=0
        )
        assert torch.equal(ours, stock)
        assert torch.equal(ours_extra["pooled_output"], extra["pooled_output"])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_everything_is_put_back(sd1: Loaded, checkpointing: bool) -> None:
    """Same weights, same objects, no attribute left behind: also after an error inside a step."""
    import comfy.model_management
    import comfy.sd1_clip

    sd1.have_host_load()
    globals_before = (comfy.sd1_clip.load_embed, comfy.model_management.in_training)
    weights, objects = sd1.weights_hash(), sd1.objects()
    with executing(), open_model(sd1, checkpointing=checkpointing) as model:
        steps(model, evaluations=1)
    assert sd1.objects() == objects

    with (
        executing(),
        pytest.raises(KeyError, match="clip_l"),
        open_model(sd1, checkpointing=checkpointing) as model,
    ):
        # A word without the vectors that its places in the prompt ask for.
        model.encode_prompts([model.tokenize("a [name]", 1)], {})
    assert sd1.objects() == objects
    assert sd1.weights_hash() == weights
    assert (comfy.sd1_clip.load_embed, comfy.model_management.in_training) == globals_before


def test_a_network_may_name_where_a_result_goes(host_modules: ModuleType) -> None:
    """As the host's language models do since 0.33: over what a block was given."""
    from textual_inversion.nodes.host.gradients import OutOfPlace

    def block(x: torch.Tensor, **target: torch.Tensor) -> torch.Tensor:
        return torch.add(x + x.sin(), (x + x.sin()).cos(), **target)

    gradients = []
    for over in (True, False):
        start = torch.linspace(-1, 1, 8).requires_grad_()
        x = (2 * start).as_subclass(OutOfPlace)
        block(block(x, **({"out": x} if over else {}))).sum().backward()
        assert torch.equal(x.as_subclass(torch.Tensor), 2 * start)
        gradients.append(start.grad)
    assert torch.equal(*gradients)
    # Nobody reads the result of such a call, so that it cannot go elsewhere.
    with pytest.raises(RuntimeError, match="out="):
        torch.exp(x, out=x)


def test_what_another_pack_has_hung_on_a_block_is_there_again(sd1: Loaded) -> None:
    from textual_inversion.nodes.host.gradients import raw_output
    from textual_inversion.trainer.just_in_time import blocks_of, checkpointed

    sd1.have_host_load()
    base = sd1.model.model
    block = base.diffusion_model.input_blocks[1][0]
    original, calls = block.forward, []

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        calls.append(len(args))
        return original(*args, **kwargs)

    def calculate_denoised(*args: Any) -> Any:
        return type(base.model_sampling).calculate_denoised(base.model_sampling, *args)

    block.forward = wrapped
    base.model_sampling.calculate_denoised = calculate_denoised
    try:
        with executing(), open_model(sd1, checkpointing=True) as model:
            steps(model)
        assert calls
        assert block.forward is wrapped
        assert base.model_sampling.calculate_denoised is calculate_denoised
        blocks = list(blocks_of(base.diffusion_model))
        with pytest.raises(KeyError), checkpointed(blocks), raw_output(base):
            raise KeyError
        assert block.forward is wrapped
        assert base.model_sampling.calculate_denoised is calculate_denoised
    finally:
        del block.forward, base.model_sampling.calculate_denoised


def test_checkpointing_changes_nothing_but_memory(sd1: Loaded) -> None:
    words = []
    for checkpointing in (False, True):
        with executing(), open_model(sd1, checkpointing=checkpointing) as model:
            words.append(steps(model, batch_size=2).last.vectors["clip_l"])
    torch.testing.assert_close(*words, atol=1e-6, rtol=1e-5)


def test_gradient_is_that_of_finite_differences(sd1: Loaded) -> None:
    """Along the gradient's own direction, where float32 leaves enough digits."""
    from textual_inversion.trainer.learning.initial import initial_vectors

    with executing(), open_model(sd1) as model:
        vectors = {k: v.requires_grad_() for k, v in
                   initial_vectors(model.text_encoders, "toy", 1).items()}  # fmt: skip
        tokens = [model.tokenize("a photo of a [name]", 1)]
        generator = torch.Generator().manual_seed(3)
        noisy = torch.randn((1, 4, 8, 8), generator=generator)
        weights = torch.randn((1, 4, 8, 8), generator=generator)

        def value(moved):
            output = model.predict(noisy, torch.tensor([500]), model.encode_prompts(tokens, moved))
            return (output * weights).double().sum()

        value(vectors).backward()
        gradient = vectors["clip_l"].grad
        direction = gradient / gradient.norm()
        reach = 1e-2
        with torch.no_grad():
            ahead, behind = (
                value({"clip_l": vectors["clip_l"] + sign * reach * direction}) for sign in (1, -1)
            )
    difference = (ahead - behind).item() / (2 * reach)
    assert difference == pytest.approx(gradient.norm().item(), rel=5e-3)


def test_a_lora_counts(sd1: Loaded) -> None:
    """A patched model is trained as patched, and unpatching afterwards gives the old weights."""
    import comfy.model_management
    import comfy.sd

    before = sd1.weights_hash()
    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k"
    out, inner = sd1.model.model.state_dict()[f"{key}.weight"].shape
    generator = torch.Generator().manual_seed(4)
    name = "lora_unet_" + "down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    lora = {
        f"{name}.lora_up.weight": torch.randn((out, 4), generator=generator),
        f"{name}.lora_down.weight": torch.randn((4, inner), generator=generator),
    }
    with torch.inference_mode():
        patched, _ = comfy.sd.load_lora_for_models(sd1.model, sd1.clip, lora, 1.0, 1.0)
    assert patched.patches
    plain_and_patched = []
    for model_patcher in (sd1.model, patched, sd1.model):
        loaded = Loaded(model_patcher, sd1.clip, sd1.vae, sd1.checkpoint)
        with executing(), open_model(loaded) as model:
            plain_and_patched.append(steps(model, 1).loss)
    assert plain_and_patched[0] != plain_and_patched[1]
    assert plain_and_patched[0] == plain_and_patched[2]
    with torch.inference_mode():
        comfy.model_management.unload_all_models()
    assert sd1.weights_hash() == before


def move(loaded: Loaded) -> tuple[torch.dtype, torch.Tensor]:
    """What a short run computes in, and where it takes the vectors."""
    from textual_inversion.trainer.learning.initial import initial_vectors

    with executing(), open_model(loaded) as model:
        start = initial_vectors(model.text_encoders, "toy cat", 3)["clip_l"]
        return model.compute_dtype, (steps(model, 3).last.vectors["clip_l"] - start).flatten()


@pytest.fixture(scope="module")
def usual_move(sd1: Loaded) -> torch.Tensor:
    return move(sd1)[1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_learns_nearly_the_same(
    sd1: Loaded, usual_move: torch.Tensor, dtype: torch.dtype
) -> None:
    """The stock node Model Compute Dtype decides; float16 goes through loss scaling."""
    half = sd1.model.clone()
    half.set_model_compute_dtype(dtype)
    computed_in, moved = move(Loaded(half, sd1.clip, sd1.vae, sd1.checkpoint))
    assert computed_in == dtype
    assert torch.nn.functional.cosine_similarity(usual_move, moved, dim=0) > 0.99
