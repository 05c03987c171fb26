"""What negatives change about the pictures of the tiny demo model, with figures.

    pip install -e ".[demo]"
    python benchmarks/negatives/measure.py [--defect colour] [--count 40] [--steps 200] [--seeds 3]

Of two defects one is chosen. `colour`: the object has not the colour that the prompt says.
`ground`: the world that the model was trained on has plain grounds, but other colours bleed into
those that it draws; a ground counts as uneven where the autoencoder alone would hardly make it so.
Measured, from the same prompts and noise: in how many pictures there is the defect; in how many
everything is right that the prompt asks for (shape, colour, ground and place); and how many of
those that were right without a negative stay right with it.

Compared are no negative; an untrained one (the mean of the vocabulary, where training starts);
one trained from bad pictures (of the model's own, those with the defect); and two from good
pictures (of the world, with captions), with guidance kept and not kept.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from textual_inversion.demo.captions import caption
from textual_inversion.demo.concepts import training_scene
from textual_inversion.demo.estimator import read
from textual_inversion.demo.evaluate import evaluation_prompts
from textual_inversion.demo.model import LATENT_CHANNELS, LATENT_SIZE
from textual_inversion.demo.sampling import STEPS
from textual_inversion.demo.story import tiny_model
from textual_inversion.demo.world import SIZE, Scene, colour_name, draw
from textual_inversion.trainer.diffusers_model import DiffusersModel
from textual_inversion.trainer.embedding import Embedding
from textual_inversion.trainer.initial import initial_vectors
from textual_inversion.trainer.loop import train
from textual_inversion.trainer.negative_settings import NegativeSettings
from textual_inversion.trainer.pictures import Picture
from textual_inversion.trainer.sampler import sample_batch
from torch import Tensor

HERE = Path(__file__).resolve().parent
BATCH = 10
OTHERS = 400
"""Prompts in all, of which the last ones give bad pictures and the first are measured."""

HALF_TURN = 180.0
"""Degrees by which no two hues are farther apart; all of a wrong name count as more."""

RING = SIZE // 16
"""Width of the frame of a picture in which the ground is looked at."""

RECIPES: Mapping[str, Mapping[str, object]] = {
    "from bad pictures": {"objective": "bad pictures"},
    "from good pictures": {"objective": "good pictures", "keep_guidance": 1.0},
    "from good pictures, guidance not kept": {"objective": "good pictures", "keep_guidance": 0.0},
}


@dataclass(frozen=True)
class Measured:
    """What pictures drawn with one negative are like.

    Attributes:
        defect: share of the pictures that have it.
        right: share in which shape, colour, ground and place are those of the prompt.
        kept: of the pictures right without a negative, the share that is still right.
    """

    defect: float
    right: float
    kept: float


def unevenness(pictures: Tensor) -> Tensor:
    """How far the ground is from one colour, [N]; 0 for plain ones.

    The mean difference from the median colour of the frame, over the half of its pixels that
    differs least, so that an object that reaches into the frame does not count.
    """
    frame = torch.ones(SIZE, SIZE, dtype=torch.bool)
    frame[RING:-RING, RING:-RING] = False
    pixels = pictures[:, frame]
    away = (pixels - pixels.median(dim=1, keepdim=True).values).abs().mean(-1)
    return away.sort(dim=1).values[:, : away.shape[1] // 2].mean(1)


def badness(defect: str, pictures: Tensor, scenes: Sequence[Scene], limit: float) -> Tensor:
    """How bad each picture is, [N]; above `limit` it counts as having the defect."""
    if defect == "ground":
        return unevenness(pictures)
    apart = []
    for said, scene in zip(read(pictures), scenes, strict=True):
        degrees = abs((said.look.hue - scene.look.hue + 180) % 360 - 180)
        is_wrong = colour_name(said.look.hue) != colour_name(scene.look.hue)
        apart.append(degrees + HALF_TURN * is_wrong)
    return torch.tensor(apart)


def is_right(pictures: Tensor, scenes: Sequence[Scene]) -> np.ndarray:
    """Which pictures show the shape, colour, ground and place that were asked for."""
    return np.array(
        [
            said.look.shape == scene.look.shape
            and colour_name(said.look.hue) == colour_name(scene.look.hue)
            and said.background == scene.background
            and said.place == scene.place
            for said, scene in zip(read(pictures), scenes, strict=True)
        ]
    )


def draw_all(
    model: DiffusersModel,
    prompts: Sequence[str],
    seed: int,
    guidance: float,
    negative: Embedding | None = None,
) -> Tensor:
    """One picture for each prompt, [N, SIZE, SIZE, 3]; noise depends on seed and place alone."""
    parts = []
    for at in range(0, len(prompts), BATCH):
        batch = prompts[at : at + BATCH]
        parts.append(
            sample_batch(
                model,
                batch,
                negative.vectors if negative else {},
                latent_shape=(LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE),
                seeds=[seed * 10_007 + at + i for i in range(len(batch))],
                steps=STEPS,
                guidance=guidance,
                negative="[name]" if negative else "",
            )
        )
    return torch.cat(parts)


def world_pictures(count: int, seed: int) -> tuple[Tensor, list[str]]:
    """Pictures of the world and their captions."""
    rng = np.random.default_rng([seed, 11])
    scenes = [training_scene(rng) for _ in range(count)]
    pixels = torch.stack([torch.from_numpy(draw(scene)).float() for scene in scenes])
    return pixels, [caption(scene, rng) for scene in scenes]


def autoencoder_limit(model: DiffusersModel, count: int) -> float:
    """The unevenness below which 95 % of the world's own pictures come back."""
    pixels, _ = world_pictures(count, 99)
    back = torch.cat([model.decode_latents(model.encode_pictures(p[None])) for p in pixels])
    return float(unevenness(back).quantile(0.95))


