"""Names and shapes of weights in the single-file layout of Stable Diffusion checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

CHANNELS = 320
"""Width of the UNet's first level, by which ComfyUI tells the family. Here: of every level."""

TIME = 4 * CHANNELS
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class UNet:
    """A UNet of the families SD1, SD2 and SDXL. One entry per level in `depths` and `depths_up`."""

    context: int
    depths: tuple[int, ...]
    """Transformer blocks after each residual block on the way down; 0: none at this level."""
    depths_up: tuple[int, ...]
    """The same on the way up, also from the finest level to the coarsest."""
    depth_middle: int
    blocks: int
    """Residual blocks per level on the way down; one more on the way up."""
    heads: int
    linear: bool
    """Transformers begin and end with a linear layer rather than a 1×1 convolution."""
    extra: int | None = None
    """Width of the pooled text and size vector of SDXL."""


def unet_shapes(unet: UNet) -> Shapes:
    """All weights of a UNet, without prefix."""
    shapes: Shapes = {}
    _affine(shapes, "time_embed.0", (TIME, CHANNELS))
    _affine(shapes, "time_embed.2", (TIME, TIME))
    if unet.extra is not None:
        _affine(shapes, "label_emb.0.0", (TIME, unet.extra))
        _affine(shapes, "label_emb.0.2", (TIME, TIME))

    _affine(shapes, "input_blocks.0.0", (CHANNELS, 4, 3, 3))
    number = 1
    for level, depth in enumerate(unet.depths):
        for _ in range(unet.blocks):
            _residual(shapes, f"input_blocks.{number}.0", CHANNELS)
            if depth:
                _transformer(shapes, f"input_blocks.{number}.1", unet, depth)
            number += 1
        if level < len(unet.depths) - 1:
            _affine(shapes, f"input_blocks.{number}.0.op", (CHANNELS, CHANNELS, 3, 3))
            number += 1

    _residual(shapes, "middle_block.0", CHANNELS)
    _transformer(shapes, "middle_block.1", unet, unet.depth_middle)
    _residual(shapes, "middle_block.2", CHANNELS)

    number = 0
    for level, depth in reversed(list(enumerate(unet.depths_up))):
        for block in range(unet.blocks + 1):
            _residual(shapes, f"output_blocks.{number}.0", 2 * CHANNELS)
            if depth:
                _transformer(shapes, f"output_blocks.{number}.1", unet, depth)
            if level and block == unet.blocks:
                place = f"output_blocks.{number}.{2 if depth else 1}.conv"
                _affine(shapes, place, (CHANNELS, CHANNELS, 3, 3))
            number += 1

    _norm(shapes, "out.0", CHANNELS)
    _affine(shapes, "out.2", (4, CHANNELS, 3, 3))
    return shapes


def _residual(shapes: Shapes, name: str, width: int) -> None:
    _norm(shapes, f"{name}.in_layers.0", width)
    _affine(shapes, f"{name}.in_layers.2", (CHANNELS, width, 3, 3))
    _affine(shapes, f"{name}.emb_layers.1", (CHANNELS, TIME))
    _norm(shapes, f"{name}.out_layers.0", CHANNELS)
    _affine(shapes, f"{name}.out_layers.3", (CHANNELS, CHANNELS, 3, 3))
    if width != CHANNELS:
        _affine(shapes, f"{name}.skip_connection", (CHANNELS, width, 1, 1))


def _transformer(shapes: Shapes, name: str, unet: UNet, depth: int) -> None:
    border = (CHANNELS, CHANNELS) if unet.linear else (CHANNELS, CHANNELS, 1, 1)
    _norm(shapes, f"{name}.norm", CHANNELS)
    _affine(shapes, f"{name}.proj_in", border)
    for number in range(depth):
        block = f"{name}.transformer_blocks.{number}"
        for attention, source in (("attn1", CHANNELS), ("attn2", unet.context)):
            shapes[f"{block}.{attention}.to_q.weight"] = (CHANNELS, CHANNELS)
            shapes[f"{block}.{attention}.to_k.weight"] = (CHANNELS, source)
            shapes[f"{block}.{attention}.to_v.weight"] = (CHANNELS, source)
            _affine(shapes, f"{block}.{attention}.to_out.0", (CHANNELS, CHANNELS))
        _affine(shapes, f"{block}.ff.net.0.proj", (8 * CHANNELS, CHANNELS))
        _affine(shapes, f"{block}.ff.net.2", (CHANNELS, 4 * CHANNELS))
        for norm in ("norm1", "norm2", "norm3"):
            _norm(shapes, f"{block}.{norm}", CHANNELS)
    _affine(shapes, f"{name}.proj_out", border)


