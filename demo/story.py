"""The demo: teach the tiny model a word, and show and measure that it has learned it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..trainer.data.pictures import Picture
from ..trainer.diffusers_model.model import DiffusersModel
from ..trainer.embeddings.embedding import Embedding
from ..trainer.errors import InputError
from ..trainer.files.writing import write_embedding
from ..trainer.learning.loop import Progress, train
from ..trainer.methods.sampler import sample
from ..trainer.prompts import PLACEHOLDER
from ..trainer.settings import Settings
from .concepts import CONCEPTS
from .lesson import captioned_pictures
from .measure import Asked, Measured, contexts, measure, wordings
from .model import GUIDANCE, LATENT_CHANNELS, LATENT_SIZE, load_model
from .sampling import STEPS
from .world import PIXELS

CPU = torch.device("cpu")

CONTEXTS = 20
SHOWN = 5
LABEL, MARGIN, GAP = 20, 16, 4
WIDTH = SHOWN * (PIXELS + GAP) - GAP + 2 * MARGIN


@dataclass(frozen=True)
class Lesson:
    """What the demo found out.

    Attributes:
        words: the best that words alone reach, and the phrase.
        learned: the same measures with the learned word.
    """

    phrase: str
    words: Measured
    learned: Measured

    def __str__(self) -> str:
        rows = [
            ("", "likeness error", "background", "place"),
            *(
                (name, f"{m.likeness_error:.2f}", f"{m.background:.0%}", f"{m.place:.0%}")
                for name, m in (("words alone", self.words), ("learned word", self.learned))
            ),
        ]
        return "\n".join("{:<14}{:>16}{:>12}{:>8}".format(*row) for row in rows)


def tiny_model(device: torch.device = CPU) -> DiffusersModel:
    """The tiny model behind the trainer's seam, on a device.

    Raises:
        InputError: diffusers is not installed.
    """
    try:
        parts = load_model()
    except ImportError as error:
        raise InputError(
            f'The demo needs {error.name}: pip install "textual-inversion[demo]".'
        ) from error
    for part in (parts.unet, parts.vae, parts.text_encoder):
        part.to(device)
    return DiffusersModel(
        parts.unet, parts.vae, [parts.text_encoder], [parts.tokenizer], parts.scheduler,
        name="tiny-demo", guidance=GUIDANCE,
    )  # fmt: skip


def lesson_settings(concept: str, **changes: object) -> Settings:
    """Settings of the demo's run, which ends by itself after some twenty seconds on a CPU.

    Raises:
        InputError: there is no such concept.
    """
    if concept not in CONCEPTS:
        raise InputError(f"There is no concept “{concept}”: choose one of {', '.join(CONCEPTS)}.")
    defaults = {
        "name": concept,
        "init_words": CONCEPTS[concept].class_words,
        "learn": CONCEPTS[concept].kind,
        "steps": 250,
        "resolution": PIXELS,
        "previews": 0,
    }
    return Settings(**{**defaults, **changes})  # type: ignore[arg-type]


def learn(model: DiffusersModel, settings: Settings, seed: int = 0) -> Iterator[Progress]:
    """Train a word on pictures of the concept of the settings' name."""
    pictures, captions = captioned_pictures(settings.name, SHOWN, seed)
    return train(
        model,
        [Picture(torch.from_numpy(p).float(), c) for p, c in zip(pictures, captions, strict=True)],
        settings,
    )


def draw_all(
    model: DiffusersModel, asked: Sequence[Asked], word: Embedding | None = None
) -> list[Tensor]:
    """One picture for each prompt, each from its own noise."""
    vectors = word.vectors if word else {}
    return [
        sample(
            model,
            one.prompt,
            vectors,
            latent_shape=(LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE),
            seed=number,
            steps=STEPS,
        )
        for number, one in enumerate(asked)
    ]


def best_words(model: DiffusersModel, concept: str) -> tuple[str, list[Tensor], Measured]:
    """The phrase that comes nearest to a concept, what the model draws for it, and how near."""
    found = []
    for phrase in wordings(concept):
        asked = contexts(concept, phrase, CONTEXTS)
        drawn = draw_all(model, asked)
        found.append((phrase, drawn, measure(torch.stack(drawn), concept, asked)))
    return min(found, key=lambda one: one[2].likeness_error)


