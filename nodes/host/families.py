"""The one table of the host's families: for which pictures each was made, and which are refused.

A family is a class of `comfy.supported_models`, by its name. Everything that the adapter does is
told by what a model computes; only what cannot be told that way stands here. A family that is not
in the table is trained like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...trainer.errors import InputError

FAR = 1.5
"""How many times larger or smaller than usual pictures may be before the node says so."""


@dataclass(frozen=True)
class Family:
    """What cannot be told from a model of the family.

    Attributes:
        title: what people call it.
        sides: of the square pictures for which its models were made, from the smallest to the
            largest, in pixels.
        refused: why none of its models is trained with, and what to do instead; it goes on from
            "which".
        stills: whether it draws single pictures at all, from a prompt or from another picture.
        overwrites: its network overwrites what a backward pass needs.
    """

    title: str
    sides: tuple[int, int] = (1024, 1024)
    refused: str = ""
    stills: bool = True
    overwrites: bool = False

    def check(self) -> None:
        """Refuse what cannot be trained with.

        Raises:
            InputError: with the reason and what to do.
        """
        if self.refused:
            raise InputError(f"This is a model of the family “{self.title}”, which {self.refused}.")

    def note_on(self, resolution: int) -> str:
        """What to say where pictures are far from what the models were made for; else empty."""
        smallest, largest = self.sides
        if smallest / FAR <= resolution <= largest * FAR:
            return ""
        usual = str(smallest) if smallest == largest else f"{smallest} to {largest}"
        return (
            f"This model was made for pictures of {usual} pixels, and at a resolution of "
            f"{resolution} it draws differently: a word learned there works less well at the usual "
            f"size. Set resolution to {usual}."
        )


def family_of(model: Any) -> Family | None:
    """The family of a host's ModelPatcher; None if it is none that we know.

    A class that the table lacks counts as the one that it is derived from.
    """
    config = getattr(model.model, "model_config", None)
    known = (FAMILIES[c.__name__] for c in type(config).__mro__ if c.__name__ in FAMILIES)
    return next(known, None)


def _sized(title: str, smallest: int, largest: int | None = None) -> Family:
    return Family(title, (smallest, largest or smallest))


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

FAMILIES: Mapping[str, Family] = {
    "SD15": _sized("Stable Diffusion 1", 512),
    "SD15_instructpix2pix": _sized("Stable Diffusion 1, instruct", 512),
    "SD20": _sized("Stable Diffusion 2", 512, 768),
    "SD21UnclipL": _sized("Stable Diffusion 2, unCLIP L", 768),
    "SD21UnclipH": _sized("Stable Diffusion 2, unCLIP H", 768),
    "SDXL": _sized("SDXL", 1024),
    "SDXL_instructpix2pix": _sized("SDXL, instruct", 768, 1024),
    "SSD1B": _sized("SSD-1B", 1024),
    "Segmind_Vega": _sized("Segmind Vega", 1024),
    "KOALA_700M": _sized("KOALA 700M", 1024),
    "KOALA_1B": _sized("KOALA 1B", 1024),
    "Stable_Cascade_C": _sized("Stable Cascade", 1024),
    "SD3": _sized("Stable Diffusion 3 and 3.5", 1024),
    "AuraFlow": _sized("AuraFlow", 1024),
    "PixArtAlpha": _sized("PixArt-Alpha", 512, 1024),
    "PixArtSigma": _sized("PixArt-Sigma", 512, 1024),
    "HunyuanDiT": _sized("HunyuanDiT 1.2", 1024),
    "HunyuanDiT1": _sized("HunyuanDiT 1.0 and 1.1", 1024),
    "Flux": _sized("Flux.1", 1024),
    "FluxInpaint": _sized("Flux.1 Fill", 1024),
    "FluxSchnell": _sized("Flux.1 schnell", 1024),
    "Flux2": _sized("Flux.2", 1024, 2048),
    "LongCatImage": _sized("LongCat Image", 1024),
    "Chroma": _sized("Chroma", 512, 1024),
    "ChromaRadiance": _sized("Chroma Radiance", 512, 1024),
    "HiDream": _sized("HiDream-I1", 1024),
    "Lumina2": _sized("Lumina 2", 1024),
    "ZImage": _sized("Z-Image", 1024, 1536),
    "ZImagePixelSpace": _sized("Z-Image, pixel space", 1024),
    "PixelDiTT2I": Family("PixelDiT", (512, 1024), overwrites=True),
    "Omnigen2": _sized("Omnigen 2", 1024),
    "Boogu": _sized("Boogu", 1024, 2048),
    "QwenImage": _sized("Qwen-Image", 1024, 1328),
    "MageFlow": _sized("Mage Flow", 1024),
    "JoyImage": _sized("JoyImage", 1024),
    "Ideogram4": _sized("Ideogram 4", 1024, 2048),
    "Krea2": _sized("Krea 2", 1024, 2048),
    "ErnieImage": _sized("Ernie Image", 1024),
    "Anima": _sized("Anima", 1024),
    "HunyuanImage21": _sized("HunyuanImage 2.1", 2048),
    "Kandinsky5Image": _sized("Kandinsky 5 Image", 1024),
    "Kandinsky5": _sized("Kandinsky 5 Video", 512, 768),
    "CosmosT2IPredict2": _sized("Cosmos Predict 2", 704, 1024),
    "WAN21_T2V": _sized("Wan 2.1 and 2.2 14B", 480, 960),
    "WAN22_T2V": _sized("Wan 2.2 5B", 704, 960),
    "HunyuanVideo": _sized("Hunyuan Video", 544, 960),
    "HunyuanVideo15": _sized("Hunyuan Video 1.5", 480, 960),
    "LTXV": Family("LTX Video", (512, 768), overwrites=True),
    "GenmoMochi": _sized("Mochi", 480, 640),
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
    "WAN21_FlowRVS": _another("Wan FlowRVS", "a video", "Wan text to video"),
    "WAN21_SCAIL": _another("Wan SCAIL", "poses to follow", "Wan text to video"),
    "WAN21_SCAIL2": _another("Wan SCAIL 2", "poses to follow", "Wan text to video"),
    "WAN22_WanDancer": _another("WanDancer", "a person and music", "Wan text to video"),
    # Nothing that could be called a picture.
    "LTXAV": _other("LTX 2", "makes videos with sound"),
    "MiniMaxH3": _other("MiniMax H3", "makes videos with sound"),
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
