"""The settings of a run that learns from liked and disliked pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ..errors import InputError
from .declaration import setting
from .negative import PAIR_SUFFIX
from .training import Settings

WORD_FOR = ("negative prompt", "described negative", "prompt", "both")


@dataclass(frozen=True)
class RatingSettings(Settings):
    """`Settings` that comparisons have a use for, and what only they have.

    Raises:
        InputError: a value outside its range, in one sentence that names the setting.
    """

    unused: ClassVar[Mapping[str, object]] = {
        "learn": "object",
        "flip": False,
        "alpha": "flatten",
        "weighting": "none",
        "templates": "",
        "shuffle_tags": False,
        "drop_tags": 0.0,
        "zoom": 0.0,
        "buckets": False,
        "initialization": "words",
        "progressive": False,
        "context": 0.0,
        "stop_early": False,
        "unlike_weight": 1.0,
    }

    name: str = setting(
        "my-taste",
        "The new word, and the name of its file. Words for both prompts get two: NAME for the "
        f"prompt and NAME{PAIR_SUFFIX} for the negative prompt. No white space, commas or "
        "brackets.",
    )
    init_words: str = setting(
        "",
        "Where training starts. Best left empty, to start from a word that changes nothing.",
    )
    num_vectors: int = setting(
        4,
        "How many vectors (tokens) the word has.",
        minimum=1,
        maximum=64,
    )
    keep: str = setting(
        "best",
        "Which word to keep: the one that told liked from disliked pictures best in the pairs that "
        "were held out, or the last one.",
        options=("last", "best"),
        advanced=True,
    )
    word_for: str = setting(
        WORD_FOR[0],
        "Where the word is to be used. negative prompt: it learns through guidance to lead away "
        "from what you dislike. described negative: it learns to describe that. prompt: it learns "
        "to describe what you like. both: a word for each, learned together.",
        options=WORD_FOR,
    )
    guidance: float = setting(
        4.0,
        "Guidance scale (CFG) that the word is trained for, best that of the rated pictures; for "
        "words in negative prompts.",
        minimum=1.1,
        maximum=30.0,
        step=0.1,
    )
    preference: float = setting(
        30.0,
        "How hard the word tries to tell liked from disliked pictures: β of Diffusion-DPO, in "
        "units of the model's own error. Lower is bolder, higher keeps nearer to the model.",
        minimum=0.1,
        maximum=10_000.0,
        step=0.1,
        advanced=True,
    )
    leeway: float = setting(
        0.1,
        "How far predictions of liked pictures may move before they are held back, as a share of "
        "the model's own error. Lower changes less of what is right already.",
        minimum=0.0,
        maximum=100.0,
        step=0.01,
        advanced=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.word_for == "both" and len(self.name) > 90:
            raise InputError(
                f"The name “{self.name}” is too long for a pair: use up to 90 characters."
            )
        for name, usual in self.unused.items():
            if getattr(self, name) != usual:
                raise InputError(f"{name} cannot be used with ratings: set it to {usual}.")
