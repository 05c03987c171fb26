"""Finds the words and their vectors in what an embedding file holds.

`RECOGNISERS` has one function for each way in which tools lay out embeddings, and one for
each kind of file that people take for an embedding. The first that knows the content decides.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..embeddings.encoders import KEY_OF_LABEL, KEY_OF_WIDTH, WIDTH_OF_KEY
from .refused import Refused

Labelled = list[tuple[str, Tensor]]
"""Tensors, each with the label it had in the file, "" where that says nothing."""

Words = dict[str, Labelled]
"""Word -> its tensors. The word is "" where the file does not name it."""

_LABELS: Mapping[str, str] = {
    "emb_params": "",
    "emp_params": "",  # OneTrainer spells it so.
    **KEY_OF_LABEL,
}
"""How tools name a text encoder's tensor -> ComfyUI's key, "" where only the width tells."""

_ENCODER_KEY = re.compile(
    r"clip_[lgh]|(llama|gemma|qwen|mistral|ministral|jina|hidream|gpt_oss)\w*|(pile_|um|u|m|by)?t5\w*"
    r"|chinese_roberta"
)
"""ComfyUI's keys of text encoders."""

_MAX_ELEMENTS = 4 * 1024 * 1024
_MAX_VECTORS = 8192
BUNDLE = "bundle_emb."
"""How the names of a word's tensors begin inside a LoRA."""

_LORA_KEY = re.compile(
    r"(lora|lycoris)_(te|unet|transformer)|.*([._]lora[._]|lora_(up|down|A|B|mid)\b|hada_w|lokr_w)"
    r"|.*(:down|:up|\.alpha)$"
)
_CHECKPOINT_MARKS = (
    "model.diffusion_model.",
    "first_stage_model.",
    "cond_stage_model.",
    "conditioner.",
    "text_model.",
    "state_dict",
    "transformer_blocks.",
)


@dataclass(frozen=True)
class Content:
    """What a container holds, before anybody knows what it means.

    Attributes:
        tree: dictionaries, lists, text, numbers and tensors, as the file nests them.
        metadata: the text beside the tensors of a safetensors file.
    """

    tree: object
    metadata: Mapping[str, str] = field(default_factory=dict)


def find_words(content: Content) -> Words:
    """The words in a file.

    Raises:
        Refused: the file is something other than an embedding.
    """
    for recognise in RECOGNISERS:
        words = recognise(content)
        if words:
            return words
    raise Refused("holds nothing that reads as an embedding: choose another file.")


def by_encoder(labelled: Labelled) -> dict[str, Tensor]:
    """Sort the tensors of one word to the text encoders, by their width first.

    Args:
        labelled: labels of the file and tensors of shape [width] or [vectors, width].

    Returns:
        ComfyUI's key of an encoder -> float32 tensor [vectors, width] in its own memory.

    Raises:
        Refused: output of an encoder, zeros, values that are not numbers, or two tensors
            for one encoder.
    """
    rows: dict[str, Tensor] = {}
    if sum(math.prod(tensor.shape) for _, tensor in labelled) > _MAX_ELEMENTS:
        raise Refused("has too many vectors for an embedding: it is a model.")
    for label, tensor in labelled:
        if tensor.ndim > 2:
            raise Refused(_ENCODER_OUTPUT)
        if math.prod(tensor.shape[:-1]) > _MAX_VECTORS:
            raise Refused("has too many vectors for an embedding: it is a model.")
        key = _encoder(label, tensor.shape[-1])
        if key in rows:
            raise Refused(
                f"has two tensors for {key}, and nothing says which to use: save one of them."
            )
        rows[key] = tensor.detach().to(torch.float32, copy=True).reshape(-1, tensor.shape[-1])
    for key, tensor in rows.items():
        if not torch.isfinite(tensor).all():
            raise Refused(
                f"holds values that are not numbers (NaN or infinity) for {key}: it is damaged, or "
                "its training went wrong; download it again or use an earlier step."
            )
    learned = {key: tensor for key, tensor in rows.items() if tensor.any()}
    if not learned:
        raise Refused("holds nothing but zeros: it was saved before anything was learned.")
    for key in rows.keys() - learned.keys():
        logging.getLogger(__name__).warning("The vectors for %s are all zero: left out.", key)
    return learned


def _key_of(label: str) -> str | None:
    """ComfyUI's key of an encoder, "" where the label leaves that open, None for other labels."""
    return _LABELS.get(label, label if _ENCODER_KEY.fullmatch(label) else None)


def _encoder(label: str, width: int) -> str:
    key = _key_of(label)
    by_width = KEY_OF_WIDTH.get(width)
    if key and (by_width is None or WIDTH_OF_KEY.get(key, width) == width):
        return key
    return by_width or f"width_{width}"


_ENCODER_OUTPUT = (
    "holds the output of a text encoder, not an embedding (as ReNeg is distributed): it is used "
    "as conditioning, not as a word in a prompt."
)


def _tensors(tree: object) -> dict[str, Tensor]:
    """The entries of a dictionary that could be vectors."""
    if not isinstance(tree, dict):
        return {}
    return {
        # One vector may stand in any number of brackets, such as [1, 1, 768].
        key: value if value.ndim <= 2 or value.numel() > value.shape[-1] else value.reshape(1, -1)
        for key, value in tree.items()
        if isinstance(key, str)
        and isinstance(value, Tensor)
        and value.is_floating_point()
        and value.ndim
        and value.numel()
    }


