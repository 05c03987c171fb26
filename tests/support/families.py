"""Every family of models that ComfyUI loads, small, of random weights, built by its own code.

A model of a family is what the host makes of a configuration (`comfy.supported_models`), and
its text encoder is the class with the tokenizer that the host pairs with it. Families whose
loader reads all sizes from the file are written to a file and loaded by it.
"""

from __future__ import annotations

import base64
import importlib
import importlib.util
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import save_file

from .loaded import Loaded
from .small_families import FAMILIES, PREFIX, HostFamily


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

    with small_parts():
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
    # Some classes set sizes of their own.
    config.unet_config.update(family.network)
    config.set_inference_dtype(torch.float32, None)
    return config


def with_frames(family: HostFamily, latents: torch.Tensor) -> torch.Tensor:
    """[batch, channels, h, w] as the family's own latents: a video's are of one frame."""
    frames = supported(family).latent_format.latent_dimensions == 3
    return latents.unsqueeze(2) if frames else latents


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

    options = {f"{name}_model_config": dict(c) for name, c in family.encoders.items()}
    with small_parts():
        made = comfy.sd.CLIP(
            text_target(family),
            embedding_directory=[str(embeddings)],
            tokenizer_data=tokenizer_data(),
            state_dict=state if isinstance(state, Mapping) else list(state),
            model_options={**options, **further, "dtype": dtype},
        )
    if filled and not state:
        fill(made.cond_stage_model)
    return made


def text_target(family: HostFamily) -> Any:
    """The host's tokenizer and text encoder for a family."""
    import comfy.supported_models_base

    if family.text is None:
        return supported(family).clip_target({PREFIX + c: torch.zeros(1) for c in family.clues})
    module, tokenizer, encoder = family.text
    found = importlib.import_module(f"comfy.text_encoders.{module}")
    made = getattr(found, encoder)()
    return comfy.supported_models_base.ClipTarget(getattr(found, tokenizer), made)


def tokenizer_data() -> dict[str, Any]:
    """Vocabularies that are in the files of some text encoders; most come with the host."""
    import comfy.text_encoders.aura_t5

    folder = Path(comfy.text_encoders.aura_t5.__file__).parent / "t5_pile_tokenizer"
    content = bytearray((folder / "tokenizer.model").read_bytes())
    pieces = torch.frombuffer(content, dtype=torch.uint8)
    names = ("spiece_model", "mt5xl.spiece_model", "gemma_spiece_model", "jina_spiece_model")
    return {**dict.fromkeys(names, pieces), "tekken_model": tekken()}


MISTRAL = [
    *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
    *(f"<SPECIAL_{i}>" for i in range(7, 20)),
]
"""The special tokens of Mistral's tokenizer, which come before all others."""


def tekken() -> torch.Tensor:
    """Mistral's tokenizer with nothing but bytes, in the form of its files (`tekken.json`)."""
    single = [base64.b64encode(bytes([i])).decode() for i in range(256)]
    content = {
        "config": {
            "default_vocab_size": len(MISTRAL) + len(single),
            "default_num_special_tokens": len(MISTRAL),
        },
        "vocab": [{"rank": i, "token_bytes": token} for i, token in enumerate(single)],
        "special_tokens": [{"rank": i, "token_str": token} for i, token in enumerate(MISTRAL)],
    }
    return torch.frombuffer(bytearray(json.dumps(content).encode()), dtype=torch.uint8)


def mistral(_data: Any) -> dict[str, Any]:
    """The same for an older host's `load_mistral_tokenizer`.

    That asks transformers to convert the file, which not every version does as it is asked to.
    """
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = [*MISTRAL, *sorted(ByteLevel.alphabet())]
    tokenizer = Tokenizer(BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in MISTRAL])
    return {"tokenizer_object": tokenizer, "legacy": False}


_TOKENIZERS: dict[str, Any] = {}


