"""The trainer's seam over what the host has loaded: MODEL, CLIP and VAE.

Nothing is copied and nothing is loaded again. Between two calls of the host's own
machinery (which may move weights about) the network is held still by the context
managers of `residency`; `close` gives everything back as it was.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import comfy.model_base
import comfy.model_management
import comfy.patcher_extension
import comfy.sampler_helpers
import comfy.samplers
import comfyui_version
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor

from ..trainer.errors import InputError
from ..trainer.metadata import describe_model
from ..trainer.model import Parameterization, TextEncoder, TextStates
from .budget import copies, plan, room
from .encoding import encode_prompts
from .prediction import batches_of, parameterization_of, schedule_of
from .residency import (
    OutOfPlace,
    PlainAttention,
    alias_of,
    checkpointed,
    differentiable,
    raw_output,
    training_flag,
)
from .trouble import explained
from .words import WORD, Rows, as_host_prompt, resolving, text_encoders


class HostModel:
    """A `trainer.model.FrozenModel` made of the host's loaded objects.

    Use it as a context manager, inside `torch.inference_mode(False)`.

    Args:
        model: the host's ModelPatcher.
        clip: the host's CLIP; its clip skip, patches and tokenizer options count.
        vae: the host's VAE.
        batch_size: of a step, to fit it into memory.
        resolution: of the pictures, likewise.
        checkpointing: compute the network's inner values twice instead of keeping them; turned
            on by itself where memory is short.

    Raises:
        InputError: a kind of prediction that the trainer does not know (LCM, x0, ...), the
            SDXL refiner, or a text encoder that takes no embeddings; on the way out, in place of
            errors that `trouble` can explain.
    """

    def __init__(
        self,
        model: Any,
        clip: Any,
        vae: Any,
        *,
        batch_size: int = 1,
        resolution: int = 512,
        checkpointing: bool = False,
    ) -> None:
        self._model, self._clip, self._vae = model, clip, vae
        self._base = model.model
        self._attention = PlainAttention()
        self._open = ExitStack()
        self._is_open = False
        if isinstance(self._base, comfy.model_base.SDXLRefiner):
            raise InputError(
                "This is the SDXL refiner, which only finishes pictures: learn the word with the "
                "SDXL base model."
            )
        self._encoders = text_encoders(clip)
        latent_format = self._base.latent_format
        self._channels: int = latent_format.latent_channels
        self._has_frames = getattr(latent_format, "latent_dimensions", 2) == 3
        sampling = model.get_model_object("model_sampling")
        self.parameterization: Parameterization = parameterization_of(sampling)
        self._sigmas = sampling.sigmas.detach().to("cpu", torch.float32).clone()
        self.schedule = schedule_of(self.parameterization, self._sigmas)
        cast = model.get_model_object("manual_cast_dtype")
        self.compute_dtype: torch.dtype = cast or self._base.get_dtype()
        self.device: torch.device = model.load_device
        side = resolution // getattr(latent_format, "spacial_downscale_ratio", 8)
        shape = [1, self._channels, *([1] if self._has_frames else []), side, side]
        self._budget = plan(
            # Not the patcher's, which reckons with much more for dynamic VRAM.
            int(self._base.memory_required(shape)),
            room(model, clip),
            batch_size,
            checkpointing,
            copies(self._base.diffusion_model, self.compute_dtype),
            copies(clip.cond_stage_model, torch.float32),
        )
        self.pictures_at_once = self._budget.at_once
        if self._budget.checkpointing and not checkpointing:
            logging.info("Textual inversion: memory is short, so checkpointing is on.")

    def __enter__(self) -> HostModel:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        sentence = explained(error)
        if sentence:
            raise sentence from error

    def close(self) -> None:
        """Put every original object back; the next call of the seam takes them again."""
        self._is_open = False
        self._open.close()

    @property
    def text_encoders(self) -> Sequence[TextEncoder]:
        """See `FrozenModel`."""
        return [
            TextEncoder(e.key, alias_of(e.vocabulary), e.token_ids, e.scale, e.word, e.padding)
            for e in self._encoders
        ]

    @property
    def description(self) -> Mapping[str, str]:
        """See `FrozenModel`."""
        source = getattr(self._model, "cached_patcher_init", None)
        path = source[1][0] if source and source[1] else ""
        checkpoint = Path(path).stem if isinstance(path, str) else ""
        # Only a loaded model has its LoRAs in its weights.
        self._hold_still()
        description = describe_model(
            self.text_encoders,
            self.parameterization,
            self._base.diffusion_model.parameters(),
            checkpoint,
            f"ComfyUI {comfyui_version.__version__}",
        )
        if self._clip.layer_idx is not None:
            # "2" leaves out the last layer, as kohya's scripts count.
            description["modelspec.encoder_layer"] = str(-self._clip.layer_idx)
        return description

    def tokenize(self, prompt: str, num_vectors: int) -> dict[str, Any]:
        """See `FrozenModel`; places of the word are pairs (encoder key, index of the vector)."""

        def lookup(name: str, key: str) -> Rows | None:
            return Rows([(key, i) for i in range(num_vectors)]) if name == WORD else None

        with resolving(self._clip.tokenizer, lookup):
            tokens: dict[str, Any] = self._clip.tokenize(as_host_prompt(prompt))
        return tokens

    def encode_prompts(
        self, prompts: Sequence[dict[str, Any]], vectors: Mapping[str, Tensor]
    ) -> list[dict[str, Any]]:
        """See `FrozenModel`."""
        self._hold_still()
        return encode_prompts(self._clip.cond_stage_model, self._encoders, prompts, vectors)

    def text_states(
        self, prompts: Sequence[dict[str, Any]], vectors: Mapping[str, Tensor]
    ) -> list[TextStates]:
        """See `FrozenModel`."""
        empty = self.tokenize("", 0)
        encoder = self._encoders[0]
        special = {token[0] for chunk in encoder.tokens_of(empty) for token in chunk}
        encoded = []
        for prompt, result in zip(prompts, self.encode_prompts(prompts, vectors), strict=True):
            tokens = [token[0] for chunk in encoder.tokens_of(prompt) for token in chunk]
            states = result["cond"][0].float()
            if len(states) != len(tokens):
                raise InputError(
                    "The text encoders of this model do not read the same tokens, which context "
                    "and the initialization “cross” need: turn these settings off."
                )
            is_word = [isinstance(token, tuple) for token in tokens]
            is_text = [isinstance(token, int) and token not in special for token in tokens]
            masks = (torch.tensor(m, device=states.device) for m in (is_word, is_text))
            encoded.append(TextStates(states, *masks))
        return encoded

    def encode_pictures(self, pixels: Tensor) -> Tensor:
        """See `FrozenModel`.

        Raises:
            InputError: the VAE belongs to another family.
        """
        self.close()
        with torch.inference_mode():
            encoded = self._vae.encode(pixels)
            if encoded.shape[1] != self._channels:
                raise InputError(
                    f"The VAE gives latents of {encoded.shape[1]} channels, but the model takes "
                    f"{self._channels}: connect the VAE that belongs to this model."
                )
            latents: Tensor = self._base.process_latent_in(encoded)
        return (latents.squeeze(2) if self._has_frames else latents).clone()

    def decode_latents(self, latents: Tensor) -> Tensor:
        """See `FrozenModel`."""
        self.close()
        latents = latents.cpu().unsqueeze(2) if self._has_frames else latents.cpu()
        with torch.inference_mode():
            pixels: Tensor = self._vae.decode(self._base.process_latent_out(latents))
        return pixels.flatten(0, -4).clone().float().cpu().clamp(0, 1)

    def predict(
        self, noisy: Tensor, timesteps: Tensor, conditioning: list[dict[str, Any]]
    ) -> Tensor:
        """See `FrozenModel`.

        Prompts that the host does not put into one batch, such as those of different lengths,
        are predicted one after the other.
        """
        self._hold_still()
        latents = noisy
        if self.parameterization != "flow":
            # The host's latents are x0 + sigma · noise.
            alpha, _ = self.schedule.at(timesteps, noisy)
            latents = noisy / alpha
        if self._has_frames:
            latents = latents.unsqueeze(2)
        sigma = self._sigmas[timesteps].to(self.device)
        conds = [self._model_conds(latents[i : i + 1], c) for i, c in enumerate(conditioning)]
        outputs = []
        for part in batches_of(conds):
            output: Tensor = self._base.apply_model(
                self._in(latents[part]),
                sigma[part],
                transformer_options=self._transformer_options(sigma[part]),
                **comfy.samplers.cond_cat(conds[part]),
            )
            self._attention.check()
            outputs.append(output.as_subclass(Tensor).float())
        predicted = torch.cat(outputs)
        return predicted.squeeze(2) if self._has_frames else predicted

    def _model_conds(self, latents: Tensor, cond: dict[str, Any]) -> dict[str, Any]:
        """One prompt's conditioning in the form that this family's network takes."""
        extras = {k: v for k, v in cond.items() if k != "cond"}
        converted = comfy.sampler_helpers.convert_cond([[cond["cond"], extras]])
        (encoded,) = comfy.samplers.encode_model_conds(
            self._base.extra_conds, converted, latents, self.device, "positive"
        )
        conds = {
            name: value.process_cond(batch_size=1, device=self.device, area=None)
            for name, value in encoded["model_conds"].items()
        }
        if "guidance" in conds:
            # A network into which guidance was distilled predicts what the pictures are like
            # only where guidance does nothing, at 1.
            conds["guidance"].cond = conds["guidance"].cond.clamp(max=1)
        for value in conds.values():
            if isinstance(value.cond, Tensor):
                value.cond = self._in(value.cond)
        return conds

    def _in(self, value: Tensor) -> Tensor:
        """A tensor as it goes into the network: only U-Nets overwrite nothing."""
        is_unet = isinstance(self._base.diffusion_model, UNetModel)
        return value if is_unet else value.as_subclass(OutOfPlace)

    def _transformer_options(self, sigma: Tensor) -> dict[str, Any]:
        options: dict[str, Any] = comfy.patcher_extension.copy_nested_dicts(
            self._model.model_options.get("transformer_options", {})
        )
        for kind in ("wrappers", "callbacks"):
            comfy.patcher_extension.merge_nested_dicts(
                options.setdefault(kind, {}), getattr(self._model, kind), copy_dict1=False
            )
        batch = sigma.shape[0]
        return options | {
            "optimized_attention_override": self._attention,
            "sigmas": sigma,
            "cond_or_uncond": [0] * batch,
            "uuids": [None] * batch,
        }

    def _hold_still(self) -> None:
        """Have the host load everything, then keep it where it is until `close`."""
        if self._is_open:
            return
        encoder, text_model = self._clip.patcher, self._clip.cond_stage_model
        with torch.inference_mode():
            comfy.model_management.load_models_gpu(
                [self._model, encoder], memory_required=self._budget.needed, force_full_load=True
            )
        stack = self._open
        try:
            stack.enter_context(differentiable(self._base, self.device))
            wide = torch.float32 if self._budget.wide_text else None
            stack.enter_context(differentiable(text_model, encoder.load_device, wide))
            stack.enter_context(raw_output(self._base))
            stack.enter_context(training_flag())
            if self._budget.checkpointing:
                stack.enter_context(checkpointed(self._base.diffusion_model))
            if self._budget.text_checkpointing:
                stack.enter_context(checkpointed(text_model))
            text_model.reset_clip_options()
            stack.callback(text_model.reset_clip_options)
            if self._clip.layer_idx is not None:
                text_model.set_clip_options({"layer": self._clip.layer_idx})
            text_model.set_clip_options({"execution_device": encoder.load_device})
        except BaseException:
            stack.close()
            raise
        self._is_open = True
