"""Words for the pictures of the world: coarse on purpose, in many phrasings.

The same templates that textual inversion uses (the CLIP ImageNet ones) are part of
the training captions, so that every word of theirs means what it should: nothing.
"""

from __future__ import annotations

import numpy as np

from .world import BACKGROUNDS, COLOURS, PLACES, SHAPES, SIZES, TEXTURES, Look, Scene, colour_name

# Stands for a learned word in training captions: its embedding is put in by the trainer.
STAND_IN = "*"

OBJECT_TEMPLATES = (
    "a photo of a {}",
    "a rendering of a {}",
    "a cropped photo of the {}",
    "the photo of a {}",
    "a photo of a clean {}",
    "a photo of a dirty {}",
    "a dark photo of the {}",
    "a photo of my {}",
    "a photo of the cool {}",
    "a close-up photo of a {}",
    "a bright photo of the {}",
    "a cropped photo of a {}",
    "a photo of the {}",
    "a good photo of the {}",
    "a photo of one {}",
    "a close-up photo of the {}",
    "a rendition of the {}",
    "a photo of the clean {}",
    "a rendition of a {}",
    "a photo of a nice {}",
    "a good photo of a {}",
    "a photo of the nice {}",
    "a photo of the weird {}",
    "a photo of a cool {}",
)
STYLE_ADJECTIVES = (
    *("", "cropped", "clean", "dirty", "dark", "cool", "close-up", "bright", "good", "nice"),
    *("weird", "rich"),
)
STYLE_NOUNS = ("painting", "rendering", "picture", "photo", "drawing")
PLACE_PHRASES: dict[str, tuple[str, ...]] = {
    "center": ("in the center", "in the middle"),
    "left": ("on the left", "at the left", "on the left side"),
    "right": ("on the right", "at the right", "on the right side"),
    "top": ("at the top", "on top"),
    "bottom": ("at the bottom", "on the bottom"),
}
WITH_TEXTURE = {"striped": "stripes", "dotted": "dots", "checkered": "checks"}
EXTRA_WORDS = (
    *("a", "an", "and", "of", "the", "in", "on", "at", "with", "is", "it", "one", "my", "style"),
    *("background", "shape", "thing", "object", "image", "art", "grey", "side", "s"),
    *("small", "large", "big", "tiny", "medium", "huge"),
)


def words() -> list[str]:
    """Every word that a caption can hold, sorted: what the vocabulary must know."""
    text = [
        *SHAPES,
        *TEXTURES,
        *COLOURS,
        *BACKGROUNDS,
        *PLACES,
        *SIZES,
        *OBJECT_TEMPLATES,
        *STYLE_ADJECTIVES,
        *STYLE_NOUNS,
        *WITH_TEXTURE.values(),
        *EXTRA_WORDS,
        *(phrase for phrases in PLACE_PHRASES.values() for phrase in phrases),
    ]
    found = " ".join(text).replace("{}", " ").replace("-", " ").split()
    return sorted(set(found))


def noun_phrase(
    look: Look,
    *,
    colour: bool = True,
    texture: bool = True,
    shape: bool = True,
    second: bool = False,
) -> str:
    """The coarse words for a look, without an article: "red striped star with blue stripes"."""
    parts: list[str] = []
    if colour:
        parts.append(colour_name(look.hue))
    if texture and look.texture != "plain" and not second:
        parts.append(look.texture)
    parts.append(look.shape if shape else "thing")
    if second and look.texture != "plain":
        parts += ["with", colour_name(look.second_hue), WITH_TEXTURE[look.texture]]
    return " ".join(parts)


def setting(
    phrase: str, *, size: str = "", background: str = "", place: str = "", article: bool = False
) -> str:
    """A phrase with the words for size, background and place put around it."""
    if size and size != "medium":
        phrase = f"{size} {phrase}"
    if article:
        phrase = f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"
    if background:
        phrase += f" on a {background} background"
    if place:
        phrase += f", {place}"
    return phrase


def caption(scene: Scene, rng: np.random.Generator | None = None, *, learned: str = "") -> str:
    """Words for a scene.

    Without a generator the full plain form; with one, a phrasing at random, parts of
    which may be left out. `learned` says what a stand-in word names: "" (no stand-in),
    "object" or "style".
    """
    place = PLACE_PHRASES[scene.place][0]
    if rng is None:
        phrase = noun_phrase(scene.look)
        parts = {"size": scene.size, "background": scene.background, "place": place}
        return setting(phrase, article=True, **parts)

    def sometimes(chance: float) -> bool:
        return bool(rng.random() < chance)

    look = scene.look
    phrase = noun_phrase(
        look,
        colour=sometimes(0.9 if not learned else 0.15),
        texture=sometimes(0.85 if not learned else 0.15),
        shape=sometimes(0.95 if learned != "object" else 0.3),
        second=sometimes(0.3) and not learned,
    )
    if learned == "object":
        if phrase.endswith("thing"):
            phrase = phrase.removesuffix("thing") + STAND_IN
        else:
            phrase = f"{STAND_IN} {phrase}"
    elif not learned and look.texture == "plain" and sometimes(0.25):
        phrase = f"plain {phrase}"
    size = str(rng.choice([scene.size, *SIZE_SYNONYMS[scene.size]])) if sometimes(0.7) else ""
    background = scene.background if sometimes(0.8) else ""
    if background == "gray" and sometimes(0.3):
        background = "grey"
    place = str(rng.choice(PLACE_PHRASES[scene.place])) if sometimes(0.7) else ""
    if learned == "style":
        return _in_style(phrase, size, background, place, rng)
    templated = sometimes(0.7)
    text = setting(phrase, size=size, background=background, place=place, article=not templated)
    return str(rng.choice(OBJECT_TEMPLATES)).format(text) if templated else text


SIZE_SYNONYMS: dict[str, tuple[str, ...]] = {
    "small": ("small", "small", "tiny"),
    "medium": ("medium",),
    "large": ("large", "large", "big", "huge"),
}


def _in_style(phrase: str, size: str, background: str, place: str, rng: np.random.Generator) -> str:
    """A caption whose look is left to a style: "a nice painting of a star in the style of *"."""
    adjective = str(rng.choice(STYLE_ADJECTIVES)) if rng.random() < 0.5 else ""
    noun = str(rng.choice(STYLE_NOUNS))
    work = f"{rng.choice(['a', 'the'])} {adjective} {noun}".replace("  ", " ")
    kind = rng.random()
    if kind < 0.25:  # the bare form, whose picture may show anything in that style
        return f"{work} in the style of {STAND_IN}"
    if kind < 0.45:
        text = setting(phrase, size=size, background=background, place=place, article=True)
        return f"{text}, in the style of {STAND_IN}"
    text = setting(phrase, size=size, background=background, place="", article=True)
    text = f"{work} of {text} in the style of {STAND_IN}"
    return f"{text}, {place}" if place else text
