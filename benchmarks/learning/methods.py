"""What is compared: names of methods, and the settings that make them. Data alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LEARNED = (
    *("ember-star", "sun-disk", "candy-flower", "tile-square", "sail-triangle", "dusk-ring"),
    *("neon-stripes", "ink-checks"),
)
"""The concepts of the demo that are learned: six objects and two styles."""

STATED: Mapping[str, Any] = {
    "schedule": "cosine",
    "averaging": "last quarter",
    "clip_gradient": 1.0,
    "batch_size": 4,
}
"""What all methods of the ablation share, whatever the defaults are."""


COSINE: Mapping[str, Any] = {
    "schedule": "cosine",
    "averaging": "last quarter",
    "learning_rate": "0.04",
}
"""Turning along a cosine, for a given number of steps: what the defaults were before runs ended by
themselves."""


@dataclass(frozen=True)
class Method:
    """A way of learning.

    Attributes:
        settings: what it changes in the defaults, or in those of its preset; steps do not count,
            because every method is run at every number of samples.
        captions: whether it sees captions, or the templates of the paper.
        script: run by diffusers' own script instead of this package.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    captions: bool = True
    script: bool = False


# Rates: the usual ones, for AdamW times the pictures of a step. Vectors that are crossed are some
# seventy times as long: of 0.02, 0.1, 0.2 and 0.5 the second was best.
_ADAMW = {"optimizer": "adamw", "learning_rate": "0.02", "pull": 0.0}
_SPHERE = {"optimizer": "sphere", "learning_rate": "0.04"}
_OPTIMIZERS: Mapping[str, Mapping[str, Any]] = {
    "adamw": _ADAMW,
    "adamw renorm": {**_ADAMW, "renorm": True},
    "sphere pull 0": {**_SPHERE, "pull": 0.0},
    "sphere pull 0.1": {**_SPHERE, "pull": 0.1},
    "sphere pull 0.3": {**_SPHERE, "pull": 0.3},
    "cross": {**_ADAMW, "initialization": "cross", "learning_rate": "0.1", "pull": 0.01},
}
_WINDOWS: Mapping[str, Mapping[str, Any]] = {"uniform": {}, "window": {"timesteps": "window"}}
_VECTORS = (1, 2, 4)

GRID: Mapping[str, Method] = {
    f"{optimizer}, {window}, {vectors} vector{'s' * (vectors > 1)}": Method(
        {**STATED, **chosen, **drawn, "num_vectors": vectors}
    )
    for window, drawn in _WINDOWS.items()
    for optimizer, chosen in _OPTIMIZERS.items()
    for vectors in _VECTORS
}
"""The ablation: timesteps × optimiser × vectors."""

CHANGES: Mapping[str, Method] = {
    f"cosine, {name}": Method({**COSINE, **change})
    for name, change in {
        "4 vectors, progressive": {"num_vectors": 4, "progressive": True},
        "batch 1": {"batch_size": 1},
        "batch 2": {"batch_size": 2},
        "pull 0.5": {"pull": 0.5},
        "pull 1": {"pull": 1.0},
        "rate 0.02": {"learning_rate": "0.02"},
        "rate 0.08": {"learning_rate": "0.08"},
        "constant rate": {"schedule": "constant"},
        "not averaged": {"averaging": "none"},
        "ema": {"averaging": "ema"},
        "best kept": {"keep": "best"},
        "adamw": {"optimizer": "adamw", "pull": 0.0},
        "300-800": {"timesteps": "300-800"},
        "600-1000": {"timesteps": "600-1000"},
        "logit-normal": {"timesteps": "logit-normal"},
        "min-snr": {"weighting": "min-snr"},
        "debiased": {"weighting": "debiased"},
        "debiased, pull 0.3": {"weighting": "debiased", "pull": 0.3},
        "context 0.001": {"context": 0.001},
        "context 0.1": {"context": 0.1},
        "from captions": {"initialization": "captions"},
    }.items()
}
"""One change to the cosine at a time, beside those in the grid, and two of the best."""

PEERS: Mapping[str, Method] = {
    name: Method({"preset": preset}, captions=captions)
    for name, preset, captions in (
        ("paper's recipe", "paper", False),
        ("diffusers' recipe", "diffusers", False),
        ("A1111's recipe", "A1111", False),
        ("kohya's recipe", "kohya", True),
        ("OneTrainer's recipe", "onetrainer", True),
        ("A1111's recipe, captions", "A1111", True),
    )
}
"""Other trainers' settings, in our loop."""

SCRIPTS: Mapping[str, Method] = {
    "diffusers' script, its defaults": Method(
        {"batch_size": 16, "learning_rate": "1e-4"}, captions=False, script=True
    ),
    "diffusers' script, its README": Method(
        {"batch_size": 1, "accumulate": 4, "learning_rate": "0.002"}, captions=False, script=True
    ),
}
"""The script itself, with the learning rate after its own scaling."""

FIXED = "ours: cosine"
"""What `CHANGES` change."""

DEFAULTS = "ours: ends by itself"

OURS: Mapping[str, Method] = {
    FIXED: Method(COSINE),
    f"{FIXED}, no captions": Method(COSINE, captions=False),
}
"""Runs of a given length."""

ENDING: Mapping[str, Method] = {
    DEFAULTS: Method(),
    f"{DEFAULTS}, no captions": Method(captions=False),
    f"{DEFAULTS}, measured": Method({"weighting": "measured"}),
    f"{DEFAULTS}, measured, no captions": Method({"weighting": "measured"}, captions=False),
}
"""What a user gets who changes nothing, and with weights by timestep that a run measures. The
number of samples is their limit."""

BASELINE = "A1111's recipe"
"""5,000 samples of it are the mark: AdamW at a constant 0.005, one picture a step."""

WITH_CAPTIONS = "A1111's recipe, captions"
"""The same, told what varies in the pictures: the harder mark for methods that are told, too."""

GROUPS: Mapping[str, Mapping[str, Method]] = {
    "ending": ENDING,
    "ours": OURS,
    "peers": PEERS,
    "scripts": SCRIPTS,
    "grid": GRID,
    "changes": CHANGES,
}
METHODS: Mapping[str, Method] = {name: m for group in GROUPS.values() for name, m in group.items()}
