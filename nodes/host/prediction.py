"""What the host's network predicts, told by what the host computes from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.patcher_extension
import comfy.sampler_helpers
import comfy.samplers
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor

from ...trainer.errors import InputError
from ...trainer.model import NoiseSchedule, Parameterization
from .gradients import OutOfPlace, PlainAttention


class Network:
    """The host's network that predicts, with its patches and model options.

    Attributes:
        parameterization: see `FrozenModel`.
        schedule: see `FrozenModel`.
        has_frames: whether latents are videos of one frame, [batch, channels, 1, h, w].

    Args:
        model: the host's ModelPatcher.

    Raises:
        InputError: see `formula_of`; a network that is told how far the next step goes.
    """

    def __init__(self, model: Any) -> None:
        self._model, self._base = model, model.model
        if getattr(self._base.diffusion_model, "time_r_in", None) is not None:
            raise InputError(
                "This model was distilled to take few long steps (MeanFlow), which pictures "
                "cannot teach: train on the full model of its family, whose text encoder is the "
                "same, so that the word works with this model too."
            )
        self._attention = PlainAttention()
        sampling = model.get_model_object("model_sampling")
        self.parameterization, self._adds = formula_of(sampling)
        self._sigmas = sampling.sigmas.detach().to("cpu", torch.float32).clone()
        self.schedule = schedule_of(self.parameterization, self._adds, self._sigmas)
        self.has_frames: bool = getattr(self._base.latent_format, "latent_dimensions", 2) == 3

    def predict(
        self, noisy: Tensor, timesteps: Tensor, conditioning: Sequence[dict[str, Any]]
    ) -> Tensor:
        """The network's output, like `noisy`, once its weights are held still.

        Prompts that the host does not put into one batch, such as those of different lengths,
        are predicted one after the other.
        """
        device = self._model.load_device
        latents = noisy
        if self._adds:
            alpha, _ = self.schedule.at(timesteps, noisy)
            latents = noisy / alpha
        if self.has_frames:
            latents = latents.unsqueeze(2)
        sigma = self._sigmas[timesteps].to(device)
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
        return predicted.squeeze(2) if self.has_frames else predicted

    def _model_conds(self, latents: Tensor, cond: dict[str, Any]) -> dict[str, Any]:
        """One prompt's conditioning in the form that this family's network takes."""
        extras = {k: v for k, v in cond.items() if k != "cond"}
        converted = comfy.sampler_helpers.convert_cond([[cond["cond"], extras]])
        (encoded,) = comfy.samplers.encode_model_conds(
            self._base.extra_conds,
            converted,
            latents,
            self._model.load_device,
            "positive",
            latent_image=torch.zeros_like(latents),
        )
        conds = {
            name: value.process_cond(batch_size=1, device=self._model.load_device, area=None)
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


def formula_of(sampling: Any) -> tuple[Parameterization, bool]:
    """Tell what a network predicts by the host's formulas for it, not by its name.

    Args:
        sampling: the host's `model_sampling`.

    Returns:
        what it predicts, and whether the host's latents are x0 + sigma · noise. For a flow they
        usually are not; those of Cosmos are.

    Raises:
        InputError: none of epsilon, v and flow.
    """
    sigmas = sampling.sigmas.detach().to("cpu", torch.float64).clone()
    known: Sequence[tuple[Parameterization, bool]] = (
        ("epsilon", True),
        ("v_prediction", True),
        ("flow", False),
        ("flow", True),
    )
    for formula in known:
        places = (0, len(sigmas) // 2, -1)
        if all(_computes(sampling, *formula, sigmas[i]) for i in places):
            return formula
    kinds = ", ".join(c.__name__ for c in type(sampling).__mro__[1:3])
    raise InputError(
        f"This model's kind of prediction ({kinds}) cannot be trained on: use a model that "
        "predicts epsilon, v or flow, and connect it before any LCM, turbo or x0 sampling node."
    )


def schedule_of(parameterization: Parameterization, adds: bool, sigmas: Tensor) -> NoiseSchedule:
    """The trainer's schedule from the host's sigmas, [timesteps]; a flow's shift is in them."""
    if parameterization == "flow":
        shares = sigmas / (1 + sigmas) if adds else sigmas
        return NoiseSchedule(1 - shares, shares)
    return NoiseSchedule.from_alphas_cumprod(1 / (1 + sigmas.double() ** 2))


def batches_of(conds: Sequence[Any]) -> list[slice]:
    """Runs of neighbours that the host can put into one batch."""
    starts = [
        i
        for i in range(len(conds))
        if not i or not comfy.samplers.cond_equal_size(conds[i - 1], conds[i])
    ]
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(conds)], strict=True)]


@torch.no_grad()
def _computes(sampling: Any, parameterization: Parameterization, adds: bool, sigma: Tensor) -> bool:
    """Whether the host adds noise, scales and denoises at this sigma as the formulas say.

    In float64, where the little that LCM mixes in at any sigma shows.
    """
    generator = torch.Generator().manual_seed(0)
    output, noisy, noise = torch.randn((3, 1, 4, 2, 2), generator=generator, dtype=torch.float64)
    flow = parameterization == "flow"
    scale = (1 + sigma if flow else (sigma**2 + 1).sqrt()) if adds else torch.ones_like(sigma)
    mixed = (output if adds else (1 - sigma) * output) + sigma * noise
    denoised = noisy - output * sigma
    if parameterization == "v_prediction":
        denoised = noisy / scale**2 - output * sigma / scale
    if flow:
        denoised = denoised / scale
    sigma = sigma.view(1)
    host = (
        sampling.calculate_input(sigma, noisy),
        sampling.noise_scaling(sigma, noise, output),
        sampling.calculate_denoised(sigma, output, noisy),
    )
    return all(
        torch.allclose(found, expected, rtol=1e-7, atol=1e-7)
        for found, expected in zip(host, (noisy / scale, mixed, denoised), strict=True)
    )
