"""The seam over diffusers and transformers objects: SD1, SD2 and SDXL base.

Nothing of those libraries is imported here: the objects are handed in, or come from
`diffusers_files`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .clip_tokens import ChunkFormat, chunk_rows, place_vectors, split_at_word
from .embedding import KEY_OF_WIDTH
from .errors import InputError
from .metadata import describe_model
from .model import NoiseSchedule, Parameterization, TextEncoder, TextStates

_PARAMETERIZATIONS: Mapping[str, Parameterization] = {
    "epsilon": "epsilon",
    "v_prediction": "v_prediction",
}


@dataclass(frozen=True)
class DiffusersConditioning:
    """Encoded prompts.

    Attributes:
        states: [batch, tokens, width], the widths of both encoders joined.
        pooled: [batch, width of the projection] for SDXL, otherwise None.
    """

    states: Tensor
    pooled: Tensor | None


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
        checkpointing: compute inner values twice instead of keeping them.

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
        checkpointing: bool = False,
    ) -> None:
        self.parameterization: Parameterization = _parameterization(scheduler)
        self.schedule = NoiseSchedule.from_alphas_cumprod(scheduler.alphas_cumprod)
        self._pixels_per_latent = 2 ** (len(vae.config.block_out_channels) - 1)
        self.compute_dtype: torch.dtype = unet.dtype
        self.device: torch.device = unet.device
        self.pictures_at_once: int | None = None
        self._unet, self._vae = unet, vae
        self._encoders, self._tokenizers = list(text_encoders), list(tokenizers)
        for part in (unet, vae, *text_encoders):
            part.requires_grad_(False).eval()
        self.text_encoders: Sequence[TextEncoder] = [
            self._text_encoder(i) for i in range(len(self._encoders))
        ]
        self._formats = [
            ChunkFormat(
                start=tokenizer.bos_token_id,
                end=tokenizer.eos_token_id,
                pad=tokenizer.pad_token_id,
                length=encoder.config.max_position_embeddings,
            )
            for encoder, tokenizer in zip(self._encoders, self._tokenizers, strict=True)
        ]
        self._refuse_other_kinds()
        self._checkpointing = checkpointing
        if checkpointing:
            unet.enable_gradient_checkpointing()
        else:
            unet.disable_gradient_checkpointing()

        self._checkpoint = Path(name).stem

    @property
    def description(self) -> Mapping[str, str]:
        """See `FrozenModel`."""
        return describe_model(
            self.text_encoders,
            self.parameterization,
            self._unet.parameters(),
            self._checkpoint,
            f"diffusers {version('diffusers')}",
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
    ) -> DiffusersModel:
        """Load a diffusers folder, or one SD1, SD2 or SDXL file of weights.

        Args:
            path: a folder with `model_index.json`, or a `.safetensors` file.
            device: where to put everything.
            dtype: of the U-Net; encoders and VAE are kept in float32.
            config: for a file, a diffusers folder of the same family (weights are not
                needed) from which the configuration is taken instead of from the hub.
            checkpointing: see the class.

        Raises:
            InputError: diffusers is not installed, or this cannot be loaded or trained on.
        """
        from .diffusers_files import load_parts

        parts = load_parts(Path(path), dtype, config)
        for part in (parts.unet, parts.vae, *parts.text_encoders):
            part.to(device)
        return cls(
            parts.unet,
            parts.vae,
            parts.text_encoders,
            parts.tokenizers,
            parts.scheduler,
            name=Path(path).name,
            checkpointing=checkpointing,
        )

    def tokenize(self, prompt: str, num_vectors: int) -> list[list[list[int] | None]]:
        """The prompt's tokens for each encoder, split where the word stands.

        How many places a mention takes is decided by the vectors in `encode_prompts`:
        an encoder for which the word has none skips it, as ComfyUI does.
        """
        return [split_at_word(prompt, encoder.token_ids) for encoder in self.text_encoders]

    def encode_prompts(
        self, prompts: Sequence[list[list[list[int] | None]]], vectors: Mapping[str, Tensor]
    ) -> DiffusersConditioning:
        """Encode a batch of prompts; see `FrozenModel.encode_prompts`.

        A prompt of more than one chunk gives the states of its chunks one after the other
        and the pooled state of the first. Shorter prompts of the batch are repeated, which
        does not change what attention over them gives.
        """
        encoded = []
        for i, encoder in enumerate(self.text_encoders):
            inputs = (i, [prompt[i] for prompt in prompts], vectors.get(encoder.key))
            if self._checkpointing:
                # As a whole: its values are needed again only when the U-Net's are gone.
                encoded.append(checkpoint(self._encode, *inputs, use_reentrant=False))
            else:
                encoded.append(self._encode(*inputs))
        joined = [
            torch.cat([s[: min(len(s) for s in states)] for s in states], dim=-1)
            for states in zip(*(states for states, _ in encoded), strict=True)
        ]
        length = math.lcm(*(len(s) for s in joined))
        states = torch.stack([s.repeat(length // len(s), 1) for s in joined])
        return DiffusersConditioning(states, encoded[-1][1])

    def text_states(
        self, prompts: Sequence[list[list[list[int] | None]]], vectors: Mapping[str, Tensor]
    ) -> list[TextStates]:
        """See `FrozenModel.text_states`; of tokens that one encoder lacks, none is told."""
        encoded = []
        for prompt in prompts:
            parts, words, texts = [], [], []
            for i, encoder in enumerate(self.text_encoders):
                rows = vectors.get(encoder.key)
                form = self._formats[i]
                chunked = chunk_rows(prompt[i], 0 if rows is None else rows.shape[0], form)
                tokens = torch.tensor(chunked, device=self.device).flatten()
                special = torch.tensor([form.start, form.end, form.pad], device=self.device)
                parts.append(self._encode(i, [prompt[i]], rows)[0][0])
                words.append(tokens < 0)
                texts.append((tokens >= 0) & ~torch.isin(tokens, special))
            shared = min(len(part) for part in parts)
            states = torch.cat([part[:shared].float() for part in parts], dim=-1)
            encoded.append(TextStates(states, words[0][:shared], texts[0][:shared]))
        return encoded

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

    def _text_encoder(self, index: int) -> TextEncoder:
        tokenizer = self._tokenizers[index]
        vocabulary = self._encoders[index].get_input_embeddings().weight
        key = KEY_OF_WIDTH.get(vocabulary.shape[1], ("clip_l", "clip_g")[index])

        def token_ids(text: str) -> list[int]:
            # Quiet: prompts longer than one chunk are expected here.
            return list(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)

        return TextEncoder(
            key, vocabulary, token_ids, word=tokenizer.decode, padding=tokenizer.pad_token_id
        )

    def _encode(
        self,
        index: int,
        prompts: Sequence[list[list[int] | None]],
        vectors: Tensor | None,
    ) -> tuple[list[Tensor], Tensor | None]:
        """Per prompt its states [tokens, width], and for SDXL the pooled [prompts, width]."""
        encoder, form = self._encoders[index], self._formats[index]
        count = 0 if vectors is None else vectors.shape[0]
        chunked = [chunk_rows(prompt, count, form) for prompt in prompts]
        tokens = torch.tensor([row for rows in chunked for row in rows], device=self.device)

        def put_vectors(_module: Any, _inputs: Any, embedded: Tensor) -> Tensor:
            return embedded if vectors is None else place_vectors(embedded, tokens, vectors)

        # The ids at kept places are only looked at to find the end of the text: either its
        # id or the largest one. The start token, which stands before them, is never taken.
        ids = torch.where(tokens < 0, form.start, tokens)
        hook = encoder.get_input_embeddings().register_forward_hook(put_vectors)
        try:
            output = encoder(ids, output_hidden_states=self._is_xl)
        finally:
            hook.remove()
        states = output.hidden_states[-2] if self._is_xl else output.last_hidden_state
        counts = [len(rows) for rows in chunked]
        pooled = None
        if hasattr(output, "text_embeds"):
            pooled = torch.stack([each[0] for each in output.text_embeds.split(counts)])
        return [each.flatten(0, 1) for each in states.split(counts)], pooled

    @property
    def _is_xl(self) -> bool:
        return len(self._encoders) == 2

    def _refuse_other_kinds(self) -> None:
        config = self._unet.config
        if config.in_channels != config.out_channels:
            raise InputError(
                "This is a model for inpainting or editing (its U-Net takes "
                f"{config.in_channels} channels): use the base model that it was made from."
            )
        if getattr(config, "time_cond_proj_dim", None):
            raise InputError(
                "This is a distilled (LCM) model, on which words cannot be learned: use the base "
                "model that it was made from."
            )
        width = sum(e.config.hidden_size for e in self._encoders)
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
