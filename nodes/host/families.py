"""The one table of the host's families: what each is usually drawn with, and which are refused.

A family is a class of `comfy.supported_models`, by its name. Everything that the adapter does is
told by what a model computes; only what cannot be told that way stands here. A family that is not
in the table is trained like any other.

Usual guidance is that of the workflow templates that come with ComfyUI
(`comfyui-workflow-templates` 0.11.27 and 0.11.97), without LoRAs for fewer steps; what a network is
told is also that of the default in `comfy.model_base`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .family import Family


def family_of(model: Any) -> Family | None:
    """The family of a host's ModelPatcher; None if it is none that we know.

    A class that the table lacks counts as the one that it is derived from.
    """
    config = getattr(model.model, "model_config", None)
    sizes = getattr(config, "unet_config", {})
    if sizes.get("yak_mlp"):
        return OVIS  # which has the class of Flux.1 schnell
    known = (FAMILIES[c.__name__] for c in type(config).__mro__ if c.__name__ in FAMILIES)
    family = next(known, None)
    if family and family.told and not sizes.get("guidance_embed"):
        return replace(family, told=None)
    return family


def _drawn(
    title: str,
    sides: tuple[int, int] | int,
    guidance: tuple[float, float] | float | None = None,
    told: float | None = None,
) -> Family:
    """One that is trained with; a single number is both the smallest and the largest."""
    if isinstance(sides, int):
        sides = (sides, sides)
    if isinstance(guidance, float | int):
        guidance = (guidance, guidance)
    return Family(title, sides, guidance, told)


def _refused(title: str, why: str) -> Family:
    return Family(title, refused=why)


def _another(title: str, needs: str, instead: str) -> Family:
    """A variant of a family that is trained with and shares its text encoder."""
    return _refused(
        title,
        f"needs {needs}: train on {instead}, whose text encoder is the same, so that the word "
        "works with this model too",
    )


def _other(title: str, what: str) -> Family:
    return Family(title, refused=f"{what}: load a model that draws pictures", stills=False)


_ENLARGES = "only enlarges or refines given pictures: train on the model that draws them"
_READS_IDS = (
    "reads a prompt as token ids and looks up no vectors that could be learned: train on "
    "another family"
)
_ANIMATES = "makes videos from a given picture and reads no prompt"

OVIS = _drawn("Ovis Image", 1024, 5)

FAMILIES: Mapping[str, Family] = {
    "SD15": _drawn("Stable Diffusion 1", 512, 8),
    "SD15_instructpix2pix": _drawn("Stable Diffusion 1, instruct", 512),
    "SD20": _drawn("Stable Diffusion 2", (512, 768)),
    "SD21UnclipL": _drawn("Stable Diffusion 2, unCLIP L", 768),
    "SD21UnclipH": _drawn("Stable Diffusion 2, unCLIP H", 768),
    "SDXL": _drawn("SDXL", 1024, (7, 8)),
    "SDXL_instructpix2pix": _drawn("SDXL, instruct", (768, 1024)),
    "SSD1B": _drawn("SSD-1B", 1024),
    "Segmind_Vega": _drawn("Segmind Vega", 1024),
    "KOALA_700M": _drawn("KOALA 700M", 1024),
    "KOALA_1B": _drawn("KOALA 1B", 1024),
    "Stable_Cascade_C": _drawn("Stable Cascade", 1024),
    "SD3": _drawn("Stable Diffusion 3 and 3.5", 1024, (4, 4.5)),
    "AuraFlow": _drawn("AuraFlow", 1024),
    "PixArtAlpha": _drawn("PixArt-Alpha", (512, 1024)),
    "PixArtSigma": _drawn("PixArt-Sigma", (512, 1024)),
    "HunyuanDiT": _drawn("HunyuanDiT 1.2", 1024),
    "HunyuanDiT1": _drawn("HunyuanDiT 1.0 and 1.1", 1024),
    "Flux": _drawn("Flux.1", 1024, told=3.5),
    "FluxInpaint": _drawn("Flux.1 Fill", 1024, told=30),
    "FluxSchnell": _drawn("Flux.1 schnell", 1024, 1),
    "Flux2": _drawn("Flux.2", (1024, 2048), (1, 5), told=4),
    "LongCatImage": _drawn("LongCat Image", 1024, 4),
    "Chroma": _drawn("Chroma", (512, 1024), 3.5),
    "ChromaRadiance": _drawn("Chroma Radiance", (512, 1024), 3.5),
    "HiDream": _drawn("HiDream-I1", 1024, (1, 5)),
    "Lumina2": _drawn("Lumina 2", 1024, (4, 5.5)),
    "ZImage": _drawn("Z-Image", (1024, 1536), (1, 4)),
    "ZImagePixelSpace": _drawn("Z-Image, pixel space", 1024),
    "PixelDiTT2I": Family("PixelDiT", (512, 1024), (4, 4), overwrites=True),
    "Omnigen2": _drawn("Omnigen 2", 1024, 5),
    "Boogu": _drawn("Boogu", (1024, 2048), (1, 3.5)),
    "QwenImage": _drawn("Qwen-Image", (1024, 1328), (2.5, 4)),
    "MageFlow": _drawn("Mage Flow", 1024, (1, 5)),
    "JoyImage": _drawn("JoyImage", 1024, 4),
    "Ideogram4": _drawn("Ideogram 4", (1024, 2048), 7),
    "Krea2": _drawn("Krea 2", (1024, 2048), 1),
    "ErnieImage": _drawn("Ernie Image", 1024, (1, 4)),
    "Anima": _drawn("Anima", 1024, 4),
    "HunyuanImage21": _drawn("HunyuanImage 2.1", 2048, told=6),
    "Kandinsky5Image": _drawn("Kandinsky 5 Image", 1024, 3.5),
    "Kandinsky5": _drawn("Kandinsky 5 Video", (512, 768), 5),
    "CosmosT2IPredict2": _drawn("Cosmos Predict 2", (704, 1024)),
    "WAN21_T2V": _drawn("Wan 2.1 and 2.2 14B", (480, 960), (3.5, 6)),
    "WAN22_T2V": _drawn("Wan 2.2 5B", (704, 960), 5),
    "HunyuanVideo": _drawn("Hunyuan Video", (544, 960), told=6),
    "HunyuanVideo15": _drawn("Hunyuan Video 1.5", (480, 960), 6),
    "LTXV": Family("LTX Video", (512, 768), (3, 3), overwrites=True),
    "GenmoMochi": _drawn("Mochi", (480, 640)),
    # Refused, because what they draw starts from a picture or another model.
    "SDXLRefiner": _refused(
        "SDXL refiner", "only finishes pictures: train on the SDXL base model"
    ),
    "SD_X4Upscaler": _refused("Stable Diffusion x4 upscaler", _ENLARGES),
    "Stable_Cascade_B": _refused(
        "Stable Cascade, stage B", "only finishes pictures: train on stage C"
    ),
    "HunyuanImage21Refiner": _refused(
        "HunyuanImage 2.1 refiner", "only finishes pictures: train on HunyuanImage 2.1"
    ),
    "HunyuanVideo15_SR_Distilled": _refused("Hunyuan Video 1.5, super resolution", _ENLARGES),
    "SeedVR2": _refused("SeedVR2", _ENLARGES),
    "PiD": _refused("PiD", _ENLARGES),
    "LotusD": _refused(
        "Lotus", "estimates depth and draws nothing of its own: train on another family"
    ),
    "Stable_Zero123": _refused(
        "Stable Zero123",
        "shows a given picture from other sides and reads no prompt: train on another family",
    ),
    "Lens": _refused("Lens", _READS_IDS),
    "HiDreamO1": _refused("HiDream-O1", _READS_IDS),
    "CosmosT2V": _refused(
        "Cosmos 1", "is trained with a formula of its own (EDM): train on Cosmos Predict 2"
    ),
    "CosmosI2V": _refused(
        "Cosmos 1, image to video",
        "is trained with a formula of its own (EDM): train on Cosmos Predict 2",
    ),
    "CogVideoX_T2V": _refused(
        "CogVideoX", "is trained with a formula of its own: train on another family"
    ),
    "CogVideoX_I2V": _refused(
        "CogVideoX, image to video",
        "is trained with a formula of its own: train on another family",
    ),
    "CogVideoX_Inpaint": _refused(
        "CogVideoX, inpainting", "is trained with a formula of its own: train on another family"
    ),
    "CosmosI2VPredict2": _another(
        "Cosmos Predict 2, image to video", "a first picture", "Cosmos Predict 2"
    ),
    "HunyuanVideoI2V": _another(
        "Hunyuan Video, image to video", "a first picture", "Hunyuan Video"
    ),
    "HunyuanVideoSkyreelsI2V": _another(
        "SkyReels, image to video", "a first picture", "Hunyuan Video"
    ),
    "WAN21_CausalAR_T2V": _another(
        "Wan 2.1, causal", "the preceding frames", "Wan 2.1 text to video"
    ),
    "WAN21_I2V": _another("Wan, image to video", "a first picture", "Wan text to video"),
    "WAN21_FunControl2V": _another("Wan Fun Control", "a video to follow", "Wan text to video"),
    "WAN21_Vace": _another("Wan VACE", "a video to follow", "Wan text to video"),
    "WAN21_Camera": _another("Wan 2.1 Camera", "a first picture", "Wan text to video"),
    "WAN22_Camera": _another("Wan 2.2 Camera", "a first picture", "Wan text to video"),
    "WAN22_S2V": _another("Wan 2.2, sound to video", "audio", "Wan text to video"),
    "WAN21_HuMo": _another("Wan HuMo", "a person and audio", "Wan text to video"),
    "WAN22_Animate": _another("Wan Animate", "a video to follow", "Wan text to video"),
    "WAN_Animate2": _another("Wan Animate 2", "poses to follow", "Wan text to video"),
    "WAN21_FlowRVS": _another("Wan FlowRVS", "a video", "Wan text to video"),
    "WAN21_SCAIL": _another("Wan SCAIL", "poses to follow", "Wan text to video"),
    "WAN21_SCAIL2": _another("Wan SCAIL 2", "poses to follow", "Wan text to video"),
    "WAN22_WanDancer": _another("WanDancer", "a person and music", "Wan text to video"),
    # Nothing that could be called a picture.
    "LTXAV": _other("LTX 2", "makes videos with sound"),
    "MiniMaxH3": _other("MiniMax H3", "makes videos with sound"),
    "MiniMaxMusic3": _other("MiniMax Music 3", "makes music"),
    "SVD_img2vid": _other("Stable Video Diffusion", _ANIMATES),
    "SV3D_u": _other("SV3D u", _ANIMATES),
    "SV3D_p": _other("SV3D p", _ANIMATES),
    "StableAudio": _other("Stable Audio", "makes sound"),
    "StableAudio3": _other("Stable Audio 3", "makes sound"),
    "ACEStep": _other("ACE-Step", "makes music"),
    "ACEStep15": _other("ACE-Step 1.5", "makes music"),
    "Hunyuan3Dv2": _other("Hunyuan3D 2", "makes shapes"),
    "Hunyuan3Dv2mini": _other("Hunyuan3D 2 mini", "makes shapes"),
    "Hunyuan3Dv2_1": _other("Hunyuan3D 2.1", "makes shapes"),
    "TripoSplat": _other("TripoSplat", "makes shapes"),
    "RT_DETR_v4": _other("RT-DETR 4", "finds things in pictures"),
    "SAM3": _other("SAM 3", "finds things in pictures"),
    "SAM31": _other("SAM 3.1", "finds things in pictures"),
    "DepthAnything3": _other("Depth Anything 3", "estimates depth"),
}  # fmt: skip
