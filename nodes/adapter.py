"""The trainer's seam over what the host has loaded: MODEL, CLIP and VAE.

Nothing is copied and nothing is loaded again. Between two calls of the host's own
machinery (which may move weights about) the network is held still by the context
managers of `residency`; `close` gives everything back as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import comfy.conds
import comfy.model_management
import comfy.patcher_extension
import comfy.sampler_helpers
import comfy.samplers
import torch
from torch import Tensor

from ..trainer.errors import InputError
from ..trainer.metadata import describe_model
from ..trainer.model import NoiseSchedule, Parameterization, TextEncoder
from .encoding import encode_prompts
from .residency import alias_of, checkpointed, differentiable, raw_output, sdpa, training_flag
from .words import WORD, Rows, as_host_prompt, resolving, text_encoders


class HostModel:
    """A `trainer.model.FrozenModel` made of the host's loaded objects.

    Use it as a context manager, inside `torch.inference_mode(False)`.

    Args:
        model: the host's ModelPatcher.
        clip: the host's CLIP; its clip skip, patches and tokenizer options count.
        vae: the host's VAE.
        batch_size: of a step, to ask the host for memory.
        resolution: of the pictures, likewise.
        checkpointing: compute the network's inner values twice instead of keeping them.

    Raises:
        InputError: a kind of prediction that the trainer does not know (LCM, x0, ...), or
            a text encoder that takes no embeddings.
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
        self._checkpointing = checkpointing
        self._open = ExitStack()
        self._is_open = False
        self._encoders = text_encoders(clip)
        sampling = model.get_model_object("model_sampling")
        self.parameterization: Parameterization = parameterization_of(sampling)
        self._sigmas = sampling.sigmas.detach().to("cpu", torch.float32).clone()
        self.schedule = _schedule(self.parameterization, self._sigmas)
        cast = model.get_model_object("manual_cast_dtype")
        self.compute_dtype: torch.dtype = cast or self._base.get_dtype()
        self.device: torch.device = model.load_device
        channels = self._base.latent_format.latent_channels
        shape = [batch_size, channels, resolution // 8, resolution // 8]
        # The graph holds every block's values, where the host's estimate is for one at a time.
        self._memory = (2 if checkpointing else 4) * model.memory_required(shape)

    def __enter__(self) -> HostModel:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Put every original object back; the next call of the seam takes them again."""
        self._is_open = False
        self._open.close()

    @property
    def text_encoders(self) -> Sequence[TextEncoder]:
        """See `FrozenModel`."""
        return [TextEncoder(e.key, alias_of(e.vocabulary), e.token_ids) for e in self._encoders]

    @property
    def description(self) -> Mapping[str, str]:
        """See `FrozenModel`."""
        source = getattr(self._model, "cached_patcher_init", None)
        path = source[1][0] if source and source[1] else ""
        checkpoint = Path(path).stem if isinstance(path, str) else ""
        return describe_model(self.text_encoders, self.parameterization, checkpoint)

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

    def encode_pictures(self, pixels: Tensor) -> Tensor:
        """See `FrozenModel`."""
        self.close()
        with torch.inference_mode():
            latents: Tensor = self._base.process_latent_in(self._vae.encode(pixels))
        return latents.clone()

    def decode_latents(self, latents: Tensor) -> Tensor:
        """See `FrozenModel`."""
        self.close()
        with torch.inference_mode():
            pixels: Tensor = self._vae.decode(self._base.process_latent_out(latents.cpu()))
        return pixels.clone().float().cpu().clamp(0, 1)

    def predict(
        self, noisy: Tensor, timesteps: Tensor, conditioning: list[dict[str, Any]]
    ) -> Tensor:
        """See `FrozenModel`."""
        self._hold_still()
        latents = noisy
        if self.parameterization != "flow":
            # The host's latents are x0 + sigma · noise.
            alpha, _ = self.schedule.at(timesteps, noisy)
            latents = noisy / alpha
        sigma = self._sigmas[timesteps].to(self.device)
        conds = [self._model_conds(latents[i : i + 1], c) for i, c in enumerate(conditioning)]
        output: Tensor = self._base.apply_model(
            latents,
            sigma,
            transformer_options=self._transformer_options(sigma),
            **comfy.samplers.cond_cat(conds),
        )
        return output.float()

    def _model_conds(self, latents: Tensor, cond: dict[str, Any]) -> dict[str, Any]:
        """One prompt's conditioning in the form that this family's network takes."""
        extras = {k: v for k, v in cond.items() if k != "cond"}
        converted = comfy.sampler_helpers.convert_cond([[cond["cond"], extras]])
        (encoded,) = comfy.samplers.encode_model_conds(
            self._base.extra_conds, converted, latents, self.device, "positive"
        )
        return {
            name: value.process_cond(batch_size=1, device=self.device, area=None)
            for name, value in encoded["model_conds"].items()
        }

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
            "optimized_attention_override": sdpa,
            "sigmas": sigma,
            "cond_or_uncond": [0] * batch,
            "uuids": [None] * batch,
        }

    def _hold_still(self) -> None:
        """Have the host load everything, then keep it where it is until `close`."""
        if self._is_open:
            return
        encoder = self._clip.patcher
        with torch.inference_mode():
            comfy.model_management.load_models_gpu(
                [self._model, encoder], memory_required=self._memory, force_full_load=True
            )
        stack = self._open
        try:
            stack.enter_context(differentiable(self._base, self.device))
            stack.enter_context(differentiable(self._clip.cond_stage_model, encoder.load_device))
            stack.enter_context(raw_output(self._base))
            stack.enter_context(training_flag())
            if self._checkpointing:
                stack.enter_context(checkpointed(self._base.diffusion_model))
            options = self._clip.cond_stage_model
            options.reset_clip_options()
            stack.callback(options.reset_clip_options)
            if self._clip.layer_idx is not None:
                options.set_clip_options({"layer": self._clip.layer_idx})
            options.set_clip_options({"execution_device": encoder.load_device})
        except BaseException:
            stack.close()
            raise
        self._is_open = True


def parameterization_of(sampling: Any) -> Parameterization:
    """Tell what a network predicts by what the host computes from it, not by its name.

    Raises:
        InputError: none of epsilon, v and flow.
    """
    host_sigmas = sampling.sigmas.detach().to("cpu", torch.float64).clone()
    known: Sequence[Parameterization] = ("epsilon", "v_prediction", "flow")
    for parameterization in known:
        if all(_computes(sampling, parameterization, host_sigmas[i]) for i in (0, -1)):
            return parameterization
    kinds = ", ".join(c.__name__ for c in type(sampling).__mro__[1:3])
    raise InputError(
        f"This model's kind of prediction ({kinds}) cannot be trained on: use a model that "
        "predicts epsilon, v or flow, and connect it before any LCM, turbo or x0 sampling node."
    )


def _schedule(parameterization: Parameterization, sigmas: Tensor) -> NoiseSchedule:
    if parameterization == "flow":
        return NoiseSchedule(1 - sigmas, sigmas)
    return NoiseSchedule.from_alphas_cumprod(1 / (1 + sigmas.double() ** 2))


@torch.no_grad()
def _computes(sampling: Any, parameterization: Parameterization, sigma: Tensor) -> bool:
    """Whether the host adds noise, scales and denoises at this sigma as the formulas say.

    In float64, where the little that LCM mixes in at any sigma shows.
    """
    generator = torch.Generator().manual_seed(0)
    output, noisy, noise = torch.randn((3, 1, 4, 2, 2), generator=generator, dtype=torch.float64)
    scale = (sigma**2 + 1).sqrt()
    scaled, mixed = noisy / scale, output + sigma * noise
    denoised = noisy - output * sigma
    if parameterization == "v_prediction":
        denoised = noisy / scale**2 - output * sigma / scale
    if parameterization == "flow":
        scaled, mixed = noisy, (1 - sigma) * output + sigma * noise
    sigma = sigma.view(1)
    host = (
        sampling.calculate_input(sigma, noisy),
        sampling.noise_scaling(sigma, noise, output),
        sampling.calculate_denoised(sigma, output, noisy),
    )
    return all(
        torch.allclose(found, expected, rtol=1e-7, atol=1e-7)
        for found, expected in zip(host, (scaled, mixed, denoised), strict=True)
    )
