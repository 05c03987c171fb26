"""The text encoders of a diffusers pipeline: prompts with places for a word, encoded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..embeddings.embedding import Rows
from ..embeddings.encoders import KEY_OF_WIDTH
from ..model import TextEncoder, TextStates
from ..prompts import WeightedGroup, weighted_groups
from .clip_tokens import ChunkFormat, chunk_rows, chunk_weights, place_vectors
from .loading import text_encoder


@dataclass(frozen=True)
class DiffusersConditioning:
    """Encoded prompts.

    Attributes:
        states: [batch, tokens, width], the widths of both encoders joined.
        pooled: [batch, width of the projection] for SDXL, otherwise None.
    """

    states: Tensor
    pooled: Tensor | None


class PromptEncoder:
    """One or two CLIP encoders with their tokenizers, as they are.

    Attributes:
        described: what the trainer needs to know of each.

    Args:
        encoders: `CLIPTextModel`, and for SDXL `CLIPTextModelWithProjection`.
        tokenizers: `CLIPTokenizer`, one for each encoder.
        device: where the encoders are.
        checkpointing: compute inner values twice instead of keeping them.
    """

    def __init__(
        self,
        encoders: Sequence[Any],
        tokenizers: Sequence[Any],
        device: torch.device,
        checkpointing: bool,
    ) -> None:
        self._encoders, self._tokenizers = list(encoders), list(tokenizers)
        self._device, self._checkpointing = device, checkpointing
        self.described: Sequence[TextEncoder] = [
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

    def tokenize(self, prompt: str, num_vectors: int) -> list[list[WeightedGroup]]:
        """The prompt's tokens for each encoder, split where the word stands; brackets are weights.

        How many places a mention takes is decided by the vectors in `encode_prompts`:
        an encoder for which the word has none skips it, as ComfyUI does.
        """
        return [weighted_groups(prompt, encoder.token_ids) for encoder in self.described]

    def encode_prompts(
        self, prompts: Sequence[list[list[WeightedGroup]]], vectors: Rows
    ) -> DiffusersConditioning:
        """Encode a batch of prompts; see `FrozenModel.encode_prompts`.

        A prompt of more than one chunk gives the states of its chunks one after the other
        and the pooled state of the first. Shorter prompts of the batch are repeated, which
        does not change what attention over them gives.
        """
        encoded = []
        for i, encoder in enumerate(self.described):
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
        self, prompts: Sequence[list[list[WeightedGroup]]], vectors: Rows
    ) -> list[TextStates]:
        """See `FrozenModel.text_states`; of tokens that one encoder lacks, none is told."""
        encoded = []
        for prompt in prompts:
            parts, words, texts = [], [], []
            for i, encoder in enumerate(self.described):
                rows = vectors.get(encoder.key)
                form = self._formats[i]
                chunked = chunk_rows(_groups(prompt[i]), 0 if rows is None else rows.shape[0], form)
                tokens = torch.tensor(chunked, device=self._device).flatten()
                special = torch.tensor([form.start, form.end, form.pad], device=self._device)
                parts.append(self._encode(i, [prompt[i]], rows)[0][0])
                words.append(tokens < 0)
                texts.append((tokens >= 0) & ~torch.isin(tokens, special))
            shared = min(len(part) for part in parts)
            states = torch.cat([part[:shared].float() for part in parts], dim=-1)
            encoded.append(TextStates(states, words[0][:shared], texts[0][:shared]))
        return encoded

    def _text_encoder(self, index: int) -> TextEncoder:
        tokenizer = self._tokenizers[index]
        vocabulary = self._encoders[index].get_input_embeddings().weight
        key = KEY_OF_WIDTH.get(vocabulary.shape[1], ("clip_l", "clip_g")[index])

        return text_encoder(key, vocabulary, tokenizer)

    def _encode(
        self,
        index: int,
        prompts: Sequence[list[WeightedGroup]],
        vectors: Tensor | None,
    ) -> tuple[list[Tensor], Tensor | None]:
        """Per prompt its states [tokens, width], and for SDXL the pooled [prompts, width]."""
        encoder, form = self._encoders[index], self._formats[index]
        count = 0 if vectors is None else vectors.shape[-2]
        chunked = [chunk_rows(_groups(prompt), count, form) for prompt in prompts]
        if vectors is not None and vectors.ndim == 3:
            chunks = torch.tensor([len(rows) for rows in chunked], device=vectors.device)
            vectors = vectors.repeat_interleave(chunks, dim=0)
        tokens = torch.tensor([row for rows in chunked for row in rows], device=self._device)

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
        weights = [row for prompt in prompts for row in chunk_weights(prompt, count, form)]
        states = self._weighted(index, states, torch.tensor(weights, device=self._device))
        counts = [len(rows) for rows in chunked]
        pooled = None
        if hasattr(output, "text_embeds"):
            pooled = torch.stack([each[0] for each in output.text_embeds.split(counts)])
        return [each.flatten(0, 1) for each in states.split(counts)], pooled

    def _weighted(self, index: int, states: Any, weights: Tensor) -> Any:
        """Move states away from those of an empty prompt, or nearer, as ComfyUI weights them.

        Args:
            index: of the encoder.
            states: [chunks, length, width].
            weights: [chunks, length].
        """
        if bool((weights == 1).all()):
            return states
        with torch.no_grad():
            (empty,), _ = self._encode(index, [[]], None)
        weights = weights[..., None].to(states)
        return torch.where(weights == 1, states, empty + (states - empty) * weights)

    @property
    def _is_xl(self) -> bool:
        return len(self._encoders) == 2


def _groups(prompt: Sequence[WeightedGroup]) -> list[list[int] | None]:
    return [group for group, _ in prompt]
