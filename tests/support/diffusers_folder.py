"""Writes the configuration with which diffusers reads one of our checkpoints, offline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file

from .checkpoints import CLIP_G, CLIP_H, CLIP_L, SD1, SD2_V, SDXL, Family, autoencoder
from .layout import CHANNELS, TextEncoder

if TYPE_CHECKING:
    from textual_inversion.trainer.diffusers_model.loading import Parts

PIPELINES = {
    SD1.name: "StableDiffusionPipeline",
    SD2_V.name: "StableDiffusionPipeline",
    SDXL.name: "StableDiffusionXLPipeline",
}


def write_folder(family: Family, folder: Path, tokenizer: Path) -> Path:
    """Write the configuration of a whole pipeline.

    `tokenizer` is a folder with CLIP's tokenizer; ComfyUI has it in `comfy/sd1_tokenizer`.
    The folder holds the weights of the autoencoder too, which diffusers takes from there
    because it cannot read TAESD out of a checkpoint.
    """
    index: dict[str, Any] = {
        "_class_name": PIPELINES[family.name],
        "_diffusers_version": "0.35.0",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderTiny"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
    }
    if family is SDXL:
        index["force_zeros_for_empty_prompt"] = True
    else:
        index["safety_checker"] = [None, None]
        index["requires_safety_checker"] = False

    for number, encoder in enumerate(family.encoders.values()):
        suffix = "" if number == 0 else f"_{number + 1}"
        model = "CLIPTextModelWithProjection" if encoder is CLIP_G else "CLIPTextModel"
        index[f"text_encoder{suffix}"] = ["transformers", model]
        index[f"tokenizer{suffix}"] = ["transformers", "CLIPTokenizer"]
        _write(folder / f"text_encoder{suffix}" / "config.json", text_config(encoder, model))
        write_tokenizer(folder / f"tokenizer{suffix}", tokenizer, pads_with_end=encoder is CLIP_L)

    _write(folder / "model_index.json", index)
    _write(folder / "unet" / "config.json", unet_config(family))
    _write(folder / "scheduler" / "scheduler_config.json", scheduler_config(family))
    _write_autoencoder(folder / "vae")
    return folder


def unet_config(family: Family) -> dict[str, Any]:
    """The configuration of diffusers' UNet."""
    unet = family.unet
    down = [f"{'CrossAttn' if depth else ''}DownBlock2D" for depth in unet.depths]
    up = [f"{'CrossAttn' if depth else ''}UpBlock2D" for depth in reversed(unet.depths_up)]
    # diffusers takes the depth in the middle from the last level on the way down.
    depths = [*(max(depth, 1) for depth in unet.depths[:-1]), unet.depth_middle]
    if unet.depths[-1] not in (0, unet.depth_middle):
        raise ValueError("diffusers cannot build this UNet.")
    config: dict[str, Any] = {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 128 if family is SDXL else 64,
        "in_channels": 4,
        "out_channels": 4,
        "center_input_sample": False,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "act_fn": "silu",
        "norm_num_groups": 32,
        "norm_eps": 1e-5,
        "downsample_padding": 1,
        "mid_block_scale_factor": 1,
        "block_out_channels": [CHANNELS] * len(down),
        "layers_per_block": unet.blocks,
        "down_block_types": down,
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "up_block_types": up,
        "transformer_layers_per_block": depths,
        "reverse_transformer_layers_per_block": [
            max(depth, 1) for depth in reversed(unet.depths_up)
        ],
        "cross_attention_dim": unet.context,
        # In spite of its name this is the number of heads.
        "attention_head_dim": [unet.heads] * len(down),
        "use_linear_projection": unet.linear,
    }
    if unet.extra is not None:
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": unet.extra,
        }
    return config


def text_config(encoder: TextEncoder, model: str) -> dict[str, Any]:
    """The configuration of a text encoder in transformers."""
    return {
        "architectures": [model],
        "model_type": "clip_text_model",
        "hidden_size": encoder.width,
        "intermediate_size": 4 * encoder.width,
        "projection_dim": encoder.width,
        # SD2 ends one layer early; there the last layer of the file is left out.
        "num_hidden_layers": encoder.layers - (1 if encoder is CLIP_H else 0),
        "num_attention_heads": encoder.heads,
        "hidden_act": encoder.activation,
        "layer_norm_eps": 1e-5,
        "vocab_size": encoder.tokens,
        "max_position_embeddings": encoder.positions,
        "attention_dropout": 0.0,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 49407 if encoder is CLIP_L else 0,
    }


def scheduler_config(family: Family) -> dict[str, Any]:
    """The noise schedule."""
    return {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": 1000,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "prediction_type": "v_prediction" if family.v_prediction else "epsilon",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    }


def write_tokenizer(folder: Path, source: Path, *, pads_with_end: bool) -> None:
    """Copy CLIP's tokenizer, with the padding of one text encoder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(source / name, folder / name)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        settings = json.loads((source / name).read_text(encoding="utf-8"))
        # OpenCLIP pads with token 0, which is the exclamation mark.
        settings["pad_token"] = "<|endoftext|>" if pads_with_end else "!"
        if name == "tokenizer_config.json":
            # ComfyUI's copy names a length that CLIP does not have; pipelines pad to it.
            settings["model_max_length"] = 77
        _write(folder / name, settings)


def _write_autoencoder(folder: Path) -> None:
    _write(
        folder / "config.json",
        {
            "_class_name": "AutoencoderTiny",
            "in_channels": 3,
            "out_channels": 3,
            "latent_channels": 4,
            "encoder_block_out_channels": [64] * 4,
            "decoder_block_out_channels": [64] * 4,
            "num_encoder_blocks": [1, 3, 3, 3],
            "num_decoder_blocks": [3, 3, 3, 1],
            "act_fn": "relu",
            "scaling_factor": 1.0,
        },
    )
    weights = {}
    for name, weight in autoencoder().items():
        side, number, rest = name.split(".", 2)
        # diffusers has TAESD's first layer, which clamps, outside of its list of layers.
        place = int(number) - (1 if side == "decoder" else 0)
        weights[f"{side}.layers.{place}.{rest}"] = weight.contiguous()
    file = folder / "diffusion_pytorch_model.safetensors"
    save_file(weights, file, metadata={"format": "pt"})


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def pipeline(family: Family, parts: Parts) -> Any:
    """The pipeline of diffusers that is made of these parts."""
    import diffusers

    made: dict[str, Any] = {"feature_extractor": None, "image_encoder": None}
    if family is SDXL:
        made["force_zeros_for_empty_prompt"] = True
    else:
        made |= {"safety_checker": None, "requires_safety_checker": False}
    for number, encoder in enumerate(parts.text_encoders):
        suffix = "" if number == 0 else f"_{number + 1}"
        made[f"text_encoder{suffix}"] = encoder
        made[f"tokenizer{suffix}"] = parts.tokenizers[number]
    return getattr(diffusers, PIPELINES[family.name])(
        unet=parts.unet, vae=parts.vae, scheduler=parts.scheduler, **made
    )
