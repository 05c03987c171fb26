"""The tiny demo model as the host's own objects: MODEL, CLIP and VAE.

Stock loaders tell a model by sizes that a tiny one does not have, so it is put together
here from the host's classes; from then on it is a model like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import torch
from torch import Tensor

from ...demo.layout import TEXT_PREFIX, UNET_PREFIX
from ...demo.model import (
    GUIDANCE,
    TOKENIZER_FOLDER,
    host_text_config,
    host_unet_config,
    host_vae_weights,
    load_tokenizer,
    load_weights,
)


def build(weights: Mapping[str, Tensor] | None = None, embeddings: Any = None) -> tuple[Any, ...]:
    """Put the model together: (MODEL, CLIP, VAE).

    Args:
        weights: a checkpoint in the original layout; the shipped one if not given.
        embeddings: the folders in which its prompts find `embedding:name`.
    """
    state = dict(weights or load_weights())
    return _model(state), _clip(state, embeddings), comfy.sd.VAE(sd=host_vae_weights(state))


class _Config(comfy.supported_models_base.BASE):
    """What the host wants to know of a model; the rest is as for Stable Diffusion 1."""

    unet_extra_config: Mapping[str, Any] = {}
    latent_format = comfy.latent_formats.SD15
    memory_usage_factor = 1.0
    guidance = GUIDANCE  # which our own adapter asks for
    sampling_settings: Mapping[str, Any] = {"zsnr": True}


def _model(state: dict[str, Tensor]) -> Any:
    config = _Config(host_unet_config())
    config.set_inference_dtype(torch.float32, None)
    model = comfy.model_base.BaseModel(config, comfy.model_base.ModelType.V_PREDICTION)
    model.load_model_weights(
        {k: v.float() for k, v in state.items() if k.startswith(UNET_PREFIX)}, UNET_PREFIX
    )
    return comfy.model_patcher.ModelPatcher(
        model.to(comfy.model_management.unet_offload_device()),
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )


class _Tokenizer(comfy.sd1_clip.SDTokenizer):
    def __init__(self, embedding_directory: Any = None, tokenizer_data: Any = None) -> None:
        super().__init__(
            str(TOKENIZER_FOLDER),
            embedding_directory=embedding_directory,
            embedding_size=host_text_config(load_tokenizer())["hidden_size"],
            tokenizer_data=tokenizer_data or {},
        )


class _PromptTokenizer(comfy.sd1_clip.SD1Tokenizer):
    def __init__(self, embedding_directory: Any = None, tokenizer_data: Any = None) -> None:
        super().__init__(embedding_directory, tokenizer_data or {}, tokenizer=_Tokenizer)


class _TextEncoder(comfy.sd1_clip.SDClipModel):
    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: Any = None) -> None:
        config = host_text_config(load_tokenizer())
        super().__init__(
            device=device,
            dtype=dtype,
            textmodel_json_config=config,
            special_tokens={
                name: config[f"{key}_token_id"]
                for name, key in {"start": "bos", "end": "eos", "pad": "pad"}.items()
            },
            return_projected_pooled=False,
            model_options=model_options or {},
        )
        # The host gives every CLIP the vocabulary of the original.
        self.transformer.text_model.embeddings.token_embedding = self.operations.Embedding(
            config["vocab_size"], config["hidden_size"], device=device, dtype=dtype
        )


class _PromptEncoder(comfy.sd1_clip.SD1ClipModel):
    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: Any = None) -> None:
        super().__init__(device, dtype, model_options or {}, clip_model=_TextEncoder)


def _clip(state: Mapping[str, Tensor], embeddings: Any) -> Any:
    target = comfy.supported_models_base.ClipTarget(_PromptTokenizer, _PromptEncoder)
    clip = comfy.sd.CLIP(
        target, embedding_directory=embeddings, model_options={"dtype": torch.float32}
    )
    own = {k: v.float() for k, v in state.items() if k.startswith(TEXT_PREFIX)}
    clip.load_sd({key.removeprefix(TEXT_PREFIX): value for key, value in own.items()})
    return clip
