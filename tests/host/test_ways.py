"""What people put in front of training, behind it and between: honoured or refused, never wrong.

Each way on a small model in this process, in the state in which the executor runs nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import families
from support.families import FAMILIES, build
from support.loaded import Loaded, executing, sampler_step

STEP = 400
REFUSED_PATCH = "cannot be learned through"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ways")


@pytest.fixture(scope="module")
def sd1(host_modules: ModuleType, folder: Path) -> Loaded:
    return build("sd1", folder, folder)


@pytest.fixture(scope="module")
def flux(host_modules: ModuleType, folder: Path) -> Loaded:
    return build("flux-schnell", folder, folder)


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def learn(loaded: Loaded, steps: int = 2, **changes: Any) -> Any:
    """A short run; returns its last progress."""
    from textual_inversion.nodes.adapter import HostModel
    from textual_inversion.trainer.loop import train
    from textual_inversion.trainer.pictures import Picture
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


def draw(loaded: Loaded) -> torch.Tensor:
    """One step of the stock sampler with a stock prompt."""
    import nodes as host_nodes

    with torch.inference_mode():
        (prompt,) = host_nodes.CLIPTextEncode().encode(loaded.clip, "a castle by the sea")
        channels = loaded.model.model.latent_format.latent_channels
        noise, x0 = (random(1, channels, 8, 8, seed=seed) for seed in (1, 2))
        sigma = loaded.model.get_model_object("model_sampling").sigmas[STEP]
        return sampler_step(loaded.model, prompt, noise, x0, sigma)[1]


def predicted_as_sampled(loaded: Loaded) -> torch.Tensor:
    """Training's prediction, once it is known to be the sampler's."""
    from textual_inversion.nodes.adapter import HostModel

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


def patched_by(node: str, **inputs: Any) -> Callable[[Loaded], Any]:
    """The model through one of the host's own nodes."""

    def patch(loaded: Loaded) -> Any:
        import comfy_extras.nodes_freelunch
        import comfy_extras.nodes_hypertile
        import comfy_extras.nodes_model_downscale
        import comfy_extras.nodes_pag
        import comfy_extras.nodes_tomesd

        for module in (
            comfy_extras.nodes_freelunch,
            comfy_extras.nodes_hypertile,
            comfy_extras.nodes_pag,
            comfy_extras.nodes_tomesd,
            comfy_extras.nodes_model_downscale,
        ):
            if hasattr(module, node):
                with torch.inference_mode():
                    return getattr(module, node).execute(loaded.model, **inputs).args[0]
        raise AssertionError(node)

    return patch


def by_attention_patch(loaded: Loaded) -> Any:
    patcher = loaded.model.clone()
    patcher.set_model_attn2_patch(lambda q, k, v, options: (q, k, 0.5 * v))
    return patcher


def by_attention_override(loaded: Loaded) -> Any:
    """As packs choose a kernel for attention, whose gradient nobody knows."""
    patcher = loaded.model.clone()
    patcher.model_options["transformer_options"]["optimized_attention_override"] = (
        lambda original, *args, **kwargs: original(*args, **kwargs).detach()
    )
    return patcher


def by_merge(loaded: Loaded) -> Any:
    import comfy_extras.nodes_model_merging as merging

    with torch.inference_mode():
        return merging.ModelSubtract().merge(loaded.model, loaded.model, 0.5)[0]


def by_sampling_patch(loaded: Loaded) -> Any:
    """A shift of the noise schedule, which training has to follow."""
    import comfy_extras.nodes_model_advanced as advanced

    return advanced.ModelSamplingDiscrete().patch(loaded.model, "v_prediction", True)[0]