def _string_to_param(content: Content) -> Words:
    """AUTOMATIC1111 (one entry, the placeholder `*`) and the code of the paper (several)."""
    tree = content.tree if isinstance(content.tree, dict) else {}
    return {word: [("", tensor)] for word, tensor in _tensors(tree.get("string_to_param")).items()}


def _bundle(content: Content) -> Words:
    """OneTrainer's words inside a LoRA: `bundle_emb.<word>.<label>`."""
    words: Words = {}
    for key, tensor in _tensors(content.tree).items():
        if key.startswith(BUNDLE) and not key.endswith("_out"):
            path = key.removeprefix(BUNDLE).removesuffix(".string_to_param.*")
            word, _, label = path.rpartition(".")
            if word and _key_of(label) is not None:
                words.setdefault(word, []).append((label, tensor))
            else:
                words.setdefault(path, []).append(("", tensor))
    return words


def _beside_lora(content: Content) -> Words:
    """cloneofsimo's words inside a LoRA, marked in the metadata."""
    return {
        key: [("", tensor)]
        for key, tensor in _tensors(content.tree).items()
        if content.metadata.get(key) == "<embed>"
    }


def is_lora(keys: Iterable[str]) -> bool:
    """Whether names of tensors are those of a LoRA."""
    return any(_LORA_KEY.match(key) for key in keys)


def _no_lora(content: Content) -> Words:
    if is_lora(_keys(content.tree)):
        raise Refused("is a LoRA, not an embedding: load it with a LoRA loader.")
    return {}


def _no_optimizer(content: Content) -> Words:
    if "optimizer_state_dict" in _keys(content.tree):
        raise Refused(
            "is the state of an optimizer, kept beside an embedding to continue training: choose "
            "the file of the same name without “.optim”."
        )
    return {}


def _no_layers(content: Content) -> Words:
    """kohya's XTI (arXiv 2303.09522): each layer of the network reads a word of its own."""
    if "IN01" in (keys := _keys(content.tree)) and len(keys) == 16 and "OUT11" in keys:
        raise Refused(
            "is an XTI embedding of kohya's scripts: 16 words, one for each layer of the network. "
            "A word in a prompt is the same for all layers, so it works only in those scripts."
        )
    return {}


def _no_checkpoint(content: Content) -> Words:
    keys = _keys(content.tree)
    if len(keys) > 100 or any(key.startswith(_CHECKPOINT_MARKS) for key in keys):
        raise Refused("is a model, not an embedding: load it with a checkpoint loader.")
    return {}


def _encoders(content: Content) -> Words:
    """One word, a tensor for each text encoder (kohya, OneTrainer, ai-toolkit, diffusers, …).

    OneTrainer's `…_out` tensors replace the output of an encoder, which no prompt can do.
    """
    tensors = _tensors(content.tree)
    inputs = {key: tensor for key, tensor in tensors.items() if not key.endswith("_out")}
    if any(_key_of(key.removesuffix("_out")) is None for key in tensors):
        return {}
    if len(inputs) < len(tensors) and not any(tensor.any() for tensor in inputs.values()):
        raise Refused(
            "holds only vectors that replace the output of a text encoder (OneTrainer's “output "
            "embedding”), which no prompt can use: train it without that option."
        )
    return {"": list(inputs.items())} if inputs else {}


def _list(content: Content) -> Words:
    """A list of tensors or of dictionaries of tensors; those of one width are one word's rows."""
    if not isinstance(content.tree, (list, tuple)):
        return {}
    found: dict[int, list[Tensor]] = {}
    for item in content.tree[:100]:
        for tensor in _tensors(item if isinstance(item, dict) else {"": item}).values():
            found.setdefault(tensor.shape[-1], []).append(tensor)
    if any(t.ndim > 2 for group in found.values() for t in group):
        raise Refused(_ENCODER_OUTPUT)
    if sum(t.numel() for group in found.values() for t in group) > _MAX_ELEMENTS:
        raise Refused("has too many vectors for an embedding: it is a model.")
    stacks = {w: torch.cat([t.reshape(-1, w) for t in group]) for w, group in found.items()}
    return {"": [("", tensor) for tensor in stacks.values()]} if stacks else {}


def _bare_tensor(content: Content) -> Words:
    rows = _tensors({"": content.tree})
    if any(t.ndim <= 2 and t.shape[-1] not in KEY_OF_WIDTH for t in rows.values()):
        return {}
    return {"": list(rows.items())} if rows else {}


def _tokens(content: Content) -> Words:
    """diffusers, sd-concepts-library, refiners: token -> vectors."""
    tensors = _tensors(content.tree)
    if all(
        t.ndim <= 2 and (t.shape[-1] in KEY_OF_WIDTH or _is_token(k)) for k, t in tensors.items()
    ):
        return {key: [("", tensor)] for key, tensor in tensors.items()}
    return {}


def _is_token(key: str) -> bool:
    return key.startswith("<") and key.endswith(">")


def _keys(tree: object) -> list[str]:
    return [key for key in tree if isinstance(key, str)] if isinstance(tree, dict) else []


RECOGNISERS: Sequence[Callable[[Content], Words]] = (
    _string_to_param,
    _bundle,
    _beside_lora,
    _no_lora,
    _no_optimizer,
    _no_layers,
    _no_checkpoint,
    _encoders,
    _list,
    _bare_tensor,
    _tokens,
)
"""Content -> its words, {} where the layout is another; those named `_no_…` only refuse."""
