"""Whether the tiny model shows what a prompt asks for, over many prompts.

python -m textual_inversion.demo.evaluate [--count 200] [--seed 0] [--sheet FILE.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .captions import OBJECT_TEMPLATES, PLACE_PHRASES, noun_phrase, setting
from .concepts import training_scene
from .estimator import read
from .model import GUIDANCE, MODEL_FILE, TinyModel, load_model
from .sampling import STEPS, sample
from .world import Scene, colour_name


def evaluation_prompts(count: int, seed: int = 0) -> tuple[list[str], list[Scene]]:
    """Full prompts in the training templates, and scenes that they describe."""
    rng = np.random.default_rng(7 + seed)
    prompts, scenes = [], []
    for _ in range(count):
        scene = training_scene(rng)
        place = PLACE_PHRASES[scene.place][0]
        words = setting(
            noun_phrase(scene.look), size=scene.size, background=scene.background, place=place
        )
        prompts.append(str(rng.choice(OBJECT_TEMPLATES)).format(words))
        scenes.append(scene)
    return prompts, scenes


def contact_sheet(pictures: torch.Tensor, columns: int, file: Path, zoom: int = 1) -> None:
    """Write pictures (N, height, width, RGB in 0..1) side by side into one."""
    rows = -(-len(pictures) // columns)
    height, width = pictures.shape[1:3]
    sheet = np.ones((rows * height, columns * width, 3), dtype=np.float32)
    for number, picture in enumerate(pictures.numpy()):
        y, x = divmod(number, columns)
        sheet[y * height : (y + 1) * height, x * width : (x + 1) * width] = picture
    image = Image.fromarray(np.round(sheet * 255).astype(np.uint8))
    image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST).save(file)


def evaluate(
    model: TinyModel,
    count: int = 200,
    *,
    seed: int = 0,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    sheet: Path | None = None,
) -> dict[str, float]:
    """The share of pictures with each thing that their prompt asked for.

    Choose weights by one seed and tell the figures of another: what was chosen by a measure is
    flattered by it.
    """
    prompts, scenes = evaluation_prompts(count, seed)
    pictures = sample(model, prompts, seed=10_000 * seed, steps=steps, guidance=guidance)
    if sheet is not None:
        contact_sheet(pictures[:60], 12, sheet, zoom=2)
    pairs = list(zip(read(pictures), scenes, strict=True))
    shape = [said.look.shape == scene.look.shape for said, scene in pairs]
    colour = [colour_name(said.look.hue) == colour_name(scene.look.hue) for said, scene in pairs]
    return {
        "shape": float(np.mean(shape)),
        "colour": float(np.mean(colour)),
        "shape and colour": float(np.mean(np.logical_and(shape, colour))),
        "texture": float(np.mean([a.look.texture == b.look.texture for a, b in pairs])),
        "background": float(np.mean([a.background == b.background for a, b in pairs])),
        "place": float(np.mean([a.place == b.place for a, b in pairs])),
        "size": float(np.mean([a.size == b.size for a, b in pairs])),
    }


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of prompts and noise")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--model", type=Path, default=MODEL_FILE)
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    rates = evaluate(
        load_model(options.model),
        options.count,
        seed=options.seed,
        steps=options.steps,
        guidance=options.guidance,
        sheet=options.sheet,
    )
    for name, rate in rates.items():
        print(f"{name:18} {100 * rate:5.1f}%")


if __name__ == "__main__":
    main()
