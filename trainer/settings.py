"""Every choice of a training run, described once.

The words beside each field are its documentation, the tooltip of the node's input and
the help of the command line's option.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .embedding import check_name
from .errors import InputError
from .schedule import parse_learning_rate


@dataclass(frozen=True)
class Choice:
    """What surfaces (node, command line) need to know about one setting."""

    help: str
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    options: Sequence[str] | None = None
    advanced: bool = False


def _setting(default: Any, help_text: str, **constraints: Any) -> Any:
    return dataclasses.field(default=default, metadata={"choice": Choice(help_text, **constraints)})


@dataclass(frozen=True)
class Settings:
    """The settings of one run; `described_fields` says what each of them means.

    Raises:
        InputError: a value outside its range, in one sentence that names the setting.
    """

    name: str = _setting(
        "my-word",
        "The new word. Prompts use it as embedding:NAME, and the file is called so. No white "
        "space, commas or brackets.",
    )
    init_words: str = _setting(
        "",
        "One or a few common words for what the pictures show, such as “toy cat”: where learning "
        "starts. More vectors than words repeat them, fewer skip some. Empty starts from the mean "
        "of the vocabulary, which takes longer.",
    )
    num_vectors: int = _setting(
        1,
        "How many vectors (tokens) the word has. One stays the most editable; 2 to 8 catch more "
        "detail and take up as many of the prompt's 75 places.",
        minimum=1,
        maximum=64,
    )
    learn: str = _setting(
        "object",
        "What the pictures have in common: an object (“a photo of …”) or a style (“a painting in "
        "the style of …”). Chooses the prompts for pictures without a caption.",
        options=("object", "style"),
    )
    steps: int = _setting(
        1000,
        "How many times the vectors are updated. More is slower and, past some point, makes the "
        "word ignore the rest of the prompt.",
        minimum=1,
        maximum=100_000,
    )
    batch_size: int = _setting(
        1,
        "Pictures per step. Larger is steadier and needs more memory and time.",
        minimum=1,
        maximum=64,
    )
    resolution: int = _setting(
        512,
        "Pictures are cropped to a square of this many pixels: 512 for SD1, 768 for SD2-v, 1024 "
        "for SDXL. Smaller is faster.",
        minimum=64,
        maximum=2048,
        step=8,
    )
    learning_rate: str = _setting(
        "0.005",
        "How far each step goes: a number, or A1111's list “0.005:100, 1e-3:1000” (0.005 up to "
        "step 100, then 1e-3 up to step 1000).",
    )
    seed: int = _setting(
        0,
        "Start of all random choices. The same seed, settings and pictures give the same word.",
        minimum=0,
        maximum=2**53 - 1,
    )
    schedule: str = _setting(
        "cosine",
        "How the learning rate changes: it falls to zero along a cosine, or stays constant. A "
        "list of rates is always taken as it stands.",
        options=("cosine", "constant"),
        advanced=True,
    )
    accumulate: int = _setting(
        1,
        "Batches whose gradients are added up before one update: a larger batch in the memory "
        "of a small one, at the price of time.",
        minimum=1,
        maximum=64,
        advanced=True,
    )
    clip_gradient: float = _setting(
        1.0,
        "Largest allowed norm of the gradient of each step; 0 does not limit it.",
        minimum=0.0,
        maximum=1000.0,
        step=0.1,
        advanced=True,
    )
    flip: bool = _setting(
        False,
        "Also train on mirrored pictures. Not for faces, text or anything with a left and a right.",
        advanced=True,
    )
    alpha: str = _setting(
        "flatten",
        "What a picture's transparency means: flatten puts the picture on white; mask also "
        "learns only from what is opaque.",
        options=("flatten", "mask"),
        advanced=True,
    )
    checkpointing: bool = _setting(
        False,
        "Save memory by computing the network's inner values twice: about a third slower, the "
        "same result.",
        advanced=True,
    )
    evaluations: int = _setting(
        20,
        "How many times during the run the word is tried on a fixed batch, whose loss shows what "
        "has been learned. Each costs as much as 4 steps of one picture; 0 does without.",
        minimum=0,
        maximum=1000,
        advanced=True,
    )
    keep: str = _setting(
        "last",
        "Which word to keep: the last one, or the best on the fixed batch.",
        options=("last", "best"),
        advanced=True,
    )
    previews: int = _setting(
        4,
        "How many pictures to draw with the finished word. 0 draws none.",
        minimum=0,
        maximum=16,
        advanced=True,
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", check_name(self.name))
        for field, choice in described_fields():
            value = getattr(self, field.name)
            if choice.options and value not in choice.options:
                raise InputError(
                    f"{field.name} is “{value}”: choose one of {', '.join(choice.options)}."
                )
            if choice.minimum is not None and value < choice.minimum:
                raise InputError(f"{field.name} is {value}: it must be at least {choice.minimum}.")
            if choice.maximum is not None and value > choice.maximum:
                raise InputError(f"{field.name} is {value}: it must be at most {choice.maximum}.")
        if self.resolution % 8:
            raise InputError(f"resolution is {self.resolution}: it must be a multiple of 8.")
        if self.keep == "best" and not self.evaluations:
            raise InputError("keep is “best” but evaluations is 0: the best is not known then.")
        parse_learning_rate(self.learning_rate, self.schedule, self.steps)


def described_fields() -> list[tuple[dataclasses.Field[Any], Choice]]:
    """Each field of `Settings` with its description, in the order of declaration."""
    return [(f, f.metadata["choice"]) for f in dataclasses.fields(Settings)]