@pytest.mark.parametrize(
    ("patch", "changes"),
    [
        pytest.param(patched_by("FreeU", b1=1.1, b2=1.2, s1=0.9, s2=0.2), True, id="FreeU"),
        pytest.param(
            patched_by("PatchModelAddDownscale", block_number=1, downscale_factor=2.0,
                       start_percent=0.0, end_percent=1.0, downscale_after_skip=True,
                       downscale_method="bicubic", upscale_method="bicubic"),
            True, id="downscale",
        ),
        pytest.param(patched_by("PerturbedAttentionGuidance", scale=3.0), False, id="PAG"),
        pytest.param(by_attention_patch, True, id="attention-patch"),
        pytest.param(by_attention_override, False, id="attention-override"),
        pytest.param(by_merge, True, id="merge"),
        pytest.param(by_sampling_patch, True, id="v-with-zero-snr"),
    ],
)  # fmt: skip
def test_patches_are_honoured(
    sd1: Loaded, patch: Callable[[Loaded], Any], changes: bool, request: pytest.FixtureRequest
) -> None:
    """Training sees what the sampler sees; what only concerns guidance changes nothing."""
    before = draw(sd1)
    patched = replace(sd1, model=patch(sd1))
    plain = predicted_as_sampled(sd1)
    if "PAG" in request.node.callspec.id:
        # It adds to what the sampler makes of the prediction, not to the prediction.
        found = learn(patched).loss
        assert found == learn(sd1).loss
    else:
        assert torch.equal(predicted_as_sampled(patched), plain) != changes
        last = learn(patched)
        assert last.kept.vectors["clip_l"].isfinite().all()
        assert (last.loss != learn(sd1).loss) == changes
    assert torch.equal(draw(sd1), before)


def test_a_patch_without_a_gradient_is_refused(sd1: Loaded, folder: Path) -> None:
    """FreeU V2 overwrites what learning needs; a hypernetwork was made without gradients."""
    import comfy_extras.nodes_hypernetwork as hypernetwork
    from textual_inversion.trainer.errors import InputError

    before = draw(sd1)
    path = folder / "hypernetwork.pt"
    layer = {"linear.0.weight": torch.eye(64), "linear.0.bias": torch.zeros(64)}
    torch.save({64: (layer, layer), 128: (layer, layer)}, path)
    with torch.inference_mode():
        by_network = sd1.model.clone()
        by_network.set_model_attn2_patch(hypernetwork.load_hypernetwork_patch(str(path), 0.5))
    freeu = patched_by("FreeU_V2", b1=1.3, b2=1.4, s1=0.9, s2=0.2)(sd1)
    for patched in (freeu, by_network):
        with pytest.raises(InputError, match=REFUSED_PATCH):
            learn(replace(sd1, model=patched))
        assert torch.equal(draw(sd1), before)


