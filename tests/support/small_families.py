"""The host's families in small: what makes a tiny model of each.

Layers keep their names and places; only widths, depths and vocabularies are small, so that a step
takes a moment. `families` builds them by the host's own code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

CLIP = {"num_hidden_layers": 3, "intermediate_size": 128, "num_attention_heads": 2}
T5 = {"num_layers": 2, "d_ff": 64, "d_kv": 16, "num_heads": 2}
LLAMA = {"num_hidden_layers": 3, "intermediate_size": 64, "num_attention_heads": 2,
         "num_key_value_heads": 1}  # fmt: skip
PREFIX = "text_encoders."
PIECES = 32_128
"""Tokens of the one SentencePiece model that comes with the host."""
FEW = 600
"""Tokens of the vocabulary that the tests write for Mistral's tokenizer."""


@dataclass(frozen=True)
class HostFamily:
    """What makes a model of one family.

    Attributes:
        title: what people call it.
        config: name of its class in `comfy.supported_models`.
        network: the sizes of its diffusion network.
        encoders: name of a text encoder's configuration -> what is changed in it.
        learns: encoder key -> how wide its vectors are here.
        parameterization: what the network predicts.
        clues: weights by which the host chooses the text encoder.
        text: where the host's loaders choose a text encoder that the configuration does not:
            its module, its tokenizer and its model, or what makes it.
        stock: the host's own text encoders find `embedding:` files.
        first: also at the very beginning of a prompt.
        from_file: the host reads every size from a file.
        side: of the latents in tests.
        adds: the host's latents are x0 + sigma · noise though the network predicts a flow.
        options: marks in a file by which the host tells the prediction.
    """

    title: str
    config: str
    network: Mapping[str, Any]
    encoders: Mapping[str, Mapping[str, Any]]
    learns: Mapping[str, int]
    parameterization: str = "flow"
    clues: Sequence[str] = ()
    text: tuple[str, str, str] | None = None
    stock: bool = True
    first: bool = True
    from_file: bool = False
    side: int = 8
    adds: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


def unet(context: int, **changes: Any) -> dict[str, Any]:
    """A small U-Net of the kind of SD1, SD2 and SDXL."""
    return {
        "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 64,
        "num_res_blocks": [1, 1], "channel_mult": [1, 2], "transformer_depth": [1, 1],
        "transformer_depth_middle": 1, "transformer_depth_output": [1, 1, 1, 1],
        "context_dim": context, "num_heads": 2, "num_head_channels": -1,
        "use_spatial_transformer": True, "use_linear_in_transformer": False,
        "adm_in_channels": None, "use_temporal_attention": False, "legacy": False,
    } | changes  # fmt: skip


def clip(width: int) -> dict[str, Any]:
    """A small CLIP."""
    return CLIP | {"hidden_size": width}


def t5(width: int) -> dict[str, Any]:
    """A small T5."""
    return T5 | {"d_model": width}


def llama(width: int, layers: int = 3) -> dict[str, Any]:
    """A small language model of the kind of Qwen and Gemma."""
    return LLAMA | {"hidden_size": width, "num_hidden_layers": layers}


FLUX = {
    "patch_size": 2, "in_channels": 16, "out_channels": 16, "vec_in_dim": 64, "context_in_dim": 64,
    "hidden_size": 128, "num_heads": 1, "mlp_ratio": 4.0, "depth": 1, "depth_single_blocks": 1,
    "axes_dim": [16, 56, 56], "theta": 10000, "qkv_bias": True, "txt_ids_dims": [],
}  # fmt: skip
LUMINA = {
    "image_model": "lumina2", "patch_size": 2, "in_channels": 16, "dim": 288, "n_layers": 1,
    "n_refiner_layers": 1, "n_heads": 6, "n_kv_heads": 6, "multiple_of": 32, "qk_norm": True,
    "cap_feat_dim": 64, "axes_dims": [16, 16, 16], "axes_lens": [300, 64, 64],
}  # fmt: skip