@dataclass(frozen=True)
class TextEncoder:
    """A CLIP text encoder."""

    width: int
    layers: int
    heads: int
    activation: str
    tokens: int = 49408
    positions: int = 77


def transformers_shapes(encoder: TextEncoder) -> Shapes:
    """CLIP as the library transformers names it: CLIP-L in SD1 and SDXL."""
    width, shapes = encoder.width, Shapes()
    shapes["embeddings.token_embedding.weight"] = (encoder.tokens, width)
    shapes["embeddings.position_embedding.weight"] = (encoder.positions, width)
    for name in _numbered("encoder.layers", encoder):
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            _affine(shapes, f"{name}.self_attn.{projection}", (width, width))
        _affine(shapes, f"{name}.mlp.fc1", (4 * width, width))
        _affine(shapes, f"{name}.mlp.fc2", (width, 4 * width))
        _norm(shapes, f"{name}.layer_norm1", width)
        _norm(shapes, f"{name}.layer_norm2", width)
    _norm(shapes, "final_layer_norm", width)
    return shapes


def open_clip_shapes(encoder: TextEncoder) -> Shapes:
    """CLIP as OpenCLIP names it: CLIP-H in SD2, CLIP-G in SDXL."""
    width, shapes = encoder.width, Shapes()
    shapes["token_embedding.weight"] = (encoder.tokens, width)
    shapes["positional_embedding"] = (encoder.positions, width)
    shapes["text_projection"] = (width, width)
    for name in _numbered("transformer.resblocks", encoder):
        shapes[f"{name}.attn.in_proj_weight"] = (3 * width, width)
        shapes[f"{name}.attn.in_proj_bias"] = (3 * width,)
        _affine(shapes, f"{name}.attn.out_proj", (width, width))
        _affine(shapes, f"{name}.mlp.c_fc", (4 * width, width))
        _affine(shapes, f"{name}.mlp.c_proj", (width, 4 * width))
        _norm(shapes, f"{name}.ln_1", width)
        _norm(shapes, f"{name}.ln_2", width)
    _norm(shapes, "ln_final", width)
    return shapes


def autoencoder_shapes() -> dict[str, Shapes]:
    """TAESD: `encoder` and `decoder`."""
    encoder, decoder = Shapes(), Shapes()
    _affine(encoder, "0", (64, 3, 3, 3))
    for name in range(1, 14):
        if name in (2, 6, 10):
            encoder[f"{name}.weight"] = (64, 64, 3, 3)
        else:
            _autoencoder_block(encoder, name)
    _affine(encoder, "14", (4, 64, 3, 3))

    _affine(decoder, "1", (64, 4, 3, 3))
    for name in range(3, 18):
        if name in (7, 12, 17):
            decoder[f"{name}.weight"] = (64, 64, 3, 3)
        elif name not in (6, 11, 16):  # these scale up and have no weights
            _autoencoder_block(decoder, name)
    _autoencoder_block(decoder, 18)
    _affine(decoder, "19", (3, 64, 3, 3))
    return {"encoder": encoder, "decoder": decoder}


def _autoencoder_block(shapes: Shapes, name: int) -> None:
    for number in (0, 2, 4):
        _affine(shapes, f"{name}.conv.{number}", (64, 64, 3, 3))


def _affine(shapes: Shapes, name: str, shape: tuple[int, ...]) -> None:
    shapes[f"{name}.weight"] = shape
    shapes[f"{name}.bias"] = shape[:1]


def _norm(shapes: Shapes, name: str, width: int) -> None:
    _affine(shapes, name, (width,))


def _numbered(name: str, encoder: TextEncoder) -> Iterator[str]:
    return (f"{name}.{number}" for number in range(encoder.layers))
