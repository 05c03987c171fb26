"""Prompts with live vectors through the host's text encoders, batched and differentiably.

Every family combines its encoders in code of its own (`encode_token_weights`). That code
runs here as it stands, one prompt at a time, but each encoder inside it answers from one
batched pass over all prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from .gradients import OutOfPlace, replaced
from .places import TokenVector
from .text_encoders import HostEncoder

Tokens = Sequence[Any]
"""Ids, and tensors [width] where a vector stands for a token."""

Encoded = tuple[Tensor, Tensor | None, dict[str, Tensor]]
"""Hidden states [chunks, tokens, width], pooled output [chunks, width], other outputs."""


def encode_prompts(
    cond_stage_model: Any,
    encoders: Sequence[HostEncoder],
    prompts: Sequence[Mapping[str, Any]],
    vectors: Mapping[str, Tensor],
) -> list[dict[str, Any]]:
    """Encode tokenised prompts; each result is what the host's CLIP gives for a prompt.

    Vectors are [vectors, width], or [prompts, vectors, width], for each prompt its own.

    Returns:
        for each prompt `cond` [1, tokens, width], `pooled_output` and what else the family
        has.
    """
    if all(rows.ndim == 2 for rows in vectors.values()):
        live = [_live(vectors)] * len(prompts)
    else:
        live = [_live({k: rows[i] for k, rows in vectors.items()}) for i in range(len(prompts))]
    filled = [_with_vectors(prompt, own) for prompt, own in zip(prompts, live, strict=True)]
    with ExitStack() as stack:
        for encoder in encoders:
            chunks = [
                [token[0] for token in chunk]
                for prompt in filled
                for chunk in encoder.tokens_of(prompt)
            ]
            stack.enter_context(_answering_from(encoder.model, chunks))
        results = []
        for prompt in filled:
            cond, pooled, *extra = cond_stage_model.encode_token_weights(prompt)
            results.append({"cond": cond, "pooled_output": pooled, **(extra[0] if extra else {})})
    return results


def _live(vectors: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
    """One object for each vector, by which chunks are told apart."""
    return {key: [v.as_subclass(TokenVector) for v in rows] for key, rows in vectors.items()}


def _with_vectors(
    prompt: Mapping[str, Any], live: Mapping[str, Sequence[Tensor]]
) -> dict[str, Any]:
    """A prompt with vectors where pairs (encoder key, index) keep their places."""

    def fill(token: Any) -> Any:
        place = token[0] if isinstance(token, tuple) else None
        return (live[place[0]][place[1]], *token[1:]) if isinstance(place, tuple) else token

    def fill_chunks(chunks: Any) -> Any:
        if not isinstance(chunks, list):
            return chunks
        return [[fill(t) for t in chunk] if isinstance(chunk, list) else chunk for chunk in chunks]

    return {name: fill_chunks(chunks) for name, chunks in prompt.items()}


@contextmanager
def _answering_from(model: Any, chunks: Sequence[Tokens]) -> Iterator[None]:
    """Let an encoder answer from one batched pass over these chunks."""
    answers: dict[Hashable, Encoded] = {}

    def learn(wanted: Sequence[Tokens]) -> None:
        missing = {_identity(c): c for c in wanted if _identity(c) not in answers}
        for length in {len(c) for c in missing.values()}:
            group = {k: c for k, c in missing.items() if len(c) == length}
            encoded = _forward(model, [list(c) for c in group.values()])
            for i, key in enumerate(group):
                answers[key] = _map(encoded, lambda t, i=i: t[i : i + 1])  # type: ignore[misc]

    def encode(wanted: Sequence[Tokens]) -> tuple[Any, ...]:
        learn(wanted)
        parts = [answers[_identity(c)] for c in wanted]
        hidden, pooled, extra = (
            torch.cat([p[0] for p in parts]),
            None if parts[0][1] is None else torch.cat([p[1] for p in parts if p[1] is not None]),
            {k: torch.cat([p[2][k] for p in parts]) for k in parts[0][2]},
        )
        return (hidden, pooled, extra) if extra else (hidden, pooled)

    learn(chunks)
    with replaced(model, "encode", encode):
        yield


def _forward(model: Any, chunks: Sequence[Tokens]) -> Encoded:
    live = [[t if isinstance(t, int) else t.as_subclass(OutOfPlace) for t in c] for c in chunks]
    hidden, pooled, *extra = model(live)
    return _map((hidden, pooled, extra[0] if extra else {}), lambda t: t.as_subclass(Tensor))


def _map(encoded: Encoded, function: Callable[[Tensor], Tensor]) -> Encoded:
    hidden, pooled, extra = encoded
    return (
        function(hidden),
        None if pooled is None else function(pooled),
        {k: function(v) for k, v in extra.items()},
    )


def _identity(chunk: Tokens) -> Hashable:
    return tuple(token if isinstance(token, int) else id(token) for token in chunk)
