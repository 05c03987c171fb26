"""A small procedural world: labelled pictures, drawn and described in words.

Every picture shows one coloured, textured shape on a plain background. A caption
names it coarsely (shape, colour, texture, size, place, background); the picture also
varies in finer ways that captions never name: the exact hue and shade, how many
points a star has, its proportions and tilt, how wide and at which angle its stripes
run, how soft its edge is. What a picture looks like beyond its caption is therefore
known exactly, which is what lets a learned word be *measured*.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]

# The world is laid out and measured on this square; pictures are drawn finer, so that
# every unit of it is a place of its own to an autoencoder that halves them three times.
SIZE = 64
PIXELS = 128
SUPERSAMPLE = 2

SHAPES = ("disk", "square", "triangle", "star", "flower", "ring", "cross")
TEXTURES = ("plain", "striped", "dotted", "checkered")
# Each colour name has its stretch of the hue circle, in degrees from -15.
COLOURS = {
    "red": (-15.0, 15.0),
    "orange": (15.0, 42.0),
    "yellow": (42.0, 70.0),
    "green": (70.0, 160.0),
    "teal": (160.0, 200.0),
    "blue": (200.0, 255.0),
    "purple": (255.0, 295.0),
    "pink": (295.0, 345.0),
}
BACKGROUNDS: dict[str, tuple[float, float, float]] = {  # hue in degrees, saturation, value
    "white": (0.0, 0.0, 0.96),
    "gray": (0.0, 0.0, 0.50),
    "black": (0.0, 0.0, 0.06),
    "red": (0.0, 0.62, 0.62),
    "yellow": (52.0, 0.50, 0.92),
    "green": (120.0, 0.50, 0.52),
    "blue": (222.0, 0.55, 0.62),
    "pink": (325.0, 0.32, 0.94),
}
# An object keeps clear of the backgrounds whose colour it could be mistaken for.
NEAR_COLOURS: dict[str, frozenset[str]] = {
    "white": frozenset(),
    "gray": frozenset(),
    "black": frozenset(),
    "red": frozenset({"red", "orange", "pink"}),
    "yellow": frozenset({"yellow", "orange"}),
    "green": frozenset({"green", "teal"}),
    "blue": frozenset({"blue", "purple", "teal"}),
    "pink": frozenset({"pink", "red", "purple"}),
}
SIZES: dict[str, tuple[float, float]] = {
    "small": (17.0, 18.5),
    "medium": (21.0, 22.5),
    "large": (25.5, 27.5),
}
PLACES: dict[str, tuple[float, float]] = {
    "center": (32.0, 32.0),
    "left": (19.0, 32.0),
    "right": (45.0, 32.0),
    "top": (32.0, 19.0),
    "bottom": (32.0, 45.0),
}
PLACE_JITTER = 1.5
PERIODS = (14.0, 22.0)
# With four points both would be hard to tell from a cross, with three from a triangle.
POINTS: dict[str, tuple[int, ...]] = {"star": (5, 6), "flower": (5, 6)}
TILTS: dict[str, float] = {"square": 15.0, "triangle": 15.0, "cross": 15.0}
SOFTNESS = (0.8, 3.0)


@dataclass(frozen=True)
class Look:
    """What an object looks like wherever it stands: the part that a word can learn."""

    shape: str
    texture: str
    hue: float  # degrees on the hue circle
    shade: float  # 0 deep and dark .. 1 light and pale
    second_hue: float  # of the stripes, dots or checks
    period: float  # of the texture, in pixels
    angle: float  # of the stripes, in degrees (0..180)
    points: int  # of a star or a flower; 0 for the other shapes
    proportion: float  # 0..1: flat to round, thin to stout, by shape
    tilt: float  # degrees; 0 for shapes that do not tilt
    softness: float  # width of the edge, in pixels


@dataclass(frozen=True)
class Scene:
    """A look, set somewhere."""

    look: Look
    background: str
    size: str
    place: str
    radius: float
    x: float
    y: float
    background_hue: float
    background_value: float


def colour_name(hue: float) -> str:
    """The coarse name of a hue in degrees."""
    wrapped = (hue + 15.0) % 360.0 - 15.0
    for name, (low, high) in COLOURS.items():
        if low <= wrapped < high:
            return name
    return "red"


def hsv(hue: float, saturation: float, value: float) -> NDArray[np.float64]:
    """Hue in degrees, saturation and value in 0..1, to RGB in 0..1."""
    return np.array(colorsys.hsv_to_rgb((hue % 360.0) / 360.0, saturation, value))


def shade_rgb(hue: float, shade: float) -> NDArray[np.float64]:
    """A hue at a shade: from deep (0) over full (0.5) to pale (1)."""
    saturation = 1.0 if shade < 0.5 else 1.0 - 0.8 * (shade - 0.5)
    value = 0.6 + 0.8 * shade if shade < 0.5 else 1.0
    return hsv(hue, saturation, value)


def rgb_shade(colour: NDArray[np.float64]) -> tuple[float, float]:
    """Hue and shade of a colour: the way back from `shade_rgb`."""
    hue, saturation, value = colorsys.rgb_to_hsv(*np.clip(colour, 0.0, 1.0).tolist())
    pale = max(0.0, 1.0 - saturation)
    # Deep colours lack light, pale ones saturation; take whichever is lacking more.
    shade = 0.5 + pale / 0.8 if pale > 1.0 - value else 0.5 - (1.0 - value) / 0.8
    return hue * 360.0, float(np.clip(shade, 0.0, 1.0))


def object_colours(look: Look) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """First and second colour of a look; the second is pale where the first is deep."""
    return shade_rgb(look.hue, look.shade), shade_rgb(look.second_hue, 1.0 - look.shade)


def _distance(
    look: Look, radius: float, x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Signed distance to the outline in pixels (negative inside), close to the outline."""
    tilt = np.deg2rad(look.tilt)
    u = (x * np.cos(tilt) + y * np.sin(tilt)) / radius
    v = (-x * np.sin(tilt) + y * np.cos(tilt)) / radius
    r = np.hypot(u, v)
    p = look.proportion
    if look.shape == "disk":
        flat = 0.5 + 0.5 * p
        d = (np.hypot(u, v / flat) - 1.0) * flat
    elif look.shape == "square":
        half, corner = 0.84, 0.02 + 0.3 * p
        qx, qy = np.abs(u) - half + corner, np.abs(v) - half + corner
        d = (
            np.hypot(np.maximum(qx, 0), np.maximum(qy, 0))
            + np.minimum(np.maximum(qx, qy), 0)
            - corner
        )
    elif look.shape == "triangle":
        half_width, top, base = 1.05 - 0.3 * p, -0.95, 0.7
        slope = np.arctan2(half_width, base - top)
        d = np.maximum(v - base, np.abs(u) * np.cos(slope) - (v - top) * np.sin(slope))
    elif look.shape in ("star", "flower"):
        theta = np.arctan2(u, -v)
        sector = 2 * np.pi / look.points
        folded = np.abs((theta + sector / 2) % sector - sector / 2)
        if look.shape == "star":
            inner = 0.36 + 0.12 * p
            # The edge from a tip (at angle 0) to the notch (at half a sector).
            ex, ey = inner * np.cos(sector / 2) - 1.0, inner * np.sin(sector / 2)
            px, py = r * np.cos(folded) - 1.0, r * np.sin(folded)
            d = (ex * py - ey * px) / -np.hypot(ex, ey)
        else:
            # Round petals, wide where a star has tips, so that no blur makes one the other.
            depth = 0.38 + 0.14 * p
            d = (r - (1.0 - depth + depth * np.cos(look.points * folded / 2))) * (1.0 - depth)
    elif look.shape == "ring":
        hole = 0.3 + 0.4 * p
        d = np.maximum(r - 1.0, hole - r)
    else:  # cross
        arm = 0.2 + 0.16 * p
        au, av = np.abs(u), np.abs(v)
        d = np.minimum(np.maximum(au - 0.95, av - arm), np.maximum(av - 0.95, au - arm))
    return np.asarray(d * radius)


