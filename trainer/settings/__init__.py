"""Every choice of a training run, described once.

The words beside each field are its documentation, the tooltip of the node's input and the help of
the command line's option. Settings may import `methods`, for the names to choose from, and what
these stand on; nothing here knows a model or a file.
"""

from .declaration import Choice, described_fields, setting
from .everyday import AUTO
from .negative import ONLY_FOR_ONE_WORD, PAIR_SUFFIX, NegativeSettings
from .ratings import WORD_FOR, RatingSettings
from .training import Settings

__all__ = [
    "AUTO",
    "ONLY_FOR_ONE_WORD",
    "PAIR_SUFFIX",
    "WORD_FOR",
    "Choice",
    "NegativeSettings",
    "RatingSettings",
    "Settings",
    "described_fields",
    "setting",
]
