"""Every family of models that ComfyUI loads, small, of random weights, built by its own code.

A model of a family is what the host makes of a configuration (`comfy.supported_models`), and
its text encoder is the class with the tokenizer that the host pairs with it. Layers keep their
names and places; only widths and depths are small, so that a step takes a moment. Families
whose loader reads all sizes from the file are written to a file and loaded by it.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from .loaded import Loaded

CLIP = {"num_hidden_layers": 3, "intermediate_size": 128, "num_attention_heads": 2}
T5 = {"num_layers": 2, "d_ff": 64, "d_kv": 16, "num_heads": 2}
LLAMA = {"num_hidden_layers": 3, "intermediate_size": 64, "num_attention_heads": 2,
         "num_key_value_heads": 1}  # fmt: skip
PREFIX = "text_encoders."


@dataclass(frozen=True)
class HostFamily:
    """What makes a model of one family.

    Attributes:
        title: what people call it.
        config: name of its class in `comfy.supported_models`.
        network: the sizes of its diffusion network.
        encoders: name of a text encoder's configuration -> what is changed in it.
        clues: weights by which the host chooses the text encoder.
        learns: encoder key -> how wide its vectors are here.
        parameterization: what the network predicts.
        stock: the host's own text encoders find `embedding:` files.
        from_file: the host reads every size from a file.
        frames: the VAE is one for films, as Wan's.
    """

    title: str
    config: str
    network: Mapping[str, Any]
    encoders: Mapping[str, Mapping[str, Any]]
    learns: Mapping[str, int]
    parameterization: str = "flow"
    clues: Sequence[str] = ()
    stock: bool = True
    from_file: bool = False
    frames: bool = False
    spiece: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


def unet(context: int, **changes: Any) -> dict[str, Any]:
    """A small U-Net of the kind of SD1, SD2 and SDXL."""
    return {
        "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 64,
        "num_res_blocks": [1, 1], "channel_mult": [1, 2], "transformer_depth": [1, 1],
        "transformer_depth_middle": 1, "transformer_depth_output": [1, 1, 1, 1],
        "context_dim": context, "num_heads": 2, "num_head_channels": -1,
        "use_spatial_transformer": True, "use_linear_in_transformer": False,
        "adm_in_channels": None, "use_temporal_attention": False, "legacy": False,
    } | changes  # fmt: skip


def clip(width: int) -> dict[str, Any]:
    """A small CLIP."""
    return CLIP | {"hidden_size": width}


def t5(width: int) -> dict[str, Any]:
    """A small T5."""
    return T5 | {"d_model": width}


def llama(width: int, layers: int = 3) -> dict[str, Any]:
    """A small language model of the kind of Qwen and Gemma."""
    return LLAMA | {"hidden_size": width, "num_hidden_layers": layers}


FLUX = {
    "patch_size": 2, "in_channels": 16, "out_channels": 16, "vec_in_dim": 64, "context_in_dim": 64,
    "hidden_size": 128, "num_heads": 1, "mlp_ratio": 4.0, "depth": 1, "depth_single_blocks": 1,
    "axes_dim": [16, 56, 56], "theta": 10000, "qkv_bias": True, "txt_ids_dims": [],
}  # fmt: skip
LUMINA = {
    "image_model": "lumina2", "patch_size": 2, "in_channels": 16, "dim": 288, "n_layers": 1,
    "n_refiner_layers": 1, "n_heads": 6, "n_kv_heads": 6, "multiple_of": 32, "qk_norm": True,
    "cap_feat_dim": 64, "axes_dims": [16, 16, 16], "axes_lens": [300, 64, 64],
}  # fmt: skip

FAMILIES = {
    "sd1": HostFamily(
        "Stable Diffusion 1", "SD15", unet(64), {"clip_l": clip(64)}, {"clip_l": 64}, "epsilon"
    ),
    "sd2": HostFamily(
        "Stable Diffusion 2 base", "SD20", unet(64, use_linear_in_transformer=True),
        {"clip_h": clip(64)}, {"clip_h": 64}, "epsilon",
    ),
    "sd2-v": HostFamily(
        "Stable Diffusion 2", "SD20", unet(64, use_linear_in_transformer=True),
        {"clip_h": clip(64)}, {"clip_h": 64}, "v_prediction", options={"v_prediction": True},
    ),
    "sdxl": HostFamily(
        "SDXL", "SDXL", unet(160, adm_in_channels=96 + 6 * 256, num_classes="sequential"),
        {"clip_l": clip(64), "clip_g": clip(96)}, {"clip_l": 64, "clip_g": 96}, "epsilon",
    ),
    "sdxl-v": HostFamily(
        "SDXL, v prediction", "SDXL",
        unet(160, adm_in_channels=96 + 6 * 256, num_classes="sequential"),
        {"clip_l": clip(64), "clip_g": clip(96)}, {"clip_l": 64, "clip_g": 96}, "v_prediction",
        options={"v_pred": True},
    ),
    "sd3": HostFamily(
        "Stable Diffusion 3 and 3.5", "SD3",
        {
            "in_channels": 16, "out_channels": 16, "patch_size": 2, "depth": 2, "input_size": None,
            "adm_in_channels": 768 + 1280, "num_patches": 256, "pos_embed_max_size": 16,
            "qk_norm": "rms", "pos_embed_scaling_factor": None, "x_block_self_attn_layers": [0],
            "context_embedder_config": {
                "target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 128}
            },
        },
        {"clip_l": clip(768), "clip_g": clip(1280), "t5xxl": t5(4096)},
        {"clip_l": 768, "clip_g": 1280, "t5xxl": 4096},
        clues=(
            "clip_l.transformer.text_model.final_layer_norm.weight",
            "clip_g.transformer.text_model.final_layer_norm.weight",
            "t5xxl.transformer.encoder.final_layer_norm.weight",
        ),
        from_file=True,
    ),
    "flux": HostFamily(
        "Flux.1", "Flux", FLUX | {"image_model": "flux", "guidance_embed": True},
        {"clip_l": clip(64), "t5xxl": t5(64)}, {"clip_l": 64, "t5xxl": 64}, from_file=True,
    ),
    "flux-schnell": HostFamily(
        "Flux.1 schnell", "FluxSchnell", FLUX | {"image_model": "flux", "guidance_embed": False},
        {"clip_l": clip(64), "t5xxl": t5(64)}, {"clip_l": 64, "t5xxl": 64}, from_file=True,
    ),
    "flux2-klein": HostFamily(
        "Flux.2 Klein", "Flux2",
        {
            "image_model": "flux2", "patch_size": 1, "in_channels": 128, "out_channels": 128,
            "context_in_dim": 3 * 64, "hidden_size": 128, "num_heads": 1, "mlp_ratio": 3.0,
            "depth": 1, "depth_single_blocks": 1, "axes_dim": [32, 32, 32, 32], "theta": 2000,
            "global_modulation": True, "mlp_silu_act": True, "qkv_bias": False, "ops_bias": False,
            "default_ref_method": "index", "ref_index_scale": 10.0, "txt_ids_dims": [3],
            "vec_in_dim": None, "guidance_embed": False,
        },
        {"qwen3_4b": llama(64, layers=28)}, {"qwen3_4b": 64},
        clues=("qwen3_4b.transformer.model.norm.weight",), from_file=True,
    ),
    "z-image": HostFamily(
        "Z-Image", "ZImage",
        LUMINA | {"rope_theta": 256.0, "ffn_dim_multiplier": 8 / 3, "z_image_modulation": True,
                  "time_scale": 1000.0, "pad_tokens_multiple": 32},
        {"qwen3_4b": llama(64)}, {"qwen3_4b": 64},
        clues=("qwen3_4b.transformer.model.norm.weight",),
    ),
    "chroma": HostFamily(
        "Chroma", "Chroma",
        FLUX | {"image_model": "chroma", "in_channels": 64, "out_channels": 64, "in_dim": 64,
                "out_dim": 128, "hidden_dim": 64, "n_layers": 2, "vec_in_dim": None},
        {"t5xxl": t5(64)}, {"t5xxl": 64},
        clues=("t5xxl.transformer.encoder.final_layer_norm.weight",),
    ),
    "pixart": HostFamily(
        "PixArt-Sigma", "PixArtSigma",
        {"image_model": "pixart_sigma", "num_heads": 2, "patch_size": 2, "hidden_size": 64,
         "in_channels": 4, "depth": 1, "model_max_length": 300, "input_size": 64,
         "pe_interpolation": 1, "micro_condition": False, "caption_channels": 64},
        {"t5xxl": t5(64)}, {"t5xxl": 64}, "epsilon",
    ),
    "auraflow": HostFamily(
        "AuraFlow", "AuraFlow",
        {"dim": 256, "n_layers": 2, "n_double_layers": 1, "n_heads": 2, "global_conddim": 256,
         "cond_seq_dim": 64, "max_seq": 256},
        {"pile_t5xl": t5(64)}, {"pile_t5xl": 64}, stock=False,
    ),
    "lumina2": HostFamily(
        "Lumina 2", "Lumina2", LUMINA | {"rope_theta": 10000.0, "ffn_dim_multiplier": 4.0},
        {"gemma2_2b": llama(64)}, {"gemma2_2b": 64},
        clues=("gemma2_2b.transformer.model.norm.weight",), stock=False, spiece=True,
    ),
    "qwen-image": HostFamily(
        "Qwen-Image", "QwenImage",
        {"image_model": "qwen_image", "in_channels": 64, "num_layers": 2,
         "attention_head_dim": 64, "num_attention_heads": 4, "joint_attention_dim": 64,
         "axes_dims_rope": (16, 24, 24)},
        {"qwen25_7b": llama(64)}, {"qwen25_7b": 64},
        clues=("qwen25_7b.transformer.model.norm.weight",), stock=False, frames=True,
    ),
}  # fmt: skip


def build(name: str, embeddings: Path, folder: Path) -> Loaded:
    """Model, CLIP and VAE of a family, in inference mode as the host's executor makes them."""
    family = FAMILIES[name]
    with torch.inference_mode():
        return Loaded(
            model(family, folder / f"{name}.safetensors"),
            text_encoder(family, embeddings),
            vae(family),
            folder / f"{name}.safetensors",
        )