SDXL = unet(160, adm_in_channels=96 + 6 * 256, num_classes="sequential")
CLIPS: Mapping[str, Any] = {
    "encoders": {"clip_l": clip(64), "clip_g": clip(96)},
    "learns": {"clip_l": 64, "clip_g": 96}, "parameterization": "epsilon",
}  # fmt: skip
FLUX2 = {
    "image_model": "flux2", "patch_size": 1, "in_channels": 128, "out_channels": 128,
    "context_in_dim": 3 * 64, "hidden_size": 128, "num_heads": 1, "mlp_ratio": 3.0, "depth": 1,
    "depth_single_blocks": 1, "axes_dim": [32, 32, 32, 32], "theta": 2000,
    "global_modulation": True, "mlp_silu_act": True, "qkv_bias": False, "ops_bias": False,
    "default_ref_method": "index", "ref_index_scale": 10.0, "txt_ids_dims": [3],
    "vec_in_dim": None,
}  # fmt: skip
COSMOS = {
    "max_img_h": 240, "max_img_w": 240, "max_frames": 128, "in_channels": 16, "out_channels": 16,
    "patch_spatial": 2, "patch_temporal": 1, "model_channels": 64, "crossattn_emb_channels": 64,
    "pos_emb_cls": "rope3d", "pos_emb_learnable": True, "use_adaln_lora": True,
    "adaln_lora_dim": 16, "num_blocks": 2, "num_heads": 2, "rope_h_extrapolation_ratio": 4.0,
    "rope_w_extrapolation_ratio": 4.0, "rope_enable_fps_modulation": False,
}  # fmt: skip
HUNYUAN = {
    "image_model": "hunyuan_video", "in_channels": 16, "out_channels": 16,
    "patch_size": [1, 2, 2], "vec_in_dim": None, "context_in_dim": 64, "hidden_size": 128,
    "mlp_ratio": 4.0, "num_heads": 1, "depth": 1, "depth_single_blocks": 1,
    "axes_dim": [16, 56, 56], "theta": 256, "qkv_bias": True, "guidance_embed": False,
    "byt5": False, "meanflow": False, "use_cond_type_embedding": False, "vision_in_dim": None,
    "meanflow_sum": False,
}  # fmt: skip
KANDINSKY = {
    "image_model": "kandinsky5", "model_dim": 64, "axes_dims": (8, 12, 12), "time_dim": 32,
    "ff_dim": 64, "num_text_blocks": 1, "num_visual_blocks": 2, "in_text_dim": 64,
    "in_text_dim2": 64,
}  # fmt: skip
WAN = {
    "image_model": "wan2.1", "model_type": "t2v", "dim": 64, "ffn_dim": 64, "freq_dim": 32,
    "text_dim": 64, "in_dim": 16, "out_dim": 16, "num_heads": 2, "num_layers": 2,
}  # fmt: skip
HYDIT = {
    "depth": 2, "hidden_size": 64, "num_heads": 2, "text_states_dim": 64,
    "text_states_dim_t5": 64,
}  # fmt: skip
HYDIT_TEXT: Mapping[str, Any] = {
    "encoders": {"hydit_clip": clip(64), "mt5xl": t5(64) | {"vocab_size": PIECES}},
    "learns": {"chinese_roberta": 64, "mt5xl": 64}, "parameterization": "v_prediction",
    "stock": False,
}  # fmt: skip

