"""What has to be known of a family of models, and what it means for a run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...trainer.errors import InputError
from ...trainer.model import USUAL_GUIDANCE

FAR = 1.5
"""How many times larger or smaller than usual a setting may be before the node says so."""


@dataclass(frozen=True)
class Family:
    """What cannot be told from a model of the family.

    Attributes:
        title: what people call it.
        sides: of the square pictures for which its models were made, from the smallest to the
            largest, in pixels.
        guidance: the scales (CFG) that the host's own workflow templates draw with, the smallest
            and the largest; None if there is no template. 1 is that of distilled models.
        told: the scale that the network itself is told where guidance was distilled into it (the
            host's Flux Guidance); CFG stays at 1 then. None for other networks.
        refused: why none of its models is trained with, and what to do instead; it goes on from
            "which".
        stills: whether it draws single pictures at all, from a prompt or from another picture.
        overwrites: its network overwrites what a backward pass needs.
    """

    title: str
    sides: tuple[int, int] = (1024, 1024)
    guidance: tuple[float, float] | None = None
    told: float | None = None
    refused: str = ""
    stills: bool = True
    overwrites: bool = False

    def check(self) -> None:
        """Refuse what cannot be trained with.

        Raises:
            InputError: with the reason and what to do.
        """
        if self.refused:
            raise InputError(f"This is a model of the family “{self.title}”, which {self.refused}.")

    def notes_on(self, resolution: int, negative: float | None) -> list[str]:
        """What to say of the settings of a run.

        Args:
            resolution: of the pictures, in pixels.
            negative: the guidance that a word for negative prompts is trained for, 1 if for none;
                None for other words.
        """
        notes = [self._note_on_resolution(resolution)]
        if negative is not None:
            notes.append(self._note_on_negative(negative))
        return [note for note in notes if note]

    def _note_on_resolution(self, resolution: int) -> str:
        """What to say where pictures are far from what the models were made for; else empty."""
        smallest, largest = self.sides
        if smallest / FAR <= resolution <= largest * FAR:
            return ""
        usual = spanned(self.sides)
        return (
            f"This model was made for pictures of {usual} pixels, and at a resolution of "
            f"{resolution} it draws differently: a word learned there works less well at the usual "
            f"size. Set resolution to {usual}."
        )

    def _note_on_negative(self, scale: float) -> str:
        """What to say where usual guidance leaves it out or is far lower; else empty."""
        smallest, largest = self.guidance or (math.inf, math.inf)
        if self.told or smallest == 1:
            whose = "Distilled models" if not self.told and largest > 1 else "Models"
            return (
                f"{whose} of the family “{self.title}” are usually drawn with a cfg of 1, where a "
                "negative prompt does nothing: use this word with a higher cfg."
            )
        if scale > largest * FAR:
            usual = spanned((smallest, largest))
            return (
                f"Models of the family “{self.title}” are usually drawn with a cfg of {usual}, and "
                f"this word is trained for {scale:g}: set guidance to {usual} or less."
            )
        return ""

    def for_previews(self) -> float:
        """The scale of guidance (CFG) to draw previews with.

        Whether a model is a distilled one of its family cannot be told: between the two usual
        scales, both still draw. A network that is told a scale predicts what this scale of CFG
        makes of it where it is told 1 (arXiv 2210.03142), as it is here.
        """
        smallest, largest = (self.told, self.told) if self.told else self.guidance or (None, None)
        if smallest is None or largest is None:
            return USUAL_GUIDANCE
        return min(math.sqrt(smallest * largest), USUAL_GUIDANCE)


def spanned(span: tuple[float, float]) -> str:
    """The smallest and the largest of something, for people."""
    smallest, largest = span
    return f"{smallest:g}" if smallest == largest else f"{smallest:g} to {largest:g}"
