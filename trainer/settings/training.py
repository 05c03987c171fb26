"""The settings of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ..embeddings.names import new_name
from ..errors import InputError
from ..methods.averaging import AVERAGINGS
from ..methods.learning_rate import parse_learning_rate
from ..methods.optimizers import OPTIMIZERS
from ..methods.timesteps import Timesteps, parse_timesteps
from ..methods.weighting import WEIGHTINGS
from ..prompts import parse_templates
from .declaration import check_limits, setting
from .everyday import AUTO, EverydaySettings, parse_memory

INITIALIZATIONS: Sequence[str] = ("words", "cross", "captions")


@dataclass(frozen=True)
class Settings(EverydaySettings):
    """The settings of one run; `described_fields` says what each of them means.

    Raises:
        InputError: a value outside its range, in one sentence that names the setting.
    """

    schedule: str = setting(
        "cosine",
        "How the learning rate changes: it falls to zero along a cosine, or stays constant. A "
        "list of rates is always taken as it stands.",
        options=("cosine", "constant"),
        advanced=True,
    )
    accumulate: int = setting(
        1,
        "Batches whose gradients are added up before one update: a larger batch in the memory "
        "of a small one, at the price of time.",
        minimum=1,
        maximum=64,
        advanced=True,
    )
    clip_gradient: float = setting(
        1.0,
        "Largest allowed norm of the gradient of each step; 0 does not limit it.",
        minimum=0.0,
        maximum=1000.0,
        step=0.1,
        advanced=True,
    )
    flip: bool = setting(
        False,
        "Also train on mirrored pictures. Not for faces, text or anything with a left and a right.",
        advanced=True,
    )
    alpha: str = setting(
        "flatten",
        "What a picture's transparency means: flatten puts the picture on white; mask also "
        "learns only from what is opaque.",
        options=("flatten", "mask"),
        advanced=True,
    )
    checkpointing: bool = setting(
        False,
        "Save memory by computing the network's inner values twice: about a third slower, the "
        "same result.",
        advanced=True,
    )
    evaluations: int = setting(
        20,
        "How many times during the run the word is tried on a fixed batch, whose loss shows what "
        "has been learned. Each costs as much as 4 steps of one picture; 0 does without.",
        minimum=0,
        maximum=1000,
        advanced=True,
    )
    keep: str = setting(
        "last",
        "Which word to keep: the last one, or the best on the fixed batch.",
        options=("last", "best"),
        advanced=True,
    )
    previews: int = setting(
        4,
        "How many pictures to draw with the finished word. 0 draws none.",
        minimum=0,
        maximum=16,
        advanced=True,
    )
    timesteps: str = setting(
        "all",
        "Which amounts of noise to learn from, in thousandths: all; window, which is 500-900 for "
        "an object and 300-800 for a style; a window of your own such as 400-800; or "
        "logit-normal, all but the middle more often.",
        advanced=True,
    )
    weighting: str = setting(
        "none",
        "How much each amount of noise counts: all the same (none), or balanced in one of two "
        "published ways (min-snr, debiased).",
        options=tuple(WEIGHTINGS),
        advanced=True,
    )
    noise_offset: float = setting(
        0.0,
        "Noise that changes whole pictures at once, for very dark or very bright ones: 0.05 to "
        "0.1. 0 is what models are usually trained with.",
        minimum=0.0,
        maximum=1.0,
        step=0.01,
        advanced=True,
    )
    templates: str = setting(
        "",
        "Prompts to train on, one on each line, in place of the standard ones: [name] stands for "
        "the word, [filewords] for the picture's caption (A1111's notation).",
        advanced=True,
        multiline=True,
    )
    shuffle_tags: bool = setting(
        False,
        "Put the parts of a caption between commas in a new order each time. The one with the "
        "word stays where it is.",
        advanced=True,
    )
    drop_tags: float = setting(
        0.0,
        "How often each part of a caption between commas is left out, so that the word does not "
        "come to need it: 0 never, 0.2 every fifth time. The one with the word always stays.",
        minimum=0.0,
        maximum=1.0,
        step=0.05,
        advanced=True,
    )
    zoom: float = setting(
        0.0,
        "How often a picture is shown nearer or farther than it is, with words that say so (“a "
        "close-up”, “seen from afar”): 0 never, 0.5 every second time.",
        minimum=0.0,
        maximum=1.0,
        step=0.05,
        advanced=True,
    )
    buckets: bool = setting(
        False,
        "Keep the shape of each picture, up to 2:1, in place of cropping it to a square. All have "
        "the area of the square; a batch holds pictures of one shape.",
        advanced=True,
    )
    preview_every: int = setting(
        25,
        "After how many steps to draw one picture with the word as it is then, always from the "
        "same noise. Each costs as much as some 20 steps of one picture; 0 draws none.",
        minimum=0,
        maximum=100_000,
        advanced=True,
    )
    save_every: int = setting(
        25,
        "After how many steps to write a checkpoint and to keep the word as it is then. "
        "Whatever ends the run, at most so many steps are lost.",
        minimum=1,
        maximum=100_000,
        advanced=True,
    )
    encoders: str = setting(
        "",
        "Which text encoders learn, such as “clip_l” or “clip_l, t5xxl”; empty for all that the "
        "model has. The others keep the init_words.",
        advanced=True,
    )
    optimizer: str = setting(
        "sphere",
        "How steps are made. sphere only turns vectors, so that the word stays as long as other "
        "words; its learning_rate is in radians. adamw moves them freely. prodigy and "
        "schedule-free need a package of their own.",
        options=tuple(OPTIMIZERS),
        advanced=True,
    )
    pull: float = setting(
        0.1,
        "Likeness or editability: how strongly the word is pulled back to where it began, as a "
        "share of each step. 0 learns the most of the pictures; 0.1 to 0.5 keep the word nearer "
        "to init_words and easier to combine.",
        minimum=0.0,
        maximum=2.0,
        step=0.01,
        advanced=True,
    )
    renorm: bool = setting(
        False,
        "Bring the vectors back to the length of a usual word after each step.",
        advanced=True,
    )
    averaging: str = setting(
        "last quarter",
        "Keep an average in place of the last vectors, which removes noise: over the last quarter "
        "of the run, or a moving one (ema).",
        options=AVERAGINGS,
        advanced=True,
    )
    initialization: str = setting(
        "words",
        "Where learning starts. words: at init_words. cross: at what the text encoder makes of "
        "them, which needs fewer steps. captions: at the words of the captions that fit the "
        "pictures best, without init_words.",
        options=INITIALIZATIONS,
        advanced=True,
    )
    progressive: bool = setting(
        False,
        "Start with one vector and bring in the others one by one during the first half.",
        advanced=True,
    )
    context: float = setting(
        0.0,
        "How strongly the word is kept from changing the meaning of the words around it: 0.0001 "
        "to 0.1. Costs little time; 0 does without.",
        minimum=0.0,
        maximum=10.0,
        step=0.0001,
        advanced=True,
    )
    stop_early: bool = setting(
        False,
        "End the run when the loss on the fixed batch has stopped falling.",
        advanced=True,
    )
    unlike_weight: float = setting(
        1.0,
        "How much pictures of what the word does not mean count, where there are any: the word "
        "may not fit them better than the words it began with. Each step takes more than twice "
        "as long with them.",
        minimum=0.0,
        maximum=10.0,
        step=0.1,
        advanced=True,
    )
    memory: str = setting(
        AUTO,
        "The most of the GPU's memory that training may take, in GB, such as 8; auto: all that "
        "there is. What does not fit comes to the GPU block by block, which takes longer and "
        "learns the same.",
        advanced=True,
        later=True,
    )

    @property
    def memory_bytes(self) -> int | None:
        """What `memory` says, in bytes; None for auto."""
        return parse_memory(self.memory)

    @property
    def fixed_length(self) -> bool:
        """Whether the vectors keep their lengths."""
        return self.renorm or OPTIMIZERS[self.optimizer].keeps_lengths

    @cached_property
    def timestep_range(self) -> Timesteps:
        """What the text of `timesteps` says.

        Raises:
            InputError: it cannot be read.
        """
        return parse_timesteps(self.timesteps, self.learn)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", new_name(self.name))
        check_limits(self)
        if self.resolution % 8:
            raise InputError(f"resolution is {self.resolution}: it must be a multiple of 8.")
        if self.keep == "best" and not self.evaluations:
            raise InputError("keep is “best” but evaluations is 0: the best is not known then.")
        if self.stop_early and not self.evaluations:
            raise InputError("stop_early is on but evaluations is 0: it would never stop.")
        if self.initialization == "cross" and self.fixed_length:
            raise InputError(
                "initialization “cross” starts from long vectors, which renorm and the optimizer "
                "sphere would shorten: choose the optimizer adamw without renorm."
            )
        if self.learning_rate.strip() == AUTO:
            object.__setattr__(self, "learning_rate", OPTIMIZERS[self.optimizer].rate)
        parse_learning_rate(self.learning_rate, self.schedule, self.steps)
        _ = self.timestep_range, self.memory_bytes  # which refuse what they cannot read
        parse_templates(self.templates, self.name)
