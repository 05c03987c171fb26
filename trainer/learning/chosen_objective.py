"""What the settings of a run ask for: its objective, and the losses of its steps."""

from __future__ import annotations

from collections.abc import Sequence

from ..data.pictures import Picture
from ..model import FrozenModel
from ..settings import NegativeSettings, RatingSettings, Settings
from .comparison_objectives import (
    BothFromRatings,
    Comparison,
    Describing,
    DescribingDislikes,
    ThroughGuidance,
)
from .comparisons import ComparisonLosses
from .distributed import Processes
from .losses import StepLosses
from .negative_objectives import FromBadPictures, FromGoodPictures, Pair
from .objectives import Objective, Word


def objective_of(settings: Settings) -> Objective:
    """The objective that a run's settings ask for."""
    if isinstance(settings, RatingSettings):
        return _comparison(settings)
    if not isinstance(settings, NegativeSettings):
        return Word()
    if settings.objective == "pair":
        return Pair(settings.guidance)
    if settings.objective == "good pictures":
        return FromGoodPictures(settings.guidance, settings.keep_guidance)
    return FromBadPictures()


def losses_of(
    model: FrozenModel, pictures: Sequence[Picture], settings: Settings, processes: Processes
) -> StepLosses | ComparisonLosses:
    """The losses of a run's steps.

    Raises:
        InputError: pictures or captions cannot be used.
    """
    if isinstance(settings, RatingSettings):
        return ComparisonLosses(model, pictures, settings, _comparison(settings), processes)
    return StepLosses(model, pictures, settings, objective_of(settings), processes)


def _comparison(settings: RatingSettings) -> Comparison:
    return {
        "negative prompt": ThroughGuidance(settings.guidance),
        "described negative": DescribingDislikes(),
        "prompt": Describing(),
        "both": BothFromRatings(settings.guidance),
    }[settings.word_for]