def model(family: HostFamily, path: Path) -> Any:
    """The host's ModelPatcher; where it can, the host reads it from a file."""
    import comfy.sd

    base = supported(family).get_model(marks(family), "", device="cpu")
    fill(base.diffusion_model)
    if family.from_file:
        save_file(base.diffusion_model.state_dict(), path)
        patcher = comfy.sd.load_diffusion_model(str(path), {"dtype": torch.float32})
        if type(patcher.model.model_config).__name__ != family.config:
            raise AssertionError(f"{family.title} was taken for {patcher.model.model_config}")
        return patcher
    return patcher_of(base)


def patcher_of(base: Any) -> Any:
    """The host's ModelPatcher of a model of its own, for the device that it has chosen."""
    import comfy.model_management as management
    import comfy.model_patcher

    return comfy.model_patcher.ModelPatcher(
        base,
        load_device=management.get_torch_device(),
        offload_device=management.unet_offload_device(),
    )


def supported(family: HostFamily) -> Any:
    """The host's configuration of the family, with the small sizes."""
    import comfy.supported_models

    config = getattr(comfy.supported_models, family.config)(dict(family.network))
    config.set_inference_dtype(torch.float32, None)
    return config


def marks(family: HostFamily) -> dict[str, torch.Tensor]:
    """Weights by which the host tells v prediction."""
    found: dict[str, torch.Tensor] = {}
    if family.options.get("v_pred"):
        found["v_pred"] = torch.zeros(0)
    if family.options.get("v_prediction"):
        key = "output_blocks.11.1.transformer_blocks.0.norm1.bias"
        found[key] = torch.tensor([-1.0, 1.0])
    return found


