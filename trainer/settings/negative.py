"""The settings of a run that learns a word for negative prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import InputError
from .declaration import setting
from .training import Settings

PAIR_SUFFIX = "-neg"
"""What the negative of a pair adds to the name of its positive (DreamArtist's custom)."""

ONLY_FOR_ONE_WORD: Mapping[str, object] = {
    "context": 0.0,
    "progressive": False,
    "initialization": "words",
}
"""Settings that look at one word in the prompts of pictures -> the value that turns them off."""

OBJECTIVES = ("bad pictures", "good pictures", "pair")


@dataclass(frozen=True)
class NegativeSettings(Settings):
    """`Settings`, and what only negatives have.

    Raises:
        InputError: a value outside its range, in one sentence that names the setting.
    """

    name: str = setting(
        "my-negative",
        "The new word for negative prompts, and the name of its file. A pair gets two: NAME for "
        f"the prompt and NAME{PAIR_SUFFIX} for the negative prompt. No white space, commas or "
        "brackets.",
    )
    init_words: str = setting(
        "",
        "Where training starts. For bad pictures: a few common words for what is wrong, such as "
        "“blurry”, or empty for the mean of the vocabulary. For good pictures: best left empty, to "
        "start from a negative prompt that changes nothing. For a pair: what the pictures show; "
        "its negative starts from the mean.",
    )
    objective: str = setting(
        "bad pictures",
        "What to learn from. Bad pictures: they show what you do not want. Good pictures: each "
        "needs a caption, and the negative learns what the model gets wrong about them. Pair: a "
        "word for what the pictures show and its negative, learned together (DreamArtist).",
        options=OBJECTIVES,
    )
    guidance: float = setting(
        3.0,
        "Guidance scale (CFG) that the negative is trained for; for good pictures and pairs. For "
        "good pictures, take about half of what you will sample with: the lower it is, the more "
        "the negative corrects. For pairs, 3 to 5 is usual, even if you will sample with more.",
        minimum=1.1,
        maximum=30.0,
        step=0.1,
    )
    keep_guidance: float = setting(
        1.0,
        "For good pictures: 1 leaves guidance as strong as with an empty negative prompt and only "
        "corrects mistakes; 0 only asks that guided predictions be right, which weakens guidance.",
        minimum=0.0,
        maximum=1.0,
        step=0.05,
        advanced="learning",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective == "pair" and len(self.name) > 90:
            raise InputError(
                f"The name “{self.name}” is too long for a pair: use up to 90 characters."
            )
        if self.objective != "bad pictures":
            for name, usual in ONLY_FOR_ONE_WORD.items():
                if getattr(self, name) != usual:
                    raise InputError(
                        f"{name} cannot be used with the objective “{self.objective}”: set it to "
                        f"{usual}."
                    )

    @property
    def guidance_of_negative(self) -> float | None:
        """See `Settings`."""
        return 1.0 if self.objective == "bad pictures" else self.guidance