def test_attention_without_a_gradient_is_not_used_unseen(
    sd1: Loaded, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PixArt does not ask which attention to use; SD1 does."""
    import comfy.ldm.modules.attention as attention
    from textual_inversion.trainer.errors import InputError

    @attention.wrap_attn
    def attention_sage(*args: Any, **kwargs: Any) -> Any:
        return attention.attention_pytorch(*args, **kwargs).detach()

    pixart = build("pixart", folder, folder)
    monkeypatch.setattr(attention, "optimized_attention", attention_sage)
    learn(sd1)
    with pytest.raises(InputError, match="without --use-sage-attention"):
        learn(pixart, 1, resolution=320)


def test_after_out_of_memory_the_host_goes_on(sd1: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of a GPU that is full, from the middle of the network."""
    from textual_inversion.trainer.errors import InputError

    before, weights = draw(sd1), sd1.weights_hash()

    def full(*_: Any, **__: Any) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    with monkeypatch.context() as patch:
        patch.setattr(sd1.model.model.diffusion_model.middle_block[1], "forward", full)
        with pytest.raises(InputError, match="lower batch_size, turn on checkpointing"):
            learn(sd1)
    assert torch.equal(draw(sd1), before)
    assert sd1.weights_hash() == weights


def test_sampling_offloading_and_training_by_turns(sd1: Loaded, flux: Loaded) -> None:
    """Two models in one session, unloaded in between: each word and picture as if alone."""
    import comfy.model_management

    pictures = draw(sd1), draw(flux)
    first = learn(sd1).kept.vectors["clip_l"]
    other = learn(flux).kept.vectors["t5xxl"]
    assert torch.equal(draw(sd1), pictures[0])
    with torch.inference_mode():
        comfy.model_management.unload_all_models()
    assert torch.equal(learn(flux).kept.vectors["t5xxl"], other)
    assert torch.equal(draw(flux), pictures[1])
    assert torch.equal(learn(sd1).kept.vectors["clip_l"], first)
    assert torch.equal(draw(sd1), pictures[0])


@pytest.mark.parametrize(
    "flags",
    [{"bf16_unet": True}, {"fp16_unet": True}, {"fp32_text_enc": True}, {"fp16_text_enc": True},
     {"fp8_e4m3fn_unet": True}, {"force_upcast_attention": True}],
    ids=lambda flags: ",".join(flags),
)  # fmt: skip
def test_number_formats_of_the_command_line(
    host_modules: ModuleType,
    flux: Loaded,
    folder: Path,
    flags: dict[str, bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The host loads as its flags say, and nearly the same is learned."""
    import comfy.cli_args
    import comfy.sd
    from textual_inversion.nodes.words import text_encoders
    from textual_inversion.trainer.initial import from_words

    for name, value in flags.items():
        monkeypatch.setattr(comfy.cli_args.args, name, value)
    with torch.inference_mode():
        patcher = comfy.sd.load_diffusion_model(str(flux.checkpoint))
        clip = families.text_encoder(FAMILIES["flux-schnell"], folder, dtype=None)
    found = replace(flux, model=patcher, clip=clip)
    network = next(patcher.model.diffusion_model.parameters()).dtype
    wanted = {"bf16_unet": torch.bfloat16, "fp16_unet": torch.float16,
              "fp8_e4m3fn_unet": torch.float8_e4m3fn}  # fmt: skip
    assert network == wanted.get(next(iter(flags)), torch.float32)
    start = {e.key: from_words(_seen(e), "toy cat", 1) for e in text_encoders(flux.clip)}
    moves = [
        torch.cat([(last.kept.vectors[k] - start[k]).flatten() for k in start])
        for last in (learn(flux), learn(found))
    ]
    assert torch.nn.functional.cosine_similarity(*moves, dim=0) > 0.9


def _seen(encoder: Any) -> Any:
    from textual_inversion.nodes.residency import alias_of
    from textual_inversion.trainer.model import TextEncoder

    return TextEncoder(encoder.key, alias_of(encoder.vocabulary), encoder.token_ids, encoder.scale)


def test_scaled_fp8_is_refused(host_modules: ModuleType, flux: Loaded, folder: Path) -> None:
    """A file as people share them: weights of 8 bits, each with the number they are scaled by."""
    import comfy.sd
    from textual_inversion.trainer.errors import InputError

    scaled = {"scaled_fp8": torch.empty(0, dtype=torch.float8_e4m3fn)}
    for name, weight in load_file(flux.checkpoint).items():
        if weight.ndim == 2 and "blocks" in name:
            scale = weight.abs().max() / 448
            scaled[name] = (weight / scale).to(torch.float8_e4m3fn)
            scaled[name.replace(".weight", ".scale_weight")] = scale.view(1)
        else:
            scaled[name] = weight.bfloat16()
    path = folder / "scaled.safetensors"
    save_file(scaled, path)
    with torch.inference_mode():
        patcher = comfy.sd.load_diffusion_model(str(path))
    before = draw(replace(flux, model=patcher))
    with pytest.raises(InputError, match="quantised"):
        learn(replace(flux, model=patcher))
    assert torch.equal(draw(replace(flux, model=patcher)), before)


def test_loras_on_both(sd1: Loaded) -> None:
    """Patched weights are trained through as patched: what is sampled is what is learned from."""
    import comfy.model_management

    before, weights = draw(sd1), sd1.weights_hash()
    patcher, clip = sd1.model.clone(), sd1.clip.clone()
    for target in (patcher, clip.patcher):
        keys = [k for k, v in target.model.state_dict().items() if v.ndim == 2][:6]
        state = target.model.state_dict()
        target.add_patches({k: (0.1 * state[k].clone(),) for k in keys}, 1.0)
    patched = replace(sd1, model=patcher, clip=clip)
    assert not torch.equal(predicted_as_sampled(patched), predicted_as_sampled(sd1))
    assert learn(patched).loss != learn(sd1).loss
    assert torch.equal(draw(sd1), before)
    with torch.inference_mode():
        comfy.model_management.unload_all_models()
    assert sd1.weights_hash() == weights
