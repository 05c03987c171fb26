"""The demo's lesson: pictures of something new, and captions that say all but its look."""

from __future__ import annotations

from collections.abc import Sequence

from ..trainer.prompts import PLACEHOLDER
from .captions import PLACE_PHRASES
from .concepts import CONCEPTS, Concept, concept_scenes
from .world import Picture, Scene, draw


def captioned_pictures(
    name: str, count: int = 5, seed: int = 0
) -> tuple[Sequence[Picture], Sequence[str]]:
    """Pictures of a concept, each height x width x RGB in 0..1, and a caption for each.

    The captions explain background and place, so that only the look is left for the word
    to learn.
    """
    concept = CONCEPTS[name]
    scenes = concept_scenes(name, count, seed)
    return [draw(scene) for scene in scenes], [_caption(concept, scene) for scene in scenes]


def _caption(concept: Concept, scene: Scene) -> str:
    where = f"on a {scene.background} background, {PLACE_PHRASES[scene.place][0]}"
    if concept.kind == "style":
        return f"a {scene.look.shape} {where}, in the style of {PLACEHOLDER}"
    return f"a photo of a {PLACEHOLDER} {where}"