def shared_tokenizer(read: Callable[..., Any], folder: str, **options: Any) -> Any:
    """The tokenizer in a folder, read once: the one that most language models share takes long."""
    if folder not in _TOKENIZERS:
        tokenizer = _TOKENIZERS[folder] = read(folder, **options)
        vocabulary = tokenizer.get_vocab()
        tokenizer.get_vocab = lambda: vocabulary
    return _TOKENIZERS[folder]


@contextmanager
def small_parts() -> Iterator[None]:
    """Parts whose sizes the host does not read from a configuration, and what can be shared."""
    import comfy.ldm.anima.model as anima
    import comfy.text_encoders.flux as flux
    import comfy.text_encoders.jina_clip_2 as jina
    import comfy.text_encoders.qwen_vl as qwen2
    from transformers import Qwen2Tokenizer

    adapter = partial(
        anima.LLMAdapter, source_dim=64, target_dim=64, model_dim=64, num_layers=1, num_heads=2
    )
    config = jina.XLMRobertaConfig(
        vocab_size=32_128, hidden_size=64, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64,
    )  # fmt: skip
    seeing = partial(qwen2.Qwen2VLVisionTransformer, num_layers=1, intermediate_size=32)
    tokenizer = partial(shared_tokenizer, Qwen2Tokenizer.from_pretrained)
    sight = {"hidden_size": 32, "intermediate_size": 32, "depth": 1,
             "deepstack_visual_indexes": [0]}  # fmt: skip
    with ExitStack() as stack:
        stack.enter_context(patch.object(anima, "LLMAdapter", adapter))
        stack.enter_context(patch.object(qwen2, "Qwen2VLVisionTransformer", seeing))
        stack.enter_context(patch.object(Qwen2Tokenizer, "from_pretrained", tokenizer))
        if not hasattr(flux, "from_tekken_json"):  # It came between ComfyUI 0.30.0 and 0.33.0.
            stack.enter_context(patch.object(flux, "load_mistral_tokenizer", mistral))
        stack.enter_context(patch.object(jina, "XLMRobertaConfig", lambda **_: config))
        # From ComfyUI 0.26.0 on; no family of an older one needs it.
        if importlib.util.find_spec("comfy.text_encoders.qwen3vl"):
            qwen = importlib.import_module("comfy.text_encoders.qwen3vl")
            stack.enter_context(
                patch.dict(qwen.QWEN3VL_VISION, dict.fromkeys(qwen.QWEN3VL_VISION, sight))
            )
            stack.enter_context(
                patch.dict(qwen.QWEN3VL_VISION_COMMON, num_heads=2, num_position_embeddings=16)
            )
        yield


def vae(family: HostFamily) -> Any:
    """A small VAE that gives latents of the family's kind."""
    import comfy.sd

    latent_format = supported(family).latent_format
    channels = latent_format.latent_channels
    net, metadata = autoencoder(latent_format.latent_dimensions == 3, channels, family.config)
    if net is None:
        return comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)})
    fill(net)
    return comfy.sd.VAE(sd=net.state_dict(), metadata=metadata)


def autoencoder(
    frames: bool, channels: int, config: str
) -> tuple[torch.nn.Module | None, dict[str, Any]]:
    """The host's smallest network for such latents, with a file's metadata; None for pixels."""
    from comfy.ldm.cascade.stage_c_coder import StageC_coder
    from comfy.ldm.wan.vae import WanVAE
    from comfy.taesd.taehv import TAEHV
    from comfy.taesd.taesd import TAESD

    if channels == 3:
        return None, {}
    if config == "Stable_Cascade_C":
        return StageC_coder(), {}
    if frames and channels == 16:
        wan = WanVAE(
            dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, attn_scales=[],
            temperal_downsample=[False, True, True], dropout=0.0,
        )  # fmt: skip
        return wan, {}
    if frames:
        return TAEHV(latent_channels=channels), {}
    return TAESD(latent_channels=channels), {"tae_latent_channels": channels}


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
