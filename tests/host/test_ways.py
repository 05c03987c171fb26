"""What people put in front of training, behind it and between: honoured or refused, never wrong.

Each way on a small model in this process, in the state in which the executor runs nodes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import families
from support.families import build
from support.loaded import Loaded, executing
from support.short_runs import draw, learn, predicted_as_sampled
from support.small_families import FAMILIES

REFUSED_PATCH = "cannot be trained through"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ways")


@pytest.fixture(scope="module")
def sd1(host_modules: ModuleType, folder: Path) -> Loaded:
    return build("sd1", folder, folder)


@pytest.fixture(scope="module")
def flux(host_modules: ModuleType, folder: Path) -> Loaded:
    return build("flux-schnell", folder, folder)


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


@pytest.mark.parametrize("kind", [torch.cuda.OutOfMemoryError, torch.AcceleratorError])
def test_after_out_of_memory_the_host_goes_on(
    sd1: Loaded, kind: type[RuntimeError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The errors of a GPU that is full, from the middle of the network."""
    from textual_inversion.trainer.errors import InputError

    before, weights = draw(sd1), sd1.weights_hash()

    def full(*_: Any, **__: Any) -> None:
        raise kind("CUDA out of memory.")

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


def test_a_controlnet_later_in_the_graph(sd1: Loaded) -> None:
    """What is learned does not depend on it, and it draws as it did."""
    import comfy.cldm.cldm
    import comfy.controlnet

    with torch.inference_mode():
        network = comfy.cldm.cldm.ControlNet(
            **{k: v for k, v in FAMILIES["sd1"].network.items() if k != "out_channels"},
            hint_channels=3,
        )
        families.fill(network)
        control = comfy.controlnet.ControlNet(network, load_device=torch.device("cpu"))
    word = learn(sd1).kept.vectors["clip_l"]
    plain, controlled = draw(sd1), draw(sd1, control)
    assert not torch.equal(plain, controlled)
    assert torch.equal(learn(sd1).kept.vectors["clip_l"], word)
    assert torch.equal(draw(sd1, control), controlled)
    assert torch.equal(draw(sd1), plain)


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
    from textual_inversion.nodes.host.text_encoders import text_encoders
    from textual_inversion.trainer.learning.initial import from_words

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
    moves = []
    for loaded in (flux, found):
        start = {e.key: from_words(_seen(e), "toy cat", 1) for e in text_encoders(loaded.clip)}
        learned = learn(loaded).kept.vectors
        moves.append(torch.cat([(learned[k] - start[k]).flatten() for k in start]))
    assert torch.nn.functional.cosine_similarity(*moves, dim=0) > 0.9


def _seen(encoder: Any) -> Any:
    from textual_inversion.nodes.host.weights import alias_of
    from textual_inversion.trainer.model import TextEncoder

    return TextEncoder(encoder.key, alias_of(encoder.vocabulary), encoder.token_ids, encoder.scale)


def test_a_text_encoder_in_fp8(flux: Loaded, folder: Path) -> None:
    """What is learned is that of the same rounded weights in float32."""
    family = FAMILIES["flux-schnell"]
    with torch.inference_mode():
        short, whole = (
            families.text_encoder(family, folder, dtype=dtype)
            for dtype in (torch.float8_e4m3fn, torch.float32)
        )
        weights = short.cond_stage_model.state_dict()
        whole.cond_stage_model.load_state_dict({k: v.float() for k, v in weights.items()})
    learned = [learn(replace(flux, clip=clip)).kept.vectors for clip in (short, whole)]
    for key, rows in learned[1].items():
        torch.testing.assert_close(learned[0][key], rows, atol=1e-3, rtol=1e-3)


