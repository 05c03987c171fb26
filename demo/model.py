"""The tiny Stable Diffusion: its shape, and loading it into diffusers and transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors.torch import load_file

from .layout import (
    VAE_PREFIX,
    from_original,
    full_taesd,
    text_to_original,
    unet_to_original,
    vae_to_original,
)

# The classes of diffusers and transformers, which type checkers cannot see through their
# lazy imports.
AutoencoderTiny: TypeAlias = Any
UNet2DConditionModel: TypeAlias = Any
DDIMScheduler: TypeAlias = Any
CLIPTextModel: TypeAlias = Any
CLIPTokenizer: TypeAlias = Any

WEIGHTS = Path(__file__).parent / "weights"
MODEL_FILE = WEIGHTS / "tiny-sd.safetensors"
TOKENIZER_FOLDER = WEIGHTS / "tokenizer"

# What hosts multiply a Stable Diffusion 1 latent by on its way to the UNet. The tiny
# autoencoder has unit spread without it (see `host_vae_weights`).
LATENT_SCALE = 0.18215
LATENT_SIZE = 16
LATENT_CHANNELS = 4

GUIDANCE = 3.0
"""The scale of classifier-free guidance with which pictures come nearest to what a word has learned
(`benchmarks/learning/drawing.py`)."""

TEXT_WIDTH = 96
TEXT_CONFIG: dict[str, Any] = {
    "hidden_size": TEXT_WIDTH,
    "intermediate_size": 4 * TEXT_WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "projection_dim": TEXT_WIDTH,
}
UNET_CHANNELS = (64, 128)
# Which levels attend to the prompt: at the finer one it costs much and adds little.
UNET_ATTENDS = (False, True)
UNET_LAYERS = 1
UNET_CONFIG: dict[str, Any] = {
    "sample_size": LATENT_SIZE,
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "down_block_types": tuple(
        "CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in UNET_ATTENDS
    ),
    "up_block_types": tuple(
        "CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(UNET_ATTENDS)
    ),
    "block_out_channels": UNET_CHANNELS,
    "layers_per_block": UNET_LAYERS,
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": 4,  # in diffusers' naming of Stable Diffusion 1: the number of heads
    "norm_num_groups": 32,
}
# A narrow TAESD. Stable Diffusion's own autoencoder normalises in 32 groups, which at
# such widths would wipe out every channel's mean, and with it flat backgrounds.
VAE_WIDTH = 32
VAE_ENCODER_BLOCKS = (1, 1, 2, 2)
VAE_DECODER_BLOCKS = (2, 2, 1, 1)
VAE_CONFIG: dict[str, Any] = {
    "encoder_block_out_channels": (VAE_WIDTH,) * len(VAE_ENCODER_BLOCKS),
    "decoder_block_out_channels": (VAE_WIDTH,) * len(VAE_DECODER_BLOCKS),
    "num_encoder_blocks": VAE_ENCODER_BLOCKS,
    "num_decoder_blocks": VAE_DECODER_BLOCKS,
    "latent_channels": LATENT_CHANNELS,
    "scaling_factor": 1.0,
}
# Stable Diffusion 1's betas, rescaled so that the last timestep is pure noise: on so
# small a latent the mean would otherwise survive it, and with it the background.
SCHEDULE_CONFIG: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "clip_sample": False,
    "set_alpha_to_one": True,
}


@dataclass
class TinyModel:
    """The parts of the tiny model as diffusers and transformers objects."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    vae: AutoencoderTiny
    tokenizer: CLIPTokenizer
    scheduler: DDIMScheduler


