"""The trainer's seam over what the host has loaded: MODEL, CLIP and VAE.

Nothing is copied and nothing is loaded again. Between two calls of the host's own
machinery (which may move weights about) the network is held still by the context
managers of `held` and `gradients`; `close` gives everything back as it was.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ...trainer.embeddings.metadata import describe_model
from ...trainer.errors import InputError
from ...trainer.files.checkpoint_hash import known_hash
from ...trainer.memory import plan, told
from ...trainer.model import USUAL_GUIDANCE, Parameterization, TextEncoder, TextStates
from ...trainer.prompts import PLACEHOLDER
from .compatibility import host_version
from .encoding import encode_prompts
from .errors import explained
from .families import family_of
from .gradients import raw_output, training_flag
from .held import held_still
from .kernels import plain_kernels
from .memory import capacity, weights_of, withheld
from .places import WORD, Placeholders, as_host_prompt, resolving
from .prediction import Network
from .text_encoders import text_encoders
from .weights import HostWeights, compute_dtype_of


class HostModel:
    """A `trainer.model.FrozenModel` made of the host's loaded objects.

    Use it as a context manager, inside `torch.inference_mode(False)`; it may be entered twice.

    Args:
        model: the host's ModelPatcher.
        clip: the host's CLIP; its clip skip, patches and tokenizer options count.
        vae: the host's VAE.
        batch_size: of a step, to fit it into memory.
        resolution: of the pictures, likewise.
        checkpointing: compute the network's inner values twice instead of keeping them; turned
            on by itself where memory is short.
        memory: bytes that training may take at most; None for all of the GPU's.
        negative: the guidance that a word for negative prompts is trained for, 1 if for none; None
            for other words.

    Raises:
        InputError: a kind of prediction that the trainer does not know (LCM, x0, ...), a family
            that is refused (see `families`), or a text encoder that takes no embeddings; on the
            way out, in place of errors that `errors` can explain.
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
        memory: int | None = None,
        negative: float | None = None,
    ) -> None:
        self._model, self._clip, self._vae = model, clip, vae
        self._base = model.model
        self._open = ExitStack()
        self._is_open = False
        self._left: list[str] = []
        self._family = family_of(model)
        if self._family:
            self._family.check()
        self._encoders = text_encoders(clip)
        latent_format = self._base.latent_format
        self._channels: int = latent_format.latent_channels
        self._network = Network(model)
        self._has_frames = self._network.has_frames
        self.parameterization: Parameterization = self._network.parameterization
        self.schedule = self._network.schedule
        self.compute_dtype = compute_dtype_of(model)
        self.device: torch.device = model.load_device
        side = resolution // getattr(latent_format, "spacial_downscale_ratio", 8)
        shape = [1, self._channels, *([1] if self._has_frames else []), side, side]
        self._capacity = capacity(model, memory)
        network = weights_of(self._base, self.compute_dtype)
        text = weights_of(clip.cond_stage_model, torch.float32)
        # Not the patcher's reckoning, which takes much more for dynamic VRAM.
        sampling = int(self._base.memory_required(shape))
        single = self._family if self._family and self._family.overwrites else None
        if single and self._capacity is None and not network.unpacked:
            # Copies that it makes as it goes along cannot be spared by computing it again.
            network = replace(network, copies=0)
        self._budget = plan(sampling, self._capacity, batch_size, checkpointing, network, text)
        if single and (self._budget.checkpointing or self._budget.just_in_time):
            raise InputError(
                f"The network of {single.title} overwrites what it has computed, so that it "
                "cannot be computed twice to save memory: turn off checkpointing, or lower "
                "resolution and batch_size until the model fits into the GPU's memory."
            )
        self.pictures_at_once = self._budget.at_once
        note = told(self._budget, self._capacity, network, text)
        # Only our own tiny model says so. Of its type, because the host's configurations answer
        # None for what they do not have, with a warning.
        config = type(self._base.model_config)
        usual = self._family.for_previews() if self._family else USUAL_GUIDANCE
        self.guidance: float = getattr(config, "guidance", usual)
        far = self._family.notes_on(resolution, negative) if self._family else []
        self.notes: Sequence[str] = [line for line in (note, *far) if line]
        for line in self.notes:
            logging.info("Textual inversion: %s", line)

    def __enter__(self) -> HostModel:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        sentence = explained(error, self._left)
        if sentence:
            raise sentence from error

    def close(self) -> None:
        """Put every original object back; the next call of the seam takes them again."""
        self._is_open = False
        self._open.close()

    @property
    def text_encoders(self) -> Sequence[TextEncoder]:
        """See `FrozenModel`."""
        return [encoder.described() for encoder in self._encoders]

    @cached_property
    def description(self) -> Mapping[str, str]:
        """See `FrozenModel`."""
        source = getattr(self._model, "cached_patcher_init", None)
        path = source[1][0] if source and source[1] else ""
        checkpoint = Path(path) if isinstance(path, str) else Path()
        # Only a loaded model has its LoRAs in its weights, or beside them.
        self.close()
        self._load()
        network = HostWeights(self._base.diffusion_model, self.device, self.compute_dtype)
        with torch.inference_mode():
            description = describe_model(
                self.text_encoders,
                self.parameterization,
                network.numbers(),
                checkpoint.stem,
                f"ComfyUI {host_version()}",
                known_hash(checkpoint) if checkpoint.name else "",
            )
        if self._clip.layer_idx is not None:
            # "2" leaves out the last layer, as kohya's scripts count.
            description["modelspec.encoder_layer"] = str(-self._clip.layer_idx)
        return description

    def tokenize(self, prompt: str, num_vectors: int) -> dict[str, Any]:
        """See `FrozenModel`; places of the word are pairs (encoder key, index of the vector).

        A tokenizer with no encoder behind it that could take vectors reads the prompt without
        the word.
        """
        places = {e.key: [(e.key, i) for i in range(num_vectors)] for e in self._encoders}

        def lookup(name: str, key: str) -> Placeholders | None:
            return Placeholders(places.get(key, [])) if name == WORD else None

        with resolving(self._clip.tokenizer, lookup):
            text = as_host_prompt(prompt, self._clip.tokenizer)
            tokens: dict[str, Any] = self._clip.tokenize(text)
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
        encoder = self._encoders[0]
        # What is left of a prompt without its words: start, end, padding and any chat template.
        frames = [encoder.ids_of(self.tokenize(text, 0)) for text in ("", PLACEHOLDER)]
        encoded = []
        for prompt, result in zip(prompts, self.encode_prompts(prompts, vectors), strict=True):
            tokens = encoder.ids_of(prompt)
            before = max(_shared(tokens, frame) for frame in frames)
            special = {token for frame in frames for token in frame[:1] + frame[before:]}
            states = result["cond"][0].float()
            if len(states) != len(tokens):
                raise InputError(
                    "The text encoders of this model do not share their tokens, which context and "
                    "the initialization “cross” need: turn these settings off."
                )
            is_word = [isinstance(token, tuple) for token in tokens]
            is_text = [
                isinstance(token, int) and i >= before and token not in special
                for i, token in enumerate(tokens)
            ]
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
        """See `FrozenModel`."""
        self._hold_still()
        return self._network.predict(noisy, timesteps, conditioning)

    def _hold_still(self) -> None:
        """Have the host load everything, then keep it where it is until `close`."""
        if self._is_open:
            return
        encoder, text_model = self._clip.patcher, self._clip.cond_stage_model
        budget = self._budget
        self._load()
        stack = self._open
        network = HostWeights(self._base, self.device, self.compute_dtype, wide=budget.just_in_time)
        text = HostWeights(text_model, encoder.load_device, torch.float32, wide=budget.wide_text)
        try:
            self._left = stack.enter_context(held_still(network, text, budget))
            stack.enter_context(raw_output(self._base))
            stack.enter_context(training_flag())
            stack.enter_context(plain_kernels())
            if self._family and self._family.overwrites:
                stack.enter_context(torch.autograd.graph.allow_mutation_on_saved_tensors())
            text_model.reset_clip_options()
            stack.callback(text_model.reset_clip_options)
            if self._clip.layer_idx is not None:
                text_model.set_clip_options({"layer": self._clip.layer_idx})
            text_model.set_clip_options({"execution_device": encoder.load_device})
        except BaseException:
            stack.close()
            raise
        self._is_open = True

    def _load(self) -> None:
        """Have the host load both models, as much of them as the budget leaves room for."""
        budget = self._budget
        with torch.inference_mode():
            comfy.model_management.load_models_gpu(
                [self._model, self._clip.patcher],
                memory_required=budget.needed + withheld(self._model, self._capacity),
                force_full_load=not budget.just_in_time,
            )


def _shared(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many tokens two prompts have in common from the start."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
