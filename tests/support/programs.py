"""Fourteen words, how our files name their tensors, and which programs read them.

Recorded by giving the files to the loaders of those programs, see `docs/formats.md`. None of their
code is here: what of it is installed is asked again by the tests, for the rest the record says what
came out, so that a file which changes is seen to need asking again.
"""

from __future__ import annotations

from collections.abc import Mapping

from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.files.writing import (
    DIFFUSERS_SAFETENSORS,
    FORMATS,
    ONETRAINER,
    Format,
)

from .wild import T5, G, H, L, rows

WRITTEN: Mapping[str, Format] = {
    **FORMATS, "--onetrainer": ONETRAINER, "--diffusers": DIFFUSERS_SAFETENSORS
}  # fmt: skip

LLAMA, QWEN = rows(3, 4096, 2), rows(3, 2560)
_ONE = {"clip_l": L[:1], "clip_h": H[:1], "clip_g": G[:1], "t5xxl": T5[:1]}


def _one(*keys: str) -> Embedding:
    return Embedding("w", {key: _ONE[key] for key in keys})


WORDS: Mapping[str, Embedding] = {
    "SD1, one": _one("clip_l"),
    "SD1": Embedding("w", {"clip_l": L}),
    "SD2, one": _one("clip_h"),
    "SD2": Embedding("w", {"clip_h": H}),
    "SDXL, one": _one("clip_l", "clip_g"),
    "SDXL": Embedding("w", {"clip_l": L, "clip_g": G}),
    "SDXL, clip_g alone": Embedding("w", {"clip_g": G}),
    "SD3, one": _one("clip_l", "clip_g", "t5xxl"),
    "SD3": Embedding("w", {"clip_l": L, "clip_g": G, "t5xxl": T5}),
    "Flux": Embedding("w", {"clip_l": L, "t5xxl": T5}),
    "Flux, clip_l alone": Embedding("w", {"clip_l": L}),
    "Chroma": Embedding("w", {"t5xxl": T5}),
    "HiDream": Embedding("w", {"clip_l": L, "clip_g": G, "t5xxl": T5, "llama": LLAMA}),
    "Z-Image": Embedding("w", {"qwen3_4b": QWEN}),
}

READ, BY_HAND, IN_PART, REFUSED, WRONG, NOT_ASKED = "rhp-x."
"""What a program does with a file: reads all its vectors; does so where the user passes on the
vectors of each encoder; reads those of some encoders; none; takes them for something else. It is
not asked where it has no such models, or where the format cannot hold the word."""

# Program -> format -> what it does with each of `WORDS`.
PROGRAMS: Mapping[str, Mapping[str, str]] = {
    "ComfyUI": {
        "safetensors": "rr rr rrr rr rr rrr",
        "a1111": "rr rr ..r .. .r r.r",
        "diffusers": "rr rr ppr .. .r r.r",
        "a1111-picture": "-- -- ..- .. .- -.-",
        "--onetrainer": "rr rr rrr pp pr rpr",
        "--diffusers": "rr rr ppr .. .r r.r",
    },
    "AUTOMATIC1111": {
        "safetensors": "rr rr rr- .. .. ...",
        "a1111": "rr rr ..- .. .. ...",
        "diffusers": "rr rr --- .. .. ...",
        "a1111-picture": "rr rr ..- .. .. ...",
        "--onetrainer": "rr rr rr- .. .. ...",
        "--diffusers": "rr rr --- .. .. ...",
    },
    "Forge": {
        "safetensors": "rr rr rr- -- -r ...",
        "a1111": "rr rr ..- .. .r ...",
        "diffusers": "rr rr --- .. .r ...",
        "a1111-picture": "rr rr ..- .. .r ...",
        "--onetrainer": "rr rr rr- -- -r ...",
        "--diffusers": "rr rr --- .. .r ...",
    },
    "SD.Next": {
        "safetensors": "rr rr rr- rr r- ...",
        "a1111": "rr rr ..- .. .- ...",
        "diffusers": "-- -- --- .. .- ...",
        "a1111-picture": "-- -- ..- .. .- ...",
        "--onetrainer": "rr rr rr- rr r- ...",
        "--diffusers": "xr xr --- .. .- ...",
    },
    "diffusers": {
        "safetensors": "rr rr hhr .. hr ...",
        "a1111": "rr rr ..r .. .r ...",
        "diffusers": "rr rr rrr .. .r ...",
        "a1111-picture": "-- -- ..- .. .- ...",
        "--onetrainer": "rr rr hhr .. hr ...",
        "--diffusers": "rr rr rrr .. .r ...",
    },
    "InvokeAI": {
        "safetensors": "rr rr rrr .. .. ...",
        "a1111": "rr rr ..r .. .. ...",
        "diffusers": "r- r- --- .. .. ...",
        "a1111-picture": "-- -- ..- .. .. ...",
        "--onetrainer": "-- -- rrr .. .. ...",
        "--diffusers": "r- r- --- .. .. ...",
    },
    "kohya's gen_img": {
        "safetensors": "rr rr rr- .. .. ...",
        "a1111": "rr rr ..- .. .. ...",
        "diffusers": "-r -r --- .. .. ...",
        "a1111-picture": "-- -- ..- .. .. ...",
        "--onetrainer": "rr rr rr- .. .. ...",
        "--diffusers": "-r -r --- .. .. ...",
    },
    "kohya's training": {
        "safetensors": "rr rr rrr .. .. ...",
        "a1111": "rr rr ..- .. .. ...",
        "diffusers": "rr rr --- .. .. ...",
        "a1111-picture": "-- -- ..- .. .. ...",
        "--onetrainer": "rr rr rrr .. .. ...",
        "--diffusers": "rr rr --- .. .. ...",
    },
    "OneTrainer": {
        "safetensors": "-- -- rrr pp p- -p.",
        "a1111": "-- -- ..- .. .- -..",
        "diffusers": "-- -- --- .. .- -..",
        "a1111-picture": "-- -- ..- .. .- -..",
        "--onetrainer": "rr rr rrr rr r- rr.",
        "--diffusers": "-- -- --- .. .- -..",
    },
    "Fooocus": {
        "safetensors": ".. .. rrr .. .. ...",
        "a1111": ".. .. ..r .. .. ...",
        "diffusers": ".. .. ppr .. .. ...",
        "a1111-picture": ".. .. ..- .. .. ...",
        "--onetrainer": ".. .. rrr .. .. ...",
        "--diffusers": ".. .. ppr .. .. ...",
    },
    "refiners": {
        "safetensors": "-- .. ... .. .. ...",
        "a1111": "-- .. ... .. .. ...",
        "diffusers": "r- .. ... .. .. ...",
        "a1111-picture": "-- .. ... .. .. ...",
        "--onetrainer": "-- .. ... .. .. ...",
        "--diffusers": "r- .. ... .. .. ...",
    },
}


def outcome(program: str, format: str, word: str) -> str:
    """What a program does with a word in a format: `READ` and so on."""
    letters = PROGRAMS[program][format].replace(" ", "")
    return dict(zip(WORDS, letters, strict=True))[word]


def asked(program: str) -> list[tuple[str, str]]:
    """The formats and words of which is known what a program does with them."""
    pairs = [(format, word) for format in WRITTEN for word in WORDS]
    return [pair for pair in pairs if outcome(program, *pair) != NOT_ASKED]