def lesson(
    model: DiffusersModel, objective: object, options: argparse.Namespace, seed: int, limit: float
) -> list[Picture]:
    """What a negative is trained on."""
    count: int = options.pictures
    if objective == "good pictures":
        pixels, texts = world_pictures(count, seed)
    else:
        # Others than those that are measured.
        prompts, scenes = (part[-3 * count :] for part in evaluation_prompts(OTHERS))
        drawn = draw_all(model, prompts, 1000 + seed, options.guidance)
        order = badness(options.defect, drawn, scenes, limit).argsort(descending=True)
        worst = order[:count].tolist()
        pixels, texts = drawn[worst], [prompts[i] for i in worst]
    return [Picture(p, text) for p, text in zip(pixels, texts, strict=True)]


def trained(
    model: DiffusersModel,
    recipe: Mapping[str, object],
    options: argparse.Namespace,
    seed: int,
    limit: float,
) -> Embedding:
    """A negative, after all steps."""
    settings = NegativeSettings(
        **{
            "name": "negative",
            "steps": options.steps,
            "batch_size": 8,
            "num_vectors": options.vectors,
            "resolution": SIZE,
            "learning_rate": options.rate,
            "guidance": options.guidance,
            "evaluations": 0,
            "previews": 0,
            "seed": seed,
            **recipe,
        }  # type: ignore[arg-type]
    )
    shown = lesson(model, settings.objective, options, seed, limit)
    *_, progress = train(model, shown, settings)
    return progress.last


def run(options: argparse.Namespace) -> dict[str, list[Measured]]:
    """Everything, for every seed."""
    torch.set_num_threads(options.threads)
    model = tiny_model()
    prompts, scenes = evaluation_prompts(options.count)
    limit = autoencoder_limit(model, options.count) if options.defect == "ground" else HALF_TURN
    untrained = Embedding(
        "negative", initial_vectors(model.text_encoders, "", options.vectors, None)
    )
    found: dict[str, list[Measured]] = {}
    for seed in range(options.seeds):
        plain: np.ndarray | None = None
        for name in ("none", "untrained", *RECIPES):
            started = time.monotonic()
            negative = untrained if name == "untrained" else None
            if name in RECIPES:
                negative = trained(model, RECIPES[name], options, seed, limit)
            drawn = draw_all(model, prompts, seed, options.guidance, negative)
            bad = badness(options.defect, drawn, scenes, limit) > limit
            right = is_right(drawn, scenes)
            plain = right if plain is None else plain
            kept = float(right[plain].mean()) if plain.any() else float("nan")
            one = Measured(float(bad.float().mean()), float(right.mean()), kept)
            found.setdefault(name, []).append(one)
            print(f"seed {seed} {name:40} {one} {time.monotonic() - started:.0f} s", flush=True)
    return found


def table(found: Mapping[str, Sequence[Measured]]) -> str:
    """Means over the seeds, with the smallest and the largest."""
    lines = ["| negative | defect | right | of those right without it |",
             "| --- | --- | --- | --- |"]  # fmt: skip
    for name, each in found.items():
        cells = []
        for field in ("defect", "right", "kept"):
            values = [getattr(m, field) for m in each]
            cells.append(f"{statistics.mean(values):.0%} ({min(values):.0%}-{max(values):.0%})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, and write it beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--defect", choices=("colour", "ground"), default="colour")
    parser.add_argument("--count", type=int, default=40, help="pictures for each negative")
    parser.add_argument("--steps", type=int, default=200, help="of training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=24, help="to train on")
    parser.add_argument("--vectors", type=int, default=2)
    parser.add_argument("--rate", default="0.01")
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    options = parser.parse_args()
    found = run(options)
    text = table(found)
    print(text)
    content = {
        "command": {k: v for k, v in vars(options).items() if k not in ("out", "threads")},
        "negatives": {name: [asdict(m) for m in each] for name, each in found.items()},
    }
    options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    options.out.with_suffix(".md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