def _second_share(
    look: Look, x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How much of the second colour each place takes, 0..1, antialiased over a pixel."""
    if look.texture == "plain":
        return np.zeros_like(x)
    k = 2 * np.pi / look.period
    if look.texture == "striped":
        a = np.deg2rad(look.angle)
        # Narrow, so that the first colour is the one that the object has.
        wave = -np.cos(k * (x * np.cos(a) + y * np.sin(a))) - 0.5
    elif look.texture == "dotted":
        dx = (x + look.period / 2) % look.period - look.period / 2
        dy = (y + look.period / 2) % look.period - look.period / 2
        return np.asarray(np.clip(0.33 * look.period - np.hypot(dx, dy) + 0.5, 0.0, 1.0))
    else:
        wave = -np.cos(k * x / 2) * np.cos(k * y / 2) * 1.4
    return np.asarray(np.clip(wave / k + 0.5, 0.0, 1.0))


def layers(
    look: Look, radius: float, x: float, y: float, n: int = SIZE
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the object is, and where on it its second colour: two n x n maps of 0..1."""
    axis = (np.arange(n) + 0.5) * (SIZE / n)
    u, v = np.meshgrid(axis - x, axis - y)
    inside = np.clip(0.5 - _distance(look, radius, u, v) / look.softness, 0.0, 1.0)
    return inside * inside * (3.0 - 2.0 * inside), _second_share(look, u, v)


def draw(scene: Scene, size: int = PIXELS) -> Picture:
    """The picture of a scene: height x width x RGB in 0..1."""
    look = scene.look
    maps = layers(look, scene.radius, scene.x, scene.y, size * SUPERSAMPLE)
    inside, share = maps[0][..., None], maps[1][..., None]
    first, second = object_colours(look)
    _, saturation, _ = BACKGROUNDS[scene.background]
    ground = hsv(scene.background_hue, saturation, scene.background_value)
    picture = ground * (1.0 - inside) + (first * (1.0 - share) + second * share) * inside
    picture = picture.reshape(size, SUPERSAMPLE, size, SUPERSAMPLE, 3).mean(axis=(1, 3))
    return np.asarray(picture, dtype=np.float32)


def random_look(
    rng: np.random.Generator,
    shape: str | None = None,
    texture: str | None = None,
    colour: str | None = None,
) -> Look:
    """A look at random, with the coarse attributes that are given."""
    shape = shape or str(rng.choice(SHAPES))
    # Plain things show their hue and outline best, so they are drawn more often.
    texture = texture or str(rng.choice(TEXTURES, p=(0.34, 0.26, 0.2, 0.2)))
    low, high = COLOURS[colour or str(rng.choice(list(COLOURS)))]
    hue = float(rng.uniform(low, high)) % 360.0
    points = POINTS.get(shape)
    tilt = TILTS.get(shape, 0.0)
    return Look(
        shape=shape,
        texture=texture,
        hue=hue,
        shade=float(rng.uniform(0.0, 1.0)),
        second_hue=(hue + float(rng.uniform(110.0, 250.0))) % 360.0,
        period=float(rng.uniform(*PERIODS)),
        angle=float(rng.uniform(0.0, 180.0)),
        points=int(rng.choice(points)) if points else 0,
        proportion=float(rng.uniform(0.0, 1.0)),
        tilt=float(rng.uniform(-tilt, tilt)),
        softness=float(np.exp(rng.uniform(np.log(SOFTNESS[0]), np.log(SOFTNESS[1])))),
    )


def place_look(
    look: Look,
    rng: np.random.Generator,
    background: str | None = None,
    size: str | None = None,
    place: str | None = None,
) -> Scene:
    """Set a look somewhere at random, or where told."""
    if background is None:
        name = colour_name(look.hue)
        background = str(rng.choice([b for b in BACKGROUNDS if name not in NEAR_COLOURS[b]]))
    size = size or str(rng.choice(list(SIZES)))
    place = place or str(rng.choice(list(PLACES)))
    x, y = PLACES[place]
    hue, _, value = BACKGROUNDS[background]
    return Scene(
        look=look,
        background=background,
        size=size,
        place=place,
        radius=float(rng.uniform(*SIZES[size])),
        x=x + float(rng.uniform(-PLACE_JITTER, PLACE_JITTER)),
        y=y + float(rng.uniform(-PLACE_JITTER, PLACE_JITTER)),
        background_hue=hue + float(rng.uniform(-8.0, 8.0)),
        background_value=float(np.clip(value + rng.uniform(-0.05, 0.04), 0.0, 1.0)),
    )


def random_scene(rng: np.random.Generator) -> Scene:
    """A scene at random, concepts included; training draws from `concepts.training_scene`."""
    return place_look(random_look(rng), rng)
