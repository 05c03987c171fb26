"""The settings that a user meets first; `Settings` adds the rarely used ones."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError
from ..methods.optimizers import OPTIMIZERS
from ..methods.settling import PATIENCE
from .declaration import setting

AUTO = "auto"
"""In place of a learning rate: the optimiser's usual one."""


@dataclass(frozen=True)
class EverydaySettings:
    """What is learned, from where, and for how long."""

    name: str = setting(
        "my-word",
        "The new word and the name of its file: prompts use it as embedding:NAME. No white space, "
        "commas or brackets.",
    )
    init_words: str = setting(
        "",
        "A common word or two for what the pictures show, such as “toy cat”: training starts "
        "there. With more vectors than words, the words repeat; with fewer, some are skipped. If "
        "empty, training starts from the mean of the vocabulary, which takes longer.",
    )
    num_vectors: int = setting(
        1,
        "How many vectors (tokens) the word has. One is the easiest to combine with other words; 2 "
        "to 8 capture more detail and take up as many of the prompt's 75 places.",
        minimum=1,
        maximum=64,
    )
    learn: str = setting(
        "object",
        "What the pictures have in common: an object (“a photo of …”) or a style (“a painting in "
        "the style of …”). Chooses the prompts for pictures without a caption.",
        options=("object", "style"),
    )
    steps: int = setting(
        2000,
        "The maximum number of steps; a run usually ends by itself before (see patience). With the "
        "schedules cosine and constant, the exact number.",
        minimum=1,
        maximum=100_000,
        advanced="learning",
        place="front",
    )
    batch_size: int = setting(
        4,
        "Pictures per step. Larger batches train more steadily, but need more memory and time.",
        minimum=1,
        maximum=64,
    )
    resolution: int = setting(
        512,
        "Pictures are cropped to a square of this many pixels: 512 for SD1, 768 for SD2-v, 1024 "
        "for SDXL. Smaller is faster.",
        minimum=64,
        maximum=2048,
        step=8,
    )
    learning_rate: str = setting(
        AUTO,
        "How far each step goes. auto: what suits the optimizer, "
        + ", ".join(f"{one.falling_rate or one.rate} for {n}" for n, one in OPTIMIZERS.items())
        + f"; with the schedules cosine and constant {OPTIMIZERS['sphere'].rate} for sphere. Or a "
        "number of your own, or A1111's list “0.005:100, 1e-3:1000” (0.005 up to step 100, then "
        "1e-3 up to step 1000).",
    )
    seed: int = setting(
        0,
        "Seed for all random choices. The same seed, settings and pictures give the same word.",
        minimum=0,
        maximum=2**53 - 1,
    )
    patience: str = setting(
        "balanced",
        "When a run ends by itself: once twice as many steps would bring the word nearer by less "
        "than "
        + ", ".join(f"{worth:.0%} ({name})" for name, worth in PATIENCE.items() if worth)
        + " of its way. Where each step says little, that takes longer. none: only at the limit of "
        "steps. Only used with the schedule anytime.",
        options=tuple(PATIENCE),
        place="end",
    )

    @property
    def batch_pictures(self) -> int:
        """How many pictures a batch shows."""
        return self.batch_size

    @property
    def guidance_of_negative(self) -> float | None:
        """That a word for negative prompts is trained for, 1 if for none; None for other words."""
        return None


def parse_memory(text: str) -> int | None:
    """Bytes of so many GB; None for auto.

    Raises:
        InputError: it is neither.
    """
    if text.strip() == AUTO:
        return None
    try:
        size = float(text.strip().upper().removesuffix("GB"))
    except ValueError:
        size = 0.0
    if not 0 < size < 1e6:
        raise InputError(f"memory is “{text}”: write auto, or a number of GB such as 8.")
    return int(size * (1 << 30))
