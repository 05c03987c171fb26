"""The settings of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ..embeddings.names import new_name
from ..methods.averaging import AVERAGINGS
from ..methods.learning_rate import SCHEDULES, is_anytime, parse_learning_rate
from ..methods.measured_weights import MEASURED
from ..methods.optimizers import OPTIMIZERS
from ..methods.settling import PATIENCE
from ..methods.timesteps import Timesteps, parse_timesteps
from ..methods.weighting import WEIGHTINGS
from ..prompts import parse_templates
from .declaration import check_limits, check_together, setting
from .everyday import AUTO, EverydaySettings, parse_memory

INITIALIZATIONS: Sequence[str] = ("words", "cross", "captions")


@dataclass(frozen=True)
class Settings(EverydaySettings):
    """The settings of one run; `described_fields` says what each of them means.

    Raises:
        InputError: a value outside its range, in one sentence that names the setting.
    """

    schedule: str = setting(
        "anytime",
        "How the learning rate changes. anytime: it falls like 1 / (1 + step / 100), for runs that "
        "end by themselves (see patience). cosine: to zero at the last step. constant: not at all. "
        "A list of rates is always used as written.",
        options=SCHEDULES,
        advanced="learning",
    )
    accumulate: int = setting(
        1,
        "How many batches to add up before each update: the effect of a larger batch in the memory "
        "of a small one, at the cost of time.",
        minimum=1,
        maximum=64,
        advanced="learning",
    )
    clip_gradient: float = setting(
        1.0,
        "Maximum norm of the gradient of each step; 0 means no limit.",
        minimum=0.0,
        maximum=1000.0,
        step=0.1,
        advanced="learning",
    )
    flip: bool = setting(
        False,
        "Also train on mirrored pictures. Not for faces, text or anything with a distinct left and "
        "right.",
        advanced="pictures",
    )
    alpha: str = setting(
        "flatten",
        "How to treat transparency: flatten puts the picture on white; mask also learns only from "
        "what is opaque.",
        options=("flatten", "mask"),
        advanced="pictures",
    )
    checkpointing: bool = setting(
        False,
        "Save memory by computing the network's activations twice: about a third slower, with the "
        "same result.",
        advanced="learning",
    )
    evaluations: int = setting(
        20,
        "About how many times the word is evaluated on a fixed batch, whose loss shows what has "
        "been learned: over the whole run (at most twice as many) or, with the schedule anytime, "
        "until step 500 and less and less often after that. Each costs as much as 4 steps of one "
        "picture; 0 turns them off.",
        minimum=0,
        maximum=1000,
        advanced="checks",
    )
    keep: str = setting(
        "last",
        "Which word to keep: the last one, or the best on the fixed batch.",
        options=("last", "best"),
        advanced="saving",
    )
    previews: int = setting(
        4,
        "How many pictures to draw with the finished word. 0 draws none.",
        minimum=0,
        maximum=16,
        advanced="checks",
    )
    timesteps: str = setting(
        "all",
        "Which noise levels to train on, in thousandths: all; window, which is 500-900 for an "
        "object and 300-800 for a style; a window of your own, such as 400-800; or logit-normal, "
        "all of them, but those in the middle more often.",
        advanced="learning",
    )
    weighting: str = setting(
        "none",
        "How much each noise level counts: all the same (none), balanced in one of two published "
        "ways (min-snr, debiased), or by how reliable its gradient proves to be during the run "
        "(measured).",
        options=(*WEIGHTINGS, MEASURED),
        advanced="learning",
    )
    noise_offset: float = setting(
        0.0,
        "Noise that shifts a whole picture at once, for very dark or very bright pictures: 0.05 to "
        "0.1. Most models are trained with 0.",
        minimum=0.0,
        maximum=1.0,
        step=0.01,
        advanced="learning",
    )
    templates: str = setting(
        "",
        "Prompts to train on, one per line, instead of the standard ones: [name] stands for the "
        "word, [filewords] for the picture's caption (A1111's notation).",
        advanced="prompts",
        multiline=True,
    )
    shuffle_tags: bool = setting(
        False,
        "Shuffle the comma-separated tags of a caption each time it is used. The tag with the word "
        "stays where it is.",
        advanced="prompts",
    )
    drop_tags: float = setting(
        0.0,
        "How often each comma-separated tag of a caption is left out, so that the word does not "
        "come to depend on it: 0 is never, 0.2 every fifth time. The tag with the word always "
        "stays.",
        minimum=0.0,
        maximum=1.0,
        step=0.05,
        advanced="prompts",
    )
    zoom: float = setting(
        0.0,
        "How often a picture is shown closer or farther away than it is, with words that say so "
        "(“a close-up”, “seen from afar”): 0 is never, 0.5 half the time.",
        minimum=0.0,
        maximum=1.0,
        step=0.05,
        advanced="pictures",
    )
    buckets: bool = setting(
        False,
        "Keep the shape of each picture, up to 2:1, instead of cropping it to a square. All have "
        "the same area as the square; a batch holds pictures of one shape.",
        advanced="pictures",
    )
    preview_every: int = setting(
        25,
        "How often, in steps, to draw a picture with the word, always from the same noise. Each "
        "costs as much as about 20 steps of one picture; 0 draws none.",
        minimum=0,
        maximum=100_000,
        advanced="checks",
    )
    save_every: int = setting(
        25,
        "How often, in steps, to write a checkpoint and keep a copy of the word. However the run "
        "ends, at most that many steps are lost.",
        minimum=1,
        maximum=100_000,
        advanced="saving",
    )
    encoders: str = setting(
        "",
        "Which text encoders to train, such as “clip_l” or “clip_l, t5xxl”; empty for all of the "
        "model's. The others keep the init_words.",
        advanced="learning",
    )
    optimizer: str = setting(
        "sphere",
        "How the vectors are updated. sphere only turns them, so that they stay as long as those "
        "of other words; its learning_rate is in radians. adamw moves them freely. prodigy and "
        "schedule-free each need a package of their own.",
        options=tuple(OPTIMIZERS),
        advanced="learning",
    )
    pull: float = setting(
        0.1,
        "Likeness or editability: how strongly the word is pulled back to where it began, as a "
        "share of what draws it to the pictures at the start, so that a value means the same for "
        "every model. 0 learns the most from the pictures; 0.1 to 0.5 keep the word nearer to "
        "init_words and easier to combine.",
        minimum=0.0,
        maximum=2.0,
        step=0.01,
        advanced="learning",
    )
    renorm: bool = setting(
        False,
        "Scale the vectors back to the length of a typical word after each step.",
        advanced="learning",
    )
    averaging: str = setting(
        "last half",
        "Keep an average in place of the last vectors, which removes noise: over the last half of "
        "the steps so far, over the last quarter of all steps, or a moving one (ema).",
        options=AVERAGINGS,
        advanced="learning",
    )
    initialization: str = setting(
        "words",
        "Where training starts. words: from init_words. cross: from what the text encoder makes of "
        "them, which takes fewer steps. captions: from the words of the captions that fit the "
        "pictures best, without init_words.",
        options=INITIALIZATIONS,
        advanced="learning",
    )
    progressive: bool = setting(
        False,
        "Start with one vector and add the others one by one during the first half of the run.",
        advanced="learning",
    )
    context: float = setting(
        0.0,
        "How strongly the word is kept from changing the meaning of the words around it: 0.0001 to "
        "0.1. Costs little time; 0 turns it off.",
        minimum=0.0,
        maximum=10.0,
        step=0.0001,
        advanced="prompts",
    )
    stop_early: bool = setting(
        False,
        "End the run when the loss on the fixed batch has stopped falling.",
        advanced="checks",
    )
    unlike_weight: float = setting(
        1.0,
        "How much the unlike_images count, if there are any: the word must not fit them better "
        "than the words it started from. Each step takes more than twice as long with them.",
        minimum=0.0,
        maximum=10.0,
        step=0.1,
        advanced="pictures",
    )
    memory: str = setting(
        AUTO,
        "How much of the GPU's memory training may use, in GB, such as 8; auto: all of it. What "
        "does not fit is brought to the GPU block by block, which takes longer and gives the same "
        "result.",
        advanced="learning",
        place="end",
    )

    @property
    def memory_bytes(self) -> int | None:
        """What `memory` says, in bytes; None for auto."""
        return parse_memory(self.memory)

    @property
    def anytime(self) -> bool:
        """Whether the run has no length of its own, and ends when more is not worth it."""
        return is_anytime(self.schedule, self.learning_rate)

    @property
    def ends_by_itself(self) -> bool:
        """Whether `steps` is a limit that is not meant to be reached."""
        return self.anytime and PATIENCE[self.patience] > 0

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
        check_together(self)
        if self.learning_rate.strip() == AUTO:
            optimizer = OPTIMIZERS[self.optimizer]
            usual = optimizer.falling_rate if self.anytime else optimizer.rate
            object.__setattr__(self, "learning_rate", usual or optimizer.rate)
        parse_learning_rate(self.learning_rate, self.schedule, self.steps)
        _ = self.timestep_range, self.memory_bytes  # which refuse what they cannot read
        parse_templates(self.templates, self.name)
