"""Names of the weights: diffusers' on one side, Stable Diffusion's own on the other.

The shipped file uses the layout of the original Stable Diffusion checkpoints, which is
what hosts read. The renaming is one to one, so one table serves both directions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
TEXT_PREFIX = "cond_stage_model.transformer."

Weights = dict[str, torch.Tensor]

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
# The size of the TAESD that hosts know.
TAESD_WIDTH = 64
TAESD_ENCODER_BLOCKS = (1, 3, 3, 3)
TAESD_DECODER_BLOCKS = (3, 3, 3, 1)


def _split(key: str, table: Mapping[str, str]) -> str | None:
    stem, _, leaf = key.rpartition(".")
    return f"{table[stem]}.{leaf}" if stem in table else None


def _unet_key(key: str, layers: int) -> str:
    """The original name of a diffusers UNet weight, for blocks of `layers` layers."""
    ends = _split(key, _UNET_ENDS)
    if ends:
        return ends
    side, _, rest = key.partition("_block")
    parts = rest.split(".")
    if side == "mid":  # mid_block.attentions.0.… and mid_block.resnets.{0,1}.…
        kind, index, tail = parts[1], int(parts[2]), ".".join(parts[3:])
        if kind == "attentions":
            return f"middle_block.1.{tail}"
        return f"middle_block.{2 * index}.{_split(tail, _RESNET)}"
    block, kind, index, tail = int(parts[1]), parts[2], int(parts[3]), ".".join(parts[4:])
    if side == "down":
        first, name = 1 + block * (layers + 1), "input_blocks"
        if kind == "downsamplers":
            return f"{name}.{first + layers}.0.op.{parts[-1]}"
    else:
        first, name = block * (layers + 1), "output_blocks"
        if kind == "upsamplers":
            return f"{name}.{first + layers}.2.{tail}"
    if kind == "attentions":
        return f"{name}.{first + index}.1.{tail}"
    return f"{name}.{first + index}.0.{_split(tail, _RESNET)}"


def _vae_key(key: str) -> str:
    """The original name of a diffusers AutoencoderTiny weight."""
    part, _, index, tail = key.split(".", 3)
    # The original decoder counts its clamp as layer 0.
    return f"taesd_{part}.{int(index) + (part == 'decoder')}.{tail}"


def unet_to_original(weights: Mapping[str, torch.Tensor], layers: int) -> Weights:
    """A diffusers UNet's weights under their names in an original checkpoint."""
    return {UNET_PREFIX + _unet_key(key, layers): value for key, value in weights.items()}


def vae_to_original(weights: Mapping[str, torch.Tensor]) -> Weights:
    """A diffusers AutoencoderTiny's weights under their names in a TAESD file."""
    return {VAE_PREFIX + _vae_key(key): value for key, value in weights.items()}


def _places(blocks: Sequence[int], *, decoder: bool) -> list[tuple[str, int]]:
    """The layers of an encoder or decoder: what they are, and their level."""
    places: list[tuple[str, int]] = [("clamp", 0), ("first", 0), ("relu", 0)] if decoder else []
    for level, count in enumerate(blocks):
        if not decoder:
            places.append(("conv", level))
        places += [("block", level)] * count
        if decoder:
            places += [("upsample", level)] * (level + 1 < len(blocks)) + [("conv", level)]
    return places if decoder else [*places, ("last", 0)]


def _widen(value: torch.Tensor, key: str, width: int, ends: frozenset[str]) -> torch.Tensor:
    """A weight among `width` channels, the added ones all zero."""
    name = key.rpartition(".")[0]
    shape = list(value.shape)
    shape[0] = shape[0] if f"{name} out" in ends else width
    if value.ndim == 4:
        shape[1] = shape[1] if f"{name} in" in ends else width
    wide = torch.zeros(shape, dtype=value.dtype)
    wide[tuple(slice(n) for n in value.shape)] = value
    return wide


def full_taesd(
    weights: Mapping[str, torch.Tensor],
    encoder_blocks: Sequence[int],
    decoder_blocks: Sequence[int],
) -> Weights:
    """The narrow autoencoder as a full-sized TAESD that computes exactly the same.

    Hosts know only TAESD's own size. Channels filled up with zeros stay zero in a
    network without norms, and a residual block of zeros behind another block passes
    everything on.
    """
    full: Weights = {}
    sides = (
        ("taesd_encoder", encoder_blocks, TAESD_ENCODER_BLOCKS, False),
        ("taesd_decoder", decoder_blocks, TAESD_DECODER_BLOCKS, True),
    )
    for side, own, whole, decoder in sides:
        narrow, wide = _places(own, decoder=decoder), _places(whole, decoder=decoder)
        first, last = 1 if decoder else 0, len(narrow) - 1
        ends = frozenset({f"{side}.{first} in", f"{side}.{last} out"})
        seen: dict[tuple[str, int], int] = {}
        for index, place in enumerate(wide):
            number = seen[place] = seen.get(place, -1) + 1
            at = [n for n, other in enumerate(narrow) if other == place]
            source = f"{side}.{at[min(number, len(at) - 1)]}."
            for key, value in weights.items():
                if key.startswith(source):
                    grown = _widen(value, key, TAESD_WIDTH, ends)
                    if number >= len(at):
                        grown = torch.zeros_like(grown)
                    full[f"{side}.{index}.{key.removeprefix(source)}"] = grown
    return full


def text_to_original(weights: Mapping[str, torch.Tensor]) -> Weights:
    """A transformers CLIPTextModel's weights under their names in an original checkpoint."""
    renamed: Weights = {}
    for key, value in weights.items():
        # transformers 5 dropped the level "text_model" from the names in memory.
        stem = key.removeprefix("text_model.")
        if not stem.endswith("position_ids"):
            renamed[f"{TEXT_PREFIX}text_model.{stem}"] = value
    return renamed


def from_original(
    file: Mapping[str, torch.Tensor],
    renamed: Mapping[str, torch.Tensor],
    own: Mapping[str, torch.Tensor],
) -> Weights:
    """A model's own state from a file in the original layout.

    `own` is the model's present state and `renamed` the same state under original
    names, in the same order: together they are the table to read the file by.
    """
    names = [key for key in own if not key.endswith("position_ids")]
    table = zip(names, renamed, strict=True)
    return {mine: file[original].float().reshape(own[mine].shape) for mine, original in table}