FAMILIES = {
    "sd1": HostFamily(
        "Stable Diffusion 1", "SD15", unet(64), {"clip_l": clip(64)}, {"clip_l": 64}, "epsilon"
    ),
    "sd2": HostFamily(
        "Stable Diffusion 2 base", "SD20", unet(64, use_linear_in_transformer=True),
        {"clip_h": clip(64)}, {"clip_h": 64}, "epsilon",
    ),
    "sd2-v": HostFamily(
        "Stable Diffusion 2", "SD20", unet(64, use_linear_in_transformer=True),
        {"clip_h": clip(64)}, {"clip_h": 64}, "v_prediction", options={"v_prediction": True},
    ),
    "sdxl": HostFamily(
        "SDXL", "SDXL", SDXL, **CLIPS
    ),
    "sdxl-v": HostFamily(
        "SDXL, v prediction", "SDXL", SDXL,
        **CLIPS | {"parameterization": "v_prediction"}, options={"v_pred": True},
    ),
    "sd3": HostFamily(
        "Stable Diffusion 3 and 3.5", "SD3",
        {
            "in_channels": 16, "out_channels": 16, "patch_size": 2, "depth": 2, "input_size": None,
            "adm_in_channels": 768 + 1280, "num_patches": 256, "pos_embed_max_size": 16,
            "qk_norm": "rms", "pos_embed_scaling_factor": None, "x_block_self_attn_layers": [0],
            "context_embedder_config": {
                "target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 128}
            },
        },
        {"clip_l": clip(768), "clip_g": clip(1280), "t5xxl": t5(4096)},
        {"clip_l": 768, "clip_g": 1280, "t5xxl": 4096},
        clues=(
            "clip_l.transformer.text_model.final_layer_norm.weight",
            "clip_g.transformer.text_model.final_layer_norm.weight",
            "t5xxl.transformer.encoder.final_layer_norm.weight",
        ),
        from_file=True,
    ),
    "flux": HostFamily(
        "Flux.1", "Flux", FLUX | {"image_model": "flux", "guidance_embed": True},
        {"clip_l": clip(64), "t5xxl": t5(64)}, {"clip_l": 64, "t5xxl": 64}, from_file=True,
    ),
    "flux-schnell": HostFamily(
        "Flux.1 schnell", "FluxSchnell", FLUX | {"image_model": "flux", "guidance_embed": False},
        {"clip_l": clip(64), "t5xxl": t5(64)}, {"clip_l": 64, "t5xxl": 64}, from_file=True,
    ),
    "flux2-klein": HostFamily(
        "Flux.2 Klein", "Flux2", FLUX2 | {"guidance_embed": False},
        {"qwen3_4b": llama(64, layers=28)}, {"qwen3_4b": 64},
        clues=("qwen3_4b.transformer.model.norm.weight",), from_file=True,
    ),
    "z-image": HostFamily(
        "Z-Image", "ZImage",
        LUMINA | {"rope_theta": 256.0, "ffn_dim_multiplier": 8 / 3, "z_image_modulation": True,
                  "time_scale": 1000.0, "pad_tokens_multiple": 32},
        {"qwen3_4b": llama(64)}, {"qwen3_4b": 64},
        clues=("qwen3_4b.transformer.model.norm.weight",),
    ),
    "chroma": HostFamily(
        "Chroma", "Chroma",
        FLUX | {"image_model": "chroma", "in_channels": 64, "out_channels": 64, "in_dim": 64,
                "out_dim": 128, "hidden_dim": 64, "n_layers": 2, "vec_in_dim": None},
        {"t5xxl": t5(64)}, {"t5xxl": 64},
        clues=("t5xxl.transformer.encoder.final_layer_norm.weight",),
    ),
    "pixart": HostFamily(
        "PixArt-Sigma", "PixArtSigma",
        {"image_model": "pixart_sigma", "num_heads": 2, "patch_size": 2, "hidden_size": 64,
         "in_channels": 4, "depth": 1, "model_max_length": 300, "input_size": 64,
         "pe_interpolation": 1, "micro_condition": False, "caption_channels": 64},
        {"t5xxl": t5(64)}, {"t5xxl": 64}, "epsilon",
        side=40,  # Positions are not defined for pictures below 264 pixels.
    ),
    "auraflow": HostFamily(
        "AuraFlow", "AuraFlow",
        {"dim": 256, "n_layers": 2, "n_double_layers": 1, "n_heads": 2, "global_conddim": 256,
         "cond_seq_dim": 64, "max_seq": 256},
        {"pile_t5xl": t5(64)}, {"pile_t5xl": 64}, stock=False,
    ),
    "lumina2": HostFamily(
        "Lumina 2", "Lumina2", LUMINA | {"rope_theta": 10000.0, "ffn_dim_multiplier": 4.0},
        {"gemma2_2b": llama(64)}, {"gemma2_2b": 64},
        clues=("gemma2_2b.transformer.model.norm.weight",), stock=False,
    ),
    "qwen-image": HostFamily(
        "Qwen-Image", "QwenImage",
        {"image_model": "qwen_image", "in_channels": 64, "num_layers": 2,
         "attention_head_dim": 64, "num_attention_heads": 4, "joint_attention_dim": 64,
         "axes_dims_rope": (16, 24, 24)},
        {"qwen25_7b": llama(64)}, {"qwen25_7b": 64},
        clues=("qwen25_7b.transformer.model.norm.weight",), stock=False,
    ),
    # The same networks for other tasks, and smaller or larger ones of the same kind.
    "sd1-inpaint": HostFamily(
        "Stable Diffusion 1, inpainting", "SD15", unet(64, in_channels=9), {"clip_l": clip(64)},
        {"clip_l": 64}, "epsilon",
    ),
    "sd1-instruct": HostFamily(
        "Stable Diffusion 1, instruct", "SD15_instructpix2pix", unet(64, in_channels=8),
        {"clip_l": clip(64)}, {"clip_l": 64}, "epsilon",
    ),
    "sd2-unclip-l": HostFamily(
        "Stable Diffusion 2, unCLIP L", "SD21UnclipL",
        unet(64, use_linear_in_transformer=True, adm_in_channels=96, num_classes="sequential"),
        {"clip_h": clip(64)}, {"clip_h": 64}, "v_prediction", options={"v_prediction": True},
    ),
    "sd2-unclip-h": HostFamily(
        "Stable Diffusion 2, unCLIP H", "SD21UnclipH",
        unet(64, use_linear_in_transformer=True, adm_in_channels=128, num_classes="sequential"),
        {"clip_h": clip(64)}, {"clip_h": 64}, "v_prediction", options={"v_prediction": True},
    ),
    "sdxl-inpaint": HostFamily(
        "SDXL, inpainting", "SDXL", SDXL | {"in_channels": 9}, **CLIPS
    ),
    "sdxl-instruct": HostFamily(
        "SDXL, instruct", "SDXL_instructpix2pix", SDXL | {"in_channels": 8}, **CLIPS
    ),
    "ssd-1b": HostFamily(
        "SSD-1B", "SSD1B", SDXL | {"transformer_depth_middle": -1}, **CLIPS
    ),
    "vega": HostFamily(
        "Segmind Vega", "Segmind_Vega", SDXL | {"transformer_depth_middle": -1}, **CLIPS
    ),
    "koala-700m": HostFamily(
        "KOALA 700M", "KOALA_700M", SDXL | {"transformer_depth_middle": -2}, **CLIPS
    ),
    "koala-1b": HostFamily(
        "KOALA 1B", "KOALA_1B", SDXL | {"transformer_depth_middle": 2}, **CLIPS
    ),
    "pixart-alpha": HostFamily(
        "PixArt-Alpha", "PixArtAlpha",
        {"image_model": "pixart_alpha", "num_heads": 2, "patch_size": 2, "hidden_size": 96,
         "in_channels": 4, "depth": 1, "model_max_length": 120, "input_size": 64,
         "pe_interpolation": 1, "micro_condition": True, "caption_channels": 64},
        {"t5xxl": t5(64)}, {"t5xxl": 64}, "epsilon", side=40,
    ),
    "flux-fill": HostFamily(
        "Flux.1 Fill", "FluxInpaint",
        FLUX | {"image_model": "flux", "guidance_embed": True, "in_channels": 96},
        {"clip_l": clip(64), "t5xxl": t5(64)}, {"clip_l": 64, "t5xxl": 64},
    ),
    # One family after the other, as the host lists them.
    "stable-cascade": HostFamily(
        "Stable Cascade", "Stable_Cascade_C",
        {"stable_cascade_stage": "c", "c_cond": 64, "c_hidden": [64, 64], "nhead": [2, 2],
         "blocks": [[1, 1], [1, 1]], "c_clip_text": 96, "c_clip_text_pooled": 96},
        {"clip_g": clip(96)}, {"clip_g": 96}, "epsilon",
    ),
    "hunyuan-dit": HostFamily(
        "HunyuanDiT 1.2", "HunyuanDiT", HYDIT | {"image_model": "hydit"}, **HYDIT_TEXT
    ),
    "hunyuan-dit-1": HostFamily(
        "HunyuanDiT 1.0 and 1.1", "HunyuanDiT1",
        HYDIT | {"image_model": "hydit1", "size_cond": True, "use_style_cond": True},
        **HYDIT_TEXT,
    ),
    "flux2": HostFamily(
        "Flux.2 dev", "Flux2", FLUX2 | {"guidance_embed": True},
        {"mistral3_24b": llama(64, layers=31) | {"vocab_size": FEW}}, {"mistral3_24b": 64},
        clues=("mistral3_24b.transformer.model.norm.weight",), first=False,
    ),
    "longcat": HostFamily(
        "LongCat Image", "LongCatImage",
        FLUX | {"image_model": "flux", "guidance_embed": False, "vec_in_dim": None,
                "txt_ids_dims": [1, 2]},
        {"qwen25_7b": llama(64)}, {"qwen25_7b": 64}, stock=False,
    ),
    "ovis": HostFamily(
        "Ovis Image", "FluxSchnell",
        FLUX | {"image_model": "flux", "guidance_embed": False, "vec_in_dim": None,
                "yak_mlp": True, "txt_norm": True, "txt_ids_dims": [1, 2]},
        {"qwen3_2b": llama(64)}, {"qwen3_2b": 64}, text=("ovis", "OvisTokenizer", "te"),
        stock=False,
    ),
    "chroma-radiance": HostFamily(
        "Chroma Radiance", "ChromaRadiance",
        FLUX | {"image_model": "chroma_radiance", "in_channels": 3, "out_channels": 3,
                "patch_size": 16, "vec_in_dim": None, "in_dim": 64, "out_dim": 128,
                "hidden_dim": 64, "n_layers": 2, "nerf_hidden_size": 16, "nerf_mlp_ratio": 2,
                "nerf_depth": 1, "nerf_max_freqs": 4, "nerf_tile_size": 512,
                "nerf_final_head_type": "conv", "nerf_embedder_dtype": None, "use_x0": False,
                "use_sequential_txt_ids": False},
        {"t5xxl": t5(64)}, {"t5xxl": 64},
        clues=("t5xxl.transformer.encoder.final_layer_norm.weight",), side=32,
    ),
    "hidream": HostFamily(
        "HiDream-I1", "HiDream",
        {"image_model": "hidream", "attention_head_dim": 32, "num_attention_heads": 2,
         "axes_dims_rope": [16, 8, 8], "caption_channels": [64, 64], "max_resolution": [128, 128],
         "in_channels": 16, "out_channels": 16, "llama_layers": [1, 2], "num_layers": 1,
         "num_single_layers": 1, "patch_size": 2, "num_routed_experts": 2,
         "num_activated_experts": 2, "text_emb_dim": 160},
        {"clip_l": clip(64), "clip_g": clip(96), "t5xxl": t5(64), "llama": llama(64)},
        {"clip_l": 64, "clip_g": 96, "t5xxl": 64, "llama": 64},
        text=("hidream", "HiDreamTokenizer", "hidream_clip"),
    ),
    "newbie": HostFamily(
        "NewBie", "Lumina2",
        LUMINA | {"rope_theta": 10000.0, "ffn_dim_multiplier": 4.0, "clip_text_dim": 64},
        {"": llama(64) | {"vocab_size": PIECES}}, {"gemma3_4b": 64, "jina_clip_2": 64},
        text=("newbie", "NewBieTokenizer", "te"), stock=False,
    ),
    "z-image-pixel": HostFamily(
        "Z-Image, pixel space", "ZImagePixelSpace",
        LUMINA | {"image_model": "zimage_pixel", "rope_theta": 256.0, "ffn_dim_multiplier": 8 / 3,
                  "z_image_modulation": True, "time_scale": 1000.0, "pad_tokens_multiple": 32,
                  "patch_size": 16, "in_channels": 3, "decoder_hidden_size": 32,
                  "decoder_num_res_blocks": 1, "decoder_max_freqs": 4},
        {"qwen3_4b": llama(64)}, {"qwen3_4b": 64},
        clues=("qwen3_4b.transformer.model.norm.weight",), side=32,
    ),
    "pixeldit": HostFamily(
        "PixelDiT", "PixelDiTT2I",
        {"image_model": "pixeldit_t2i", "num_groups": 2, "hidden_size": 64, "pixel_hidden_size": 8,
         "pixel_attn_hidden_size": 32, "pixel_num_groups": 2, "patch_depth": 1, "pixel_depth": 1,
         "patch_size": 16, "txt_embed_dim": 64},
        {"gemma2_2b": llama(64) | {"vocab_size": PIECES}}, {"gemma2_2b": 64}, stock=False, side=32,
    ),
    "omnigen2": HostFamily(
        "Omnigen 2", "Omnigen2",
        {"image_model": "omnigen2", "axes_dim_rope": [8, 12, 12], "axes_lens": [1024, 64, 64],
         "hidden_size": 64, "in_channels": 16, "multiple_of": 32, "num_attention_heads": 2,
         "num_kv_heads": 1, "num_layers": 1, "num_refiner_layers": 1, "text_feat_dim": 64,
         "timestep_scale": 1000.0},
        {"qwen25_3b": llama(64)}, {"qwen25_3b": 64}, stock=False,
    ),
    "boogu": HostFamily(
        "Boogu", "Boogu",
        {"image_model": "boogu", "axes_dim_rope": (8, 12, 12), "axes_lens": (1024, 64, 64),
         "hidden_size": 64, "multiple_of": 32, "num_attention_heads": 2, "num_kv_heads": 1,
         "num_layers": 1, "num_double_stream_layers": 1, "num_refiner_layers": 1,
         "instruction_feat_dim": 64},
        {"qwen3vl_8b": llama(64) | {"lm_head": False}}, {"qwen3vl_8b": 64},
    ),
    "mage-flow": HostFamily(
        "Mage Flow", "MageFlow",
        {"image_model": "mage_flow", "in_channels": 128, "num_layers": 2,
         "attention_head_dim": 64, "num_attention_heads": 4, "joint_attention_dim": 64,
         "axes_dims_rope": (16, 24, 24)},
        {"qwen3vl_4b": llama(64)}, {"qwen3vl_4b": 64},
    ),
    "joyimage": HostFamily(
        "JoyImage", "JoyImage",
        {"image_model": "joyimage", "hidden_size": 64, "num_attention_heads": 2, "text_dim": 64,
         "num_layers": 2, "rope_dim_list": [8, 12, 12], "theta": 10000},
        {"qwen3vl_8b": llama(64) | {"lm_head": False}}, {"qwen3vl_8b": 64},
    ),
    "ideogram4": HostFamily(
        "Ideogram 4", "Ideogram4",
        {"image_model": "ideogram4", "in_channels": 128, "num_layers": 1,
         "num_attention_heads": 1, "attention_head_dim": 128, "intermediate_size": 64,
         "adaln_dim": 32, "llm_features_dim": 13 * 64},
        {"qwen3vl_8b": llama(64, layers=36) | {"lm_head": False}}, {"qwen3vl_8b": 64},
    ),
    "krea2": HostFamily(
        "Krea 2", "Krea2",
        {"image_model": "krea2", "features": 128, "tdim": 64, "txtdim": 64, "heads": 2,
         "kvheads": 1, "multiplier": 2, "layers": 1, "patch": 2, "channels": 16, "txtlayers": 12,
         "txtheads": 2, "txtkvheads": 2},
        {"qwen3vl_4b": llama(64, layers=36)}, {"qwen3vl_4b": 64},
    ),
    "ernie": HostFamily(
        "Ernie Image", "ErnieImage",
        {"image_model": "ernie", "hidden_size": 128, "num_attention_heads": 4, "num_layers": 2,
         "ffn_hidden_size": 64, "text_in_dim": 64, "rope_axes_dim": (8, 12, 12)},
        {"ministral3_3b": llama(64) | {"vocab_size": FEW}}, {"mistral3_24b": 64},
    ),
    "anima": HostFamily(
        "Anima", "Anima", COSMOS | {"image_model": "anima"},
        {"qwen3_06b": llama(64)}, {"qwen3_06b": 64}, stock=False,
    ),
    "hunyuan-image": HostFamily(
        "HunyuanImage 2.1", "HunyuanImage21",
        HUNYUAN | {"in_channels": 64, "out_channels": 64, "patch_size": [1, 1],
                   "axes_dim": [64, 64], "byt5": True},
        {"qwen25_7b": llama(64, layers=4), "": t5(1472)}, {"qwen25_7b": 64}, stock=False,
    ),
    "kandinsky5-image": HostFamily(
        "Kandinsky 5 Image", "Kandinsky5Image", KANDINSKY | {"visual_embed_dim": 64},
        {"qwen25_7b": llama(64), "clip_l": clip(64)}, {"qwen25_7b": 64, "clip_l": 64}, stock=False,
    ),
    # Those that draw films draw one of a single picture.
    "cosmos-predict2": HostFamily(
        "Cosmos Predict 2", "CosmosT2IPredict2", COSMOS | {"image_model": "cosmos_predict2"},
        {"t5xxl": t5(64)}, {"t5xxl": 64}, adds=True,
    ),
    "wan": HostFamily(
        "Wan 2.1 and 2.2 14B", "WAN21_T2V", WAN,
        {"umt5xxl": t5(64) | {"vocab_size": PIECES}}, {"umt5xxl": 64}, stock=False,
    ),
    "wan22-5b": HostFamily(
        "Wan 2.2 5B", "WAN22_T2V", WAN | {"in_dim": 48, "out_dim": 48},
        {"umt5xxl": t5(64) | {"vocab_size": PIECES}}, {"umt5xxl": 64}, stock=False,
    ),
    "hunyuan-video": HostFamily(
        "Hunyuan Video", "HunyuanVideo", HUNYUAN | {"vec_in_dim": 64, "guidance_embed": True},
        {"llama": llama(64, layers=4), "clip_l": clip(64)}, {"clip_l": 64, "llama": 64},
        stock=False,
    ),
    "hunyuan-video-1.5": HostFamily(
        "Hunyuan Video 1.5", "HunyuanVideo15",
        HUNYUAN | {"in_channels": 65, "out_channels": 32, "patch_size": [1, 1, 1],
                   "vision_in_dim": 64, "use_cond_type_embedding": True},
        {"qwen25_7b": llama(64, layers=4), "": t5(1472)}, {"qwen25_7b": 64}, stock=False,
    ),
    "kandinsky5": HostFamily(
        "Kandinsky 5 Video", "Kandinsky5", KANDINSKY | {"visual_embed_dim": 132},
        {"qwen25_7b": llama(64), "clip_l": clip(64)}, {"qwen25_7b": 64, "clip_l": 64}, stock=False,
    ),
    "ltx": HostFamily(
        "LTX Video", "LTXV",
        {"image_model": "ltxv", "in_channels": 128, "cross_attention_dim": 64,
         "attention_head_dim": 32, "num_attention_heads": 2, "caption_channels": 64,
         "num_layers": 2},
        {"t5xxl": t5(64)}, {"t5xxl": 64},
    ),
    "mochi": HostFamily(
        "Mochi", "GenmoMochi",
        {"image_model": "mochi_preview", "depth": 2, "patch_size": 2, "num_heads": 2,
         "hidden_size_x": 64, "hidden_size_y": 32, "mlp_ratio_x": 192.0, "mlp_ratio_y": 2.0,
         "learn_sigma": False, "in_channels": 12, "qk_norm": True, "qkv_bias": False,
         "out_bias": True, "attn_drop": 0.0, "patch_embed_bias": True, "posenc_preserve_area": True,
         "timestep_mlp_bias": True, "attend_to_padding": False, "timestep_scale": 1000.0,
         "use_t5": True, "t5_feat_dim": 64, "t5_token_length": 256, "rope_theta": 10000.0},
        {"t5xxl": t5(64)}, {"t5xxl": 64},
    ),
}  # fmt: skip