def text_encoder(
    family: HostFamily,
    embeddings: Path,
    dtype: torch.dtype | None = torch.float32,
    state: Mapping[str, torch.Tensor] | Sequence[Mapping[str, torch.Tensor]] = (),
    *,
    filled: bool = True,
    **further: Any,
) -> Any:
    """The host's CLIP with the tokenizer that belongs to it.

    Args:
        family: whose.
        embeddings: where it looks for `embedding:`.
        dtype: of its weights; the host's own choice if None.
        state: weights of each encoder, or of all; random ones if there are none.
        filled: whether there are random ones then.
        further: options that its loader would set.
    """
    import comfy.sd
    import comfy.text_encoders.aura_t5

    clues = {PREFIX + clue: torch.zeros(1) for clue in family.clues}
    target = supported(family).clip_target(clues)
    data = {}
    if family.spiece:
        # Gemma's own is in its file; this one comes with the host.
        folder = Path(comfy.text_encoders.aura_t5.__file__).parent / "t5_pile_tokenizer"
        content = bytearray((folder / "tokenizer.model").read_bytes())
        data["spiece_model"] = torch.frombuffer(content, dtype=torch.uint8)
    options = {f"{name}_model_config": dict(c) for name, c in family.encoders.items()}
    made = comfy.sd.CLIP(
        target,
        embedding_directory=[str(embeddings)],
        tokenizer_data=data,
        state_dict=state if isinstance(state, Mapping) else list(state),
        model_options={**options, **further, "dtype": dtype},
    )
    if filled and not state:
        fill(made.cond_stage_model)
    return made


def vae(family: HostFamily) -> Any:
    """A small VAE that gives latents of the family's kind."""
    import comfy.sd
    import comfy.taesd.taesd
    from comfy.ldm.wan.vae import WanVAE

    metadata = {}
    if family.frames:
        net: torch.nn.Module = WanVAE(
            dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, attn_scales=[],
            temperal_downsample=[False, True, True], dropout=0.0,
        )  # fmt: skip
    else:
        channels = supported(family).latent_format.latent_channels
        net = comfy.taesd.taesd.TAESD(latent_channels=channels)
        metadata = {"tae_latent_channels": channels}
    fill(net)
    return comfy.sd.VAE(sd=net.state_dict(), metadata=metadata)


def fill(module: torch.nn.Module) -> None:
    """Random weights with which every layer keeps about the scale of what it gets."""
    for name, parameter in module.named_parameters():
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim == 1:
            is_norm = name.endswith((".weight", ".scale", ".gamma"))
            value = 1 + 0.1 * noise if is_norm else 0.02 * noise
        elif "embed_tokens" in name or "token_embedding" in name or "shared" in name:
            value = noise * (0.4 / math.sqrt(parameter.shape[-1]))
        else:
            value = noise / math.sqrt(max(1, math.prod(parameter.shape[1:])))
        parameter.data.copy_(value)
