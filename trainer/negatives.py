"""Which embeddings are made for the negative prompt: their notes say so, or their name does."""

from __future__ import annotations

import re
from collections.abc import Mapping

NEGATIVE = "modelspec.is_negative_embedding"
"""The note of a file that says whether it is for negative prompts: `true` or `false`."""

_SAYS_SO = re.compile(r"negative|(?<![a-z])neg(?![a-z])")

_WELL_KNOWN = re.compile(
    r"(very)?bad[ _-]?(hand|prompt|artist|picture|quality|image|dream|anatomy|face|feet|x\b)"
    r"|unaesthetic|unrealistic[ _-]?dream|boring_e621|easyneg|ng_deepneg|ac_neg|worst"
)
"""Names of widely used ones that do not speak for themselves."""


def is_negative(name: str, metadata: Mapping[str, str]) -> bool:
    """Whether a word is for negative prompts, as far as notes and name tell.

    Args:
        name: of the word or its file; folders before it do not count.
        metadata: of the file; what it says is believed before the name.
    """
    noted = metadata.get(NEGATIVE, "").lower()
    if noted in ("true", "false"):
        return noted == "true"
    # Case joins words in names such as CyberRealisticNeg; elsewhere it means nothing.
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.rpartition("/")[2]).lower()
    return bool(_SAYS_SO.search(plain) or _WELL_KNOWN.match(plain))


def is_clearly_positive(name: str, metadata: Mapping[str, str]) -> bool:
    """Whether the notes say that a word draws something, so that a negative would forbid it.

    They say it outright, or tell of a training in this package that was not for a negative.
    """
    if is_negative(name, metadata):
        return False
    return NEGATIVE in metadata or "textual_inversion.settings" in metadata