def host_unet_config() -> dict[str, Any]:
    """The same UNet in the words of the original code, which ComfyUI's UNetModel takes."""
    base = UNET_CHANNELS[0]
    blocks = len(UNET_CHANNELS)
    return {
        "image_size": LATENT_SIZE,
        "in_channels": LATENT_CHANNELS,
        "out_channels": LATENT_CHANNELS,
        "model_channels": base,
        "num_res_blocks": [UNET_LAYERS] * blocks,
        "channel_mult": [width // base for width in UNET_CHANNELS],
        "transformer_depth": [int(a) for a in UNET_ATTENDS for _ in range(UNET_LAYERS)],
        "transformer_depth_output": [int(a) for a in UNET_ATTENDS for _ in range(UNET_LAYERS + 1)],
        "transformer_depth_middle": 1,
        "context_dim": TEXT_WIDTH,
        "num_heads": UNET_CONFIG["attention_head_dim"],
        "num_head_channels": -1,
        "use_spatial_transformer": True,
        "use_linear_in_transformer": False,
        "adm_in_channels": None,
        "use_temporal_attention": False,
        "legacy": False,
    }


def host_vae_weights(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The autoencoder as ComfyUI's VAE takes it, from a checkpoint in the original layout.

    A host multiplies latents by Stable Diffusion 1's factor on their way to the model;
    `vae_scale` takes it out again, as in the TAESD files that ComfyUI loads.
    """
    own = {k.removeprefix(VAE_PREFIX): v for k, v in weights.items() if k.startswith(VAE_PREFIX)}
    full = full_taesd(own, VAE_ENCODER_BLOCKS, VAE_DECODER_BLOCKS)
    full["vae_scale"] = torch.tensor(LATENT_SCALE)
    full["vae_shift"] = torch.tensor(0.0)
    return full


def host_text_config(tokenizer: CLIPTokenizer) -> dict[str, Any]:
    """The text encoder's configuration, as transformers and ComfyUI read it."""
    return {
        **TEXT_CONFIG,
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def load_tokenizer(folder: Path = TOKENIZER_FOLDER) -> CLIPTokenizer:
    """The tokenizer with the tiny model's own vocabulary."""
    import transformers

    return transformers.CLIPTokenizer.from_pretrained(str(folder))


def new_unet() -> UNet2DConditionModel:
    """A UNet of the tiny model's shape, untrained."""
    import diffusers

    make: Any = diffusers.UNet2DConditionModel
    return make(**UNET_CONFIG)


def new_vae() -> AutoencoderTiny:
    """An autoencoder of the tiny model's shape, untrained."""
    import diffusers

    make: Any = diffusers.AutoencoderTiny
    return make(**VAE_CONFIG)


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A text encoder of the tiny model's shape, untrained."""
    import transformers

    return transformers.CLIPTextModel(transformers.CLIPTextConfig(**host_text_config(tokenizer)))


def new_scheduler() -> DDIMScheduler:
    """The noise schedule that the model was trained on."""
    import diffusers

    make: Any = diffusers.DDIMScheduler
    return make(**SCHEDULE_CONFIG)


def original_weights(
    unet: UNet2DConditionModel, text_encoder: CLIPTextModel, vae: AutoencoderTiny
) -> dict[str, torch.Tensor]:
    """All weights in the layout of an original Stable Diffusion checkpoint."""
    return {
        **unet_to_original(unet.state_dict(), UNET_LAYERS),
        **text_to_original(text_encoder.state_dict()),
        **vae_to_original(vae.state_dict()),
    }


def load_weights() -> dict[str, torch.Tensor]:
    """The shipped checkpoint as it is: half precision, original layout."""
    return load_file(str(MODEL_FILE))


def load_model(file: Path = MODEL_FILE, tokenizer_folder: Path = TOKENIZER_FOLDER) -> TinyModel:
    """The shipped model as diffusers and transformers objects, in single precision."""
    weights = load_file(str(file))
    tokenizer = load_tokenizer(tokenizer_folder)
    unet, vae, text_encoder = new_unet(), new_vae(), new_text_encoder(tokenizer)
    for part, renamed in (
        (unet, unet_to_original(unet.state_dict(), UNET_LAYERS)),
        (vae, vae_to_original(vae.state_dict())),
        (text_encoder, text_to_original(text_encoder.state_dict())),
    ):
        part.load_state_dict(from_original(weights, renamed, part.state_dict()), strict=False)
        part.eval().requires_grad_(False)
    return TinyModel(unet, text_encoder, vae, tokenizer, new_scheduler())