def test_scaled_fp8(host_modules: ModuleType, flux: Loaded, folder: Path) -> None:
    """A file as people share them: weights of 8 bits, each with the number they are scaled by."""
    import comfy.sd

    scaled = {"scaled_fp8": torch.empty(0, dtype=torch.float8_e4m3fn)}
    for name, weight in load_file(flux.checkpoint).items():
        if weight.ndim == 2 and "blocks" in name:
            scaled[name], scaled[name.replace(".weight", ".scale_weight")] = _scaled_fp8(weight)
        else:
            scaled[name] = weight
    path = folder / "scaled.safetensors"
    save_file(scaled, path)
    with torch.inference_mode():
        patcher = comfy.sd.load_diffusion_model(str(path))
    _is_learned(replace(flux, model=patcher), flux)


def test_a_text_encoder_in_scaled_fp8(flux: Loaded, folder: Path) -> None:
    """As T5-XXL is shared; the weights of its blocks alone are of 8 bits."""
    parts = [
        getattr(flux.clip.cond_stage_model, key).transformer.state_dict()
        for key in ("clip_l", "t5xxl")
    ]
    kind = torch.tensor(list(json.dumps({"format": "float8_e4m3fn"}).encode()), dtype=torch.uint8)
    for name, weight in list(parts[1].items()):
        if weight.ndim == 2 and ".block." in name and "bias" not in name:
            parts[1][name], parts[1][name.replace(".weight", ".weight_scale")] = _scaled_fp8(weight)
            parts[1][name.replace(".weight", ".comfy_quant")] = kind
    with torch.inference_mode():
        clip = families.text_encoder(
            FAMILIES["flux-schnell"], folder, state=parts,
            t5xxl_quantization_metadata={"mixed_ops": True},
        )  # fmt: skip
    _is_learned(replace(flux, clip=clip), flux)


def _scaled_fp8(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scale = weight.abs().max() / 448
    return (weight / scale).to(torch.float8_e4m3fn), scale.float().view(1)


def _is_learned(loaded: Loaded, whole: Loaded) -> None:
    """Nearly as with the whole weights; and the host samples as before."""
    from textual_inversion.nodes.host.text_encoders import text_encoders
    from textual_inversion.trainer.learning.initial import from_words

    before = draw(loaded)
    moves = []
    for one in (whole, loaded):
        start = {e.key: from_words(_seen(e), "toy cat", 1) for e in text_encoders(one.clip)}
        learned = learn(one).kept.vectors
        moves.append(torch.cat([(learned[k] - start[k]).flatten() for k in start]))
    assert torch.nn.functional.cosine_similarity(*moves, dim=0) > 0.9
    assert torch.equal(draw(loaded), before)


@pytest.mark.parametrize("word_for", ["prompt", "negative prompt"])
def test_ratings_teach_a_family_without_a_path_of_its_own(flux: Loaded, word_for: str) -> None:
    """Pairs through the host's VAE and both predictions; both objectives move the word."""
    from textual_inversion.nodes.host.model import HostModel
    from textual_inversion.trainer.data.pairs import FEWEST
    from textual_inversion.trainer.data.pictures import Picture, as_unlike
    from textual_inversion.trainer.learning.loop import train
    from textual_inversion.trainer.settings import RatingSettings

    settings = RatingSettings(
        name="taste", word_for=word_for, num_vectors=2, steps=2, batch_size=1, resolution=64,
        evaluations=1, preview_every=0,
    )  # fmt: skip
    shown = [Picture(torch.full((64, 64, 3), i / 99), "a cat") for i in range(2 * FEWEST)]
    pictures = [*shown[::2], *map(as_unlike, shown[1::2])]
    before = draw(flux)
    with executing(), HostModel(flux.model, flux.clip, flux.vae, resolution=64) as model:
        *_, last = train(model, pictures, settings)
    assert last.ranked is not None
    for key, vectors in last.kept.vectors.items():
        assert vectors.isfinite().all()
        assert not torch.equal(vectors, last.initial.vectors[key])
    assert torch.equal(draw(flux), before)


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
