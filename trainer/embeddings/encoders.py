"""The one table of text encoders: how files name them, and which models read with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ..model import Parameterization


@dataclass(frozen=True)
class Encoder:
    """A text encoder as embedding files know it.

    Attributes:
        key: ComfyUI's name for it, under which files keep its vectors.
        width: of one vector.
        alone: what a file with this key alone is for, in words.
        labels: further names that tools give to its tensor.
    """

    key: str
    width: int
    alone: str
    labels: Sequence[str] = ()


ENCODERS: Sequence[Encoder] = (
    Encoder("clip_l", 768, "Stable Diffusion 1", ("text_encoders_0", "emb")),
    Encoder("clip_h", 1024, "Stable Diffusion 2"),
    Encoder("clip_g", 1280, "SDXL (second encoder)", ("text_encoders_1", "emb2")),
    Encoder("t5xxl", 4096, "a model with a T5-XXL encoder", ("t5",)),
)
"""Those whose width tells which one they are; files may hold vectors for any other key as well."""

KEY_OF_WIDTH: Mapping[int, str] = {e.width: e.key for e in ENCODERS}
WIDTH_OF_KEY: Mapping[str, int] = {e.key: e.width for e in ENCODERS}
KEY_OF_LABEL: Mapping[str, str] = {label: e.key for e in ENCODERS for label in e.labels}
_ALONE: Mapping[str, str] = {e.key: e.alone for e in ENCODERS}
_TINY_DEMO: Mapping[str, int] = {"clip_l": 96}
"""What the tiny model that comes with this package reads with."""


@dataclass(frozen=True)
class ModelFamily:
    """Models that read with the same text encoders.

    Attributes:
        name: in words.
        keys: of its encoders.
        architectures: what the network predicts -> the name in modelspec 1.0.1, where it has one.
    """

    name: str
    keys: frozenset[str]
    architectures: Mapping[Parameterization, str]


MODEL_FAMILIES: Sequence[ModelFamily] = (
    ModelFamily(
        "Stable Diffusion 1",
        frozenset({"clip_l"}),
        {"epsilon": "stable-diffusion-v1", "v_prediction": "stable-diffusion-v1"},
    ),
    ModelFamily(
        "Stable Diffusion 2",
        frozenset({"clip_h"}),
        {"epsilon": "stable-diffusion-v2-512", "v_prediction": "stable-diffusion-v2-768-v"},
    ),
    ModelFamily(
        "SDXL",
        frozenset({"clip_l", "clip_g"}),
        {
            "epsilon": "stable-diffusion-xl-v1-base",
            "v_prediction": "stable-diffusion-xl-v1-base",
        },
    ),
    ModelFamily("Stable Diffusion 3", frozenset({"clip_l", "clip_g", "t5xxl"}), {}),
    ModelFamily("Flux.1", frozenset({"clip_l", "t5xxl"}), {}),
    ModelFamily("HiDream", frozenset({"clip_l", "clip_g", "t5xxl", "llama"}), {}),
)


def has_usual_widths(widths: Mapping[str, int]) -> bool:
    """Whether every key is one of `ENCODERS` and as wide as it."""
    return all(WIDTH_OF_KEY.get(key) == width for key, width in widths.items())


def family_of(widths: Mapping[str, int]) -> str:
    """The models that read vectors of these encoders, in words.

    Args:
        widths: encoder key -> width.
    """
    if widths == _TINY_DEMO:
        return "the tiny demo model"
    if any(WIDTH_OF_KEY.get(key, width) != width for key, width in widths.items()):
        encoders = (f"a {key} encoder {width} wide" for key, width in widths.items())
        return f"a model with {' and '.join(encoders)}"
    several = [f for f in MODEL_FAMILIES if len(f.keys) > 1 and f.keys <= widths.keys()]
    if several:
        return max(several, key=lambda family: len(family.keys)).name
    return " and ".join(_ALONE.get(k, f"a model with a {k} encoder") for k in sorted(widths))


def families_in_part(widths: Mapping[str, int]) -> list[str]:
    """Families of which some encoders are the same, and some are not."""
    if not has_usual_widths(widths):
        return []
    keys = widths.keys()
    return [f.name for f in MODEL_FAMILIES if f.keys & keys and f.keys != keys]


def architecture_of(widths: Mapping[str, int], parameterization: Parameterization) -> str:
    """A model's name in modelspec 1.0.1; empty where it has none."""
    if not has_usual_widths(widths):
        return ""
    keys: Collection[str] = widths.keys()
    fitting = (f.architectures for f in MODEL_FAMILIES if f.keys == keys)
    return next(fitting, {}).get(parameterization, "")
