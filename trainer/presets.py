"""Recipes by name: settings that belong together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .methods.optimizers import OPTIMIZERS

NONE = "none"
"""In place of a preset's name: the settings as they stand."""


@dataclass(frozen=True)
class Preset:
    """A recipe.

    Attributes:
        help: for what, in a few words.
        values: names of settings and what they become; all others stay as they are.
    """

    help: str
    values: Mapping[str, Any]


_SPHERE: Mapping[str, Any] = {
    "optimizer": "sphere",
    "learning_rate": OPTIMIZERS["sphere"].rate,
    "batch_size": 4,
    "schedule": "cosine",
    "averaging": "last quarter",
    "timesteps": "all",
    "weighting": "none",
    "noise_offset": 0.0,
    "initialization": "words",
    "accumulate": 1,
}
"""Direction only (arXiv 2512.13672), for runs of a given length."""

_ANYTIME: Mapping[str, Any] = {
    **_SPHERE,
    "learning_rate": OPTIMIZERS["sphere"].falling_rate,
    "schedule": "anytime",
    "averaging": "last half",
    "steps": 2000,
}
"""The same for runs that end by themselves, as the defaults have it."""

# arXiv 2503.14868. On the tiny model of the demo it does worse for objects than all timesteps.
_WINDOW: Mapping[str, Any] = {**_SPHERE, "steps": 500, "timesteps": "window"}

_CLASSIC: Mapping[str, Any] = {
    "optimizer": "adamw",
    "schedule": "constant",
    "averaging": "none",
    "timesteps": "all",
    "weighting": "none",
    "noise_offset": 0.0,
    "initialization": "words",
    "accumulate": 1,
    "clip_gradient": 0.0,
    "flip": False,
    "pull": 0.0,
    "renorm": False,
    "progressive": False,
    "context": 0.0,
    "stop_early": False,
    "patience": "none",
    "keep": "last",
}
"""What the first trainers have in common."""

PRESETS: Mapping[str, Preset] = {
    "fast": Preset(
        "ends early, tried on two concepts of the tiny model",
        {**_ANYTIME, "patience": "fast"},
    ),
    "balanced": Preset(
        "the defaults, checked on the tiny model", {**_ANYTIME, "patience": "balanced"}
    ),
    "thorough": Preset(
        "ends late, tried on two concepts of the tiny model",
        {**_ANYTIME, "patience": "thorough"},
    ),
    # The published code: 400 steps of 4 pictures, 0.04 radians each, the last vector. Its pull is a
    # number of its own, which is a share of the gradient here.
    "directional": Preset(
        "Directional TI as published for SDXL",
        {**_SPHERE, "schedule": "constant", "averaging": "none", "steps": 400, "pull": 0.1},
    ),
    "style": Preset(
        "500 steps of fixed length, for a style",
        {**_WINDOW, "learn": "style"},
    ),
    "window": Preset(
        "the same for an object, on the timesteps reported to teach large models the most",
        _WINDOW,
    ),
    # arXiv 2208.01618: batches of 4 on two GPUs, a base rate of 0.005 times both.
    "paper": Preset(
        "the original paper's",
        {
            **_CLASSIC,
            "steps": 5000,
            "batch_size": 4,
            "accumulate": 2,
            "learning_rate": "0.04",
            "flip": True,
        },
    ),
    # The README of examples/textual_inversion: 5e-4, scaled by batch and accumulation.
    "diffusers": Preset(
        "the script of diffusers",
        {
            **_CLASSIC,
            "steps": 3000,
            "batch_size": 1,
            "accumulate": 4,
            "learning_rate": "0.002",
            "flip": True,
        },
    ),
    # The train tab as it opens, but for its 100,000 steps, which mean "until I stop it".
    "A1111": Preset(
        "AUTOMATIC1111's train tab",
        {**_CLASSIC, "steps": 5000, "batch_size": 1, "learning_rate": "0.005"},
    ),
    # The example of docs/train_ti_README.
    "kohya": Preset(
        "the example of kohya's scripts",
        {
            **_CLASSIC,
            "steps": 1600,
            "batch_size": 1,
            "learning_rate": "1e-6",
            "clip_gradient": 1.0,
        },
    ),
    # The preset "sd 1.5 embedding"; its 100 epochs, of 20 pictures.
    "onetrainer": Preset(
        "OneTrainer's preset for SD 1.5",
        {
            **_CLASSIC,
            "steps": 2000,
            "batch_size": 1,
            "learning_rate": "3e-4",
            "clip_gradient": 1.0,
        },
    ),
}

HELP = (
    "A recipe: overrides some of the settings and leaves the others. "
    + "; ".join(f"{name}: {preset.help}" for name, preset in PRESETS.items())
    + "."
)


def with_preset(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with those of a preset in place of their own.

    Args:
        name: a key of `PRESETS`, or `NONE`.
        values: name of a setting -> value.
    """
    return {**values, **(PRESETS[name].values if name != NONE else {})}
