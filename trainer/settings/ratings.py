"""The settings of a run that learns from liked and disliked pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ..errors import InputError
from .declaration import setting
from .everyday import AUTO
from .negative import PAIR_SUFFIX
from .training import Settings

WORD_FOR = ("negative prompt", "described negative", "prompt", "both")


SPHERE_RATE = "0.08"
"""Radians of a step. Longer ones (0.16) overshoot at first, and break more of what was right."""


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
    steps: int = setting(
        150,
        "How many steps a run makes. It ends before, once the word ranks the pairs that are held "
        "out clearly worse than it did.",
        minimum=1,
        maximum=100_000,
        place="front",
    )
    batch_size: int = setting(
        4,
        "Pairs per step. Larger batches train more steadily, but need more memory and time.",
        minimum=1,
        maximum=64,
    )
    schedule: str = setting(
        "cosine",
        "How the learning rate changes. cosine: to zero at the last of all steps. constant: not at "
        "all. anytime: it falls like 1 / (1 + step / 100), for runs that end by themselves.",
        options=("anytime", "cosine", "constant"),
        advanced="learning",
    )
    learning_rate: str = setting(
        AUTO,
        f"How far each step goes. auto: {SPHERE_RATE} for sphere, whose rate is in radians, and "
        "what is usual for other optimizers. Half of it where pictures break, twice as much where "
        "nothing changes. Or A1111's list “0.2:50, 0.1:150”.",
    )
    pull: float = setting(
        0.0,
        "How strongly the word is pulled back to where it began, as a share of what draws it at "
        "the start.",
        minimum=0.0,
        maximum=2.0,
        step=0.01,
        advanced="learning",
    )
    timesteps: str = setting(
        "500-1000",
        "Which noise levels to compare at, in thousandths. At much noise it is decided what a "
        "picture becomes; at little noise two pictures differ in so much else that a word learns "
        "them by heart. all, or a window of your own, such as 200-800, for fine details.",
        advanced="learning",
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
        "Guidance scale (CFG) that the word is trained for, for words in negative prompts. About "
        "0.6 of what you will sample with corrects more than all of it: 4 for 6 to 7. Lower "
        "corrects more still, and changes more of what is right.",
        minimum=1.1,
        maximum=30.0,
        step=0.1,
    )
    preference: float = setting(
        50.0,
        "How hard the word tries to tell liked from disliked pictures: β of Diffusion-DPO, in "
        "units of the model's own error. Lower is bolder, higher keeps nearer to the model.",
        minimum=0.1,
        maximum=10_000.0,
        step=0.1,
        advanced="learning",
    )
    leeway: float = setting(
        0.1,
        "How far predictions of liked pictures may move before they are held back, as a share of "
        "the model's own error. Lower changes less of what is right already.",
        minimum=0.0,
        maximum=100.0,
        step=0.01,
        advanced="learning",
    )

    @property
    def batch_pictures(self) -> int:
        """See `Settings`: two of each pair."""
        return 2 * self.batch_size

    @property
    def guidance_of_negative(self) -> float | None:
        """See `Settings`."""
        if self.word_for == "prompt":
            return None
        return 1.0 if self.word_for == "described negative" else self.guidance

    def __post_init__(self) -> None:
        if self.learning_rate.strip() == AUTO and self.optimizer == "sphere":
            object.__setattr__(self, "learning_rate", SPHERE_RATE)
        super().__post_init__()
        if self.word_for == "both" and len(self.name) > 90:
            raise InputError(
                f"The name “{self.name}” is too long for a pair: use up to 90 characters."
            )
        for name, usual in self.unused.items():
            if getattr(self, name) != usual:
                raise InputError(f"{name} cannot be used with ratings: set it to {usual}.")
