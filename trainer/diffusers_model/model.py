"""The seam over diffusers and transformers objects: SD1, SD2 and SDXL base.

Nothing of those libraries is imported here: the objects are handed in, or come from `loading`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..embeddings.metadata import describe_model
from ..errors import InputError
from ..files.checkpoint_hash import known_hash
from ..model import (
    USUAL_GUIDANCE,
    NoiseSchedule,
    Parameterization,
    TextEncoder,
    TextStates,
    TokenizedPrompt,
)
from .loading import load_parts
from .offloading import budget_for
from .offloading import offload as offload_blocks
from .text import DiffusersConditioning, PromptEncoder

_PARAMETERIZATIONS: Mapping[str, Parameterization] = {
    "epsilon": "epsilon",
    "v_prediction": "v_prediction",
}


class DiffusersModel:
    """`FrozenModel` over the parts of a diffusers pipeline.

    The parts are used as they are, in their own data types and on the device of the
    U-Net; they are set to evaluation and frozen. Text encoders are best kept in float32:
    they are cheap, and the vectors' gradient passes through them.

    Args:
        unet: `UNet2DConditionModel`.
        vae: `AutoencoderKL` or `AutoencoderTiny`.
        text_encoders: `CLIPTextModel`, and for SDXL `CLIPTextModelWithProjection`.
        tokenizers: `CLIPTokenizer`, one for each encoder.
        scheduler: any diffusers scheduler with `alphas_cumprod`.
        name: of the checkpoint, for the metadata of what is learned; a path is cut off.
        guidance: see `FrozenModel`.
        checkpointing: compute inner values twice instead of keeping them.
        offload: the device on which blocks compute, with weights that stay where they are and come
            when they do; checkpointing is on then.
        staying: bytes of the blocks that go there for good all the same.
        pictures_at_once: see `FrozenModel`.
        notes: see `FrozenModel`.

    Raises:
        InputError: the parts are of a kind that cannot be trained on.
    """

    def __init__(
        self,
        unet: Any,
        vae: Any,
        text_encoders: Sequence[Any],
        tokenizers: Sequence[Any],
        scheduler: Any,
        *,
        name: str = "",
        guidance: float = USUAL_GUIDANCE,
        checkpointing: bool = False,
        offload: torch.device | None = None,
        staying: int = 0,
        pictures_at_once: int | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.parameterization: Parameterization = _parameterization(scheduler)
        self.schedule = NoiseSchedule.from_alphas_cumprod(scheduler.alphas_cumprod)
        self._pixels_per_latent = 2 ** (len(vae.config.block_out_channels) - 1)
        self.compute_dtype: torch.dtype = unet.dtype
        self.device: torch.device = offload or unet.device
        self.pictures_at_once = pictures_at_once
        self.guidance = guidance
        self.notes = notes
        self._unet, self._vae = unet, vae
        for part in (unet, vae, *text_encoders):
            part.requires_grad_(False).eval()
        if offload:
            checkpointing = False  # each block has its own
            self._offloaded = offload_blocks(unet, text_encoders, offload, staying)
        self._text = PromptEncoder(text_encoders, tokenizers, self.device, checkpointing)
        self.text_encoders: Sequence[TextEncoder] = self._text.described
        _refuse_other_kinds(unet, text_encoders)
        if checkpointing:
            unet.enable_gradient_checkpointing()
        else:
            unet.disable_gradient_checkpointing()

        self._checkpoint = Path(name)

    @property
    def description(self) -> Mapping[str, str]:
        """See `FrozenModel`."""
        return describe_model(
            self.text_encoders,
            self.parameterization,
            self._unet.parameters(),
            self._checkpoint.stem,
            f"diffusers {version('diffusers')}",
            known_hash(self._checkpoint) if self._checkpoint.name else "",
        )

    @classmethod
    def from_pretrained(
        cls,
        path: Path | str,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        config: Path | None = None,
        *,
        checkpointing: bool = False,
        offload: bool = False,
        memory: int | None = None,
        batch_size: int = 1,
        resolution: int = 512,
    ) -> DiffusersModel:
        """Load a diffusers folder, or one SD1, SD2 or SDXL file of weights.

        Args:
            path: a folder with `model_index.json`, or a `.safetensors` file.
            device: where to put everything.
            dtype: of the U-Net; encoders and VAE are kept in float32.
            config: for a file, a diffusers folder of the same family (weights are not
                needed) from which the configuration is taken instead of from the hub.
            checkpointing: see the class; turned on by itself where memory is short.
            offload: keep the weights of all blocks of U-Net and text encoders off the device;
                without it, of as many as memory makes necessary.
            memory: bytes that training may take at most; None for all that a GPU has free.
            batch_size: of a step, to fit it into memory.
            resolution: of the pictures, likewise.

        Raises:
            InputError: diffusers is not installed, or this cannot be loaded or trained on.
        """
        parts = load_parts(Path(path), dtype, config)
        device = torch.device(device)
        parts.vae.to(device)
        capacity = memory
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            capacity = free if memory is None else min(free, memory)
        budget, note = budget_for(
            parts.unet,
            parts.text_encoders,
            capacity,
            batch_size=batch_size,
            resolution=resolution,
            checkpointing=checkpointing,
            offload=offload,
        )
        for part in () if budget.just_in_time else (parts.unet, *parts.text_encoders):
            part.to(device)
        return cls(
            parts.unet,
            parts.vae,
            parts.text_encoders,
            parts.tokenizers,
            parts.scheduler,
            name=Path(path).name,
            checkpointing=budget.checkpointing,
            offload=device if budget.just_in_time else None,
            staying=budget.staying,
            pictures_at_once=budget.at_once if budget.at_once < batch_size else None,
            notes=[note] if note else [],
        )

    def tokenize(self, prompt: str, num_vectors: int) -> TokenizedPrompt:
        """See `FrozenModel`."""
        return self._text.tokenize(prompt, num_vectors)

    def encode_prompts(
        self, prompts: Sequence[TokenizedPrompt], vectors: Mapping[str, Tensor]
    ) -> DiffusersConditioning:
        """See `FrozenModel`."""
        return self._text.encode_prompts(prompts, vectors)

    def text_states(
        self, prompts: Sequence[TokenizedPrompt], vectors: Mapping[str, Tensor]
    ) -> Sequence[TextStates]:
        """See `FrozenModel`."""
        return self._text.text_states(prompts, vectors)

    @torch.no_grad()
    def encode_pictures(self, pixels: Tensor) -> Tensor:
        """Pictures -> latents (the mode of the posterior); see `FrozenModel`."""
        planes = pixels.to(self.device, self._vae.dtype).movedim(-1, 1) * 2 - 1
        encoded = self._vae.encode(planes)
        # AutoencoderTiny has no posterior.
        latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        scale, shift = self._latent_scale
        scaled: Tensor = ((latents - shift) * scale).float()
        return scaled

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        """Latents -> pictures; see `FrozenModel`."""
        scale, shift = self._latent_scale
        planes = self._vae.decode((latents.to(self._vae.dtype) / scale) + shift).sample
        pixels: Tensor = (planes.float().movedim(1, -1) / 2 + 0.5).clamp(0, 1)
        return pixels

    def predict(
        self, noisy: Tensor, timesteps: Tensor, conditioning: DiffusersConditioning
    ) -> Tensor:
        """The U-Net's output; see `FrozenModel.predict`.

        For SDXL the size of the picture is that of the latents, uncropped.
        """
        added = None
        if conditioning.pooled is not None:
            height, width = (side * self._pixels_per_latent for side in noisy.shape[-2:])
            sizes = torch.tensor([[height, width, 0, 0, height, width]], device=self.device)
            added = {
                "text_embeds": conditioning.pooled.to(self.compute_dtype),
                "time_ids": sizes.expand(len(noisy), -1).float(),
            }
        prediction: Tensor = self._unet(
            noisy.to(self.compute_dtype),
            timesteps.to(self.device),
            conditioning.states.to(self.compute_dtype),
            added_cond_kwargs=added,
            return_dict=False,
        )[0]
        return prediction.float()

    @property
    def _latent_scale(self) -> tuple[float, float]:
        config = self._vae.config
        return config.scaling_factor, getattr(config, "shift_factor", None) or 0.0


def _refuse_other_kinds(unet: Any, text_encoders: Sequence[Any]) -> None:
    config = unet.config
    if config.in_channels != config.out_channels:
        raise InputError(
            "This is a model for inpainting or editing (its U-Net takes "
            f"{config.in_channels} channels): use the base model that it was made from."
        )
    if getattr(config, "time_cond_proj_dim", None):
        raise InputError(
            "This is a distilled (LCM) model, which cannot be trained on: use the base model that "
            "it was made from."
        )
    width = sum(e.config.hidden_size for e in text_encoders)
    if config.cross_attention_dim != width:
        raise InputError(
            f"The U-Net reads text {config.cross_attention_dim} wide, the text encoders give "
            f"{width}: use a base model of SD1, SD2 or SDXL with all of its text encoders (an "
            "SDXL refiner cannot be trained on)."
        )


def _parameterization(scheduler: Any) -> Parameterization:
    kind = scheduler.config.get("prediction_type", "epsilon")
    if kind not in _PARAMETERIZATIONS or not hasattr(scheduler, "alphas_cumprod"):
        raise InputError(
            f"This model's scheduler is a {type(scheduler).__name__} that predicts “{kind}”: only "
            "models that predict “epsilon” or “v_prediction” can be trained on."
        )
    return _PARAMETERIZATIONS[kind]