def with_word(
    model: DiffusersModel, concept: str, word: Embedding
) -> tuple[list[Tensor], Measured]:
    """What the model draws in the same places with a learned word, and how near it comes."""
    asked = contexts(concept, PLACEHOLDER, CONTEXTS)
    drawn = draw_all(model, asked, word)
    return drawn, measure(torch.stack(drawn), concept, asked)


def tell(folder: Path, concept: str, run: Sequence[Progress], model: DiffusersModel) -> Lesson:
    """Measure before and after, and write embedding, losses and picture into a folder."""
    word = run[-1].kept
    phrase, before, words = best_words(model, concept)
    after, learned = with_word(model, concept, word)
    folder.mkdir(parents=True, exist_ok=True)
    write_embedding(word, folder / f"{word.name}.safetensors", overwrite=True)
    measured = {p.step: p.evaluation for p in run if p.evaluation is not None}
    rows = [f"{p.step},{p.loss:.6f},{measured.get(p.step, '')}" for p in run]
    (folder / "loss.csv").write_text("\n".join(["step,loss,evaluation", *rows, ""]))
    shown = [torch.from_numpy(p).float() for p in captioned_pictures(concept, SHOWN)[0]]
    places = [f"{one.background}, {one.place}" for one in contexts(concept, "", SHOWN)]
    picture = story_picture(
        [
            (f"Five pictures of something new: “{concept}”", shown, []),
            (f"Before: drawn with the nearest words, “{phrase}”", before, places),
            (f"After: drawn with the learned word “{concept}”, from the same noise", after, places),
        ],
        list(measured.values()),
    )
    picture.save(folder / "story.png")
    return Lesson(phrase, words, learned)


def story_picture(
    rows: Sequence[tuple[str, Sequence[Tensor], Sequence[str]]], evaluations: Sequence[float]
) -> Image.Image:
    """Rows of pictures between titles and labels, and the curve of the loss below.

    Args:
        rows: title, pictures [PIXELS, PIXELS, 3] in 0..1 of which the first `SHOWN` are
            shown, and a label for each of them or none.
        evaluations: the loss on the fixed batch, from first to last.
    """
    height = MARGIN + sum(2 * LABEL + PIXELS + (LABEL if labels else 0) for *_, labels in rows)
    canvas = Image.new("RGB", (WIDTH, height + LABEL + PIXELS + MARGIN), "white")
    pen = ImageDraw.Draw(canvas)
    top = MARGIN // 2
    for title, pictures, labels in rows:
        pen.text((MARGIN, top), title, fill="black", font_size=14)
        top += LABEL
        for column, picture in enumerate(pictures[:SHOWN]):
            left = MARGIN + column * (PIXELS + GAP)
            pixels = (picture.clamp(0, 1) * 255).round().byte().numpy()
            canvas.paste(Image.fromarray(pixels), (left, top))
            if labels:
                pen.text((left, top + PIXELS + 2), labels[column], fill="gray", font_size=11)
        top += PIXELS + LABEL + (LABEL if labels else 0)
    pen.text(
        (MARGIN, top), "While it learns: the loss on a fixed batch", fill="black", font_size=14
    )
    box = (MARGIN, top + LABEL, canvas.width - MARGIN, top + LABEL + PIXELS)
    _curve(pen, box, evaluations)
    return canvas


def _curve(
    pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int], values: Sequence[float]
) -> None:
    left, top, right, bottom = box
    pen.rectangle(box, outline="lightgray")
    low, high = min(values), max(values)
    points = [
        (
            left + (right - left) * i / max(1, len(values) - 1),
            bottom - (bottom - top) * (0.05 + 0.9 * (v - low) / max(high - low, 1e-9)),
        )
        for i, v in enumerate(values)
    ]
    pen.line(points, fill="royalblue", width=2)
    pen.text((right - 40, top + 2), f"{high:.3f}", fill="gray", font_size=11)
    pen.text((left + 4, bottom - 16), f"{low:.3f}", fill="gray", font_size=11)
