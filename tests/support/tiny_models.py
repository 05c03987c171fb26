"""Diffusers models with random weights, small enough to train in a test.

Everything is built from configurations; nothing is downloaded. The tokenizer knows the
printable ASCII characters and a few whole words, so texts become long quickly.
"""

from __future__ import annotations

import json
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from textual_inversion.trainer.data.pictures import Picture
from textual_inversion.trainer.diffusers_model.model import DiffusersModel

WORDS = ("photo", "cat", "toy", "red")
"""Words that are one token."""

START, END = "<|startoftext|>", "<|endoftext|>"


@dataclass
class TinyParts:
    """The parts of a tiny pipeline."""

    unet: Any
    vae: Any
    text_encoders: list[Any]
    tokenizers: list[Any]
    scheduler: Any

    def model(self, **options: Any) -> DiffusersModel:
        """The trainer's view of them."""
        return DiffusersModel(
            self.unet, self.vae, self.text_encoders, self.tokenizers, self.scheduler, **options
        )

    def vectors(self, count: int = 2) -> dict[str, torch.Tensor]:
        """Vectors of some word for every encoder, always the same."""
        generator = torch.Generator().manual_seed(3)
        return {
            encoder.key: torch.randn(count, encoder.width, generator=generator)
            for encoder in self.model().text_encoders
        }

    def modules(self) -> list[torch.nn.Module]:
        """What has weights."""
        return [self.unet, self.vae, *self.text_encoders]

    def pipeline(self) -> Any:
        """Diffusers' own pipeline over the same objects."""
        from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

        common = {"unet": self.unet, "vae": self.vae, "scheduler": self.scheduler}
        if len(self.text_encoders) == 2:
            return StableDiffusionXLPipeline(
                **common,
                text_encoder=self.text_encoders[0],
                text_encoder_2=self.text_encoders[1],
                tokenizer=self.tokenizers[0],
                tokenizer_2=self.tokenizers[1],
                add_watermarker=False,
            )
        return StableDiffusionPipeline(
            **common,
            text_encoder=self.text_encoders[0],
            tokenizer=self.tokenizers[0],
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


def pictures(count: int = 2) -> list[Picture]:
    """Pictures of nothing, always the same."""
    generator = torch.Generator().manual_seed(4)
    return [Picture(torch.rand(64, 64, 3, generator=generator)) for _ in range(count)]


def tiny(family: str, folder: Path, *, small_vae: bool = False, seed: int = 0) -> TinyParts:
    """Build `sd1`, `sd2-v` or `sdxl`; `folder` takes the files of the tokenizers."""
    torch.manual_seed(seed)
    is_xl = family == "sdxl"
    widths = (32, 48) if is_xl else (32,)
    tokenizers = [
        tokenizer(folder / f"tokenizer-{i}", pads_with_end=i == 0 and family != "sd2-v")
        for i in range(len(widths))
    ]
    parts = TinyParts(
        unet=unet(sum(widths), widths[-1] if is_xl else None),
        vae=tiny_vae() if small_vae else vae(),
        text_encoders=[
            text_encoder(width, tokenizers[i], projection=i == 1) for i, width in enumerate(widths)
        ],
        tokenizers=tokenizers,
        scheduler=scheduler("v_prediction" if family == "sd2-v" else "epsilon"),
    )
    for module in parts.modules():
        module.eval()
    return parts


def tokenizer(folder: Path, *, pads_with_end: bool) -> Any:
    """A CLIP tokenizer with a vocabulary of its own, written to `folder` and read back."""
    from transformers import CLIPTokenizer

    letters = string.ascii_lowercase + string.digits + string.punctuation
    letters = "!" + letters.replace("!", "")  # CLIP's token 0
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges = []
    for word in WORDS:
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            merges.append(f"{pieces[0]} {pieces[1]}")
            pieces[:2] = [pieces[0] + pieces[1]]
            tokens.append(pieces[0])
    tokens = list(dict.fromkeys([*tokens, START, END]))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *dict.fromkeys(merges)]) + "\n")
    pad = END if pads_with_end else "!"
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**special, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"})
    )
    return CLIPTokenizer.from_pretrained(folder)


def text_encoder(width: int, words: Any, *, projection: bool = False) -> Any:
    """A CLIP text model of two layers."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=len(words),
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    model = (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)
    # CLIP's own initial weights are so small that every prompt would read nearly alike.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=parameter.shape[1] ** -0.5)
    return model


def unet(text_width: int, pooled_width: int | None) -> Any:
    """A U-Net of two levels; `pooled_width` makes it one of SDXL's kind."""
    from diffusers import UNet2DConditionModel

    extra = {}
    if pooled_width is not None:
        extra = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + pooled_width,
        }
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=text_width,
        attention_head_dim=8,
        norm_num_groups=8,
        **extra,
    )


def vae() -> Any:
    """An autoencoder that halves a picture three times."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=64,
    )


def tiny_vae() -> Any:
    """An autoencoder of TAESD's kind."""
    from diffusers import AutoencoderTiny

    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8)
    )


def scheduler(prediction_type: str = "epsilon", **options: Any) -> Any:
    """The noise schedule of Stable Diffusion."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
        **options,
    )
