"""What negatives change about the pictures of the tiny demo model, with figures.

    pip install -e ".[demo]"
    python benchmarks/negatives/measure.py [--defect pale] [--count 80] [--seeds 3] [--workers 2]

Every line of `results.jsonl` is one negative of one seed: which of the pictures drawn with it have
the defect, and which show everything that the prompt asks for (shape, colour, ground and place).
Prompts and noise are the same for all negatives. Lines that are there already are not made again,
so that the campaign can be stopped and resumed; those of other weights of the model are dropped.
At the end, `report.py` fills the table in `README.md`, which says what is compared.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import NONE, RESULTS, UNTRAINED, fill_readme
from results import read_rows
from textual_inversion.demo.captions import caption
from textual_inversion.demo.concepts import training_scene
from textual_inversion.demo.estimator import Reading, read
from textual_inversion.demo.evaluate import evaluation_prompts
from textual_inversion.demo.model import LATENT_CHANNELS, LATENT_SIZE
from textual_inversion.demo.sampling import STEPS
from textual_inversion.demo.story import tiny_model
from textual_inversion.demo.world import PIXELS, Scene, colour_name, draw
from textual_inversion.trainer.data.pictures import Picture
from textual_inversion.trainer.diffusers_model.model import DiffusersModel
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.learning.chosen_objective import objective_of
from textual_inversion.trainer.learning.loop import train
from textual_inversion.trainer.methods.sampler import sample_batch
from textual_inversion.trainer.settings import NegativeSettings
from torch import Tensor

BATCH = 20
OTHERS = 400
"""Prompts in all, of which the last ones give bad pictures and the first are measured."""

PALE, DEEP = 0.6, 0.35
"""Shades above which an object counts as pale, and below which good pictures show it."""

RING = PIXELS // 16
"""Width of the frame of a picture in which the ground is looked at."""

RECIPES: Mapping[str, Mapping[str, object]] = {
    "from bad pictures": {"objective": "bad pictures"},
    "from good pictures": {"objective": "good pictures", "keep_guidance": 1.0},
    "from good pictures, guidance not kept": {"objective": "good pictures", "keep_guidance": 0.0},
}

LESS_GUIDANCE = 0.5
"""Guidance in training, as a share of that in drawing: what the settings advise."""


@dataclass(frozen=True)
class Job:
    """A negative to be trained and drawn with.

    Attributes:
        model: fingerprint of the weights of the tiny model.
        defect: `pale` or `ground`.
        count: pictures to draw.
        negative: `NONE`, `UNTRAINED` or one of `RECIPES`.
        seed: of all chance.
        steps: of training.
        lesson: pictures to train on.
        vectors: of the negative.
        guidance: in drawing.
    """

    model: str
    defect: str
    count: int
    negative: str
    seed: int
    steps: int
    lesson: int
    vectors: int
    guidance: float


@cache
def model() -> DiffusersModel:
    """The tiny model, once for each process."""
    torch.set_num_threads(1)
    return tiny_model()


def run(job: Job) -> dict[str, Any]:
    """Train the negative, draw with it and look: a line of the results."""
    started = time.monotonic()
    prompts, scenes = evaluation_prompts(job.count)
    negative = None
    if job.negative == UNTRAINED:
        settings = settings_of(job, "from bad pictures")
        negative = Embedding("untrained", objective_of(settings).initial(model(), settings, None))
    elif job.negative != NONE:
        negative = trained(job)
    drawn = draw_all(prompts, job.seed, job.guidance, negative)
    seen = read(drawn)
    bad = badness(job.defect, drawn, seen) > limit(job.defect)
    return asdict(job) | {
        "bad": bad.nonzero().flatten().tolist(),
        "right": is_right(seen, scenes).nonzero()[0].tolist(),
        "seconds": round(time.monotonic() - started, 1),
    }


def settings_of(job: Job, recipe: str) -> NegativeSettings:
    """So many steps along a cosine, and what the job says; nothing is drawn on the way."""
    return NegativeSettings(
        name="negative",
        schedule="cosine",
        averaging="last quarter",
        steps=job.steps,
        num_vectors=job.vectors,
        resolution=PIXELS,
        guidance=LESS_GUIDANCE * job.guidance,
        evaluations=0,
        previews=0,
        seed=job.seed,
        **RECIPES[recipe],  # type: ignore[arg-type]
    )


def trained(job: Job) -> Embedding:
    """The negative after all steps."""
    settings = settings_of(job, job.negative)
    shown = good_pictures(job) if settings.objective == "good pictures" else bad_pictures(job)
    *_, progress = train(model(), shown, settings)
    return progress.last


def good_pictures(job: Job) -> list[Picture]:
    """Pictures of the world that the model was trained on, without the defect, with captions."""
    rng = np.random.default_rng([job.seed, 11])
    scenes: list[Scene] = []
    while len(scenes) < job.lesson:
        scene = training_scene(rng)
        if job.defect != "pale" or scene.look.shade < DEEP:
            scenes.append(scene)
    return [Picture(torch.from_numpy(draw(scene)).float(), caption(scene, rng)) for scene in scenes]


def bad_pictures(job: Job) -> list[Picture]:
    """The worst of the model's own pictures, drawn for other prompts than those measured."""
    prompts = evaluation_prompts(OTHERS)[0][-3 * job.lesson :]
    drawn = draw_all(prompts, 1000 + job.seed, job.guidance)
    order = badness(job.defect, drawn, read(drawn)).argsort(descending=True)
    return [Picture(drawn[i], prompts[i]) for i in order[: job.lesson].tolist()]


def draw_all(
    prompts: Sequence[str],
    seed: int,
    guidance: float,
    negative: Embedding | None = None,
    word: Embedding | None = None,
    at: int = 0,
) -> Tensor:
    """One picture for each prompt; the noise depends on seed and place alone, from `at` on."""
    first, parts = at, []
    for at in range(0, len(prompts), BATCH):
        batch = prompts[at : at + BATCH]
        parts.append(
            sample_batch(
                model(),
                batch,
                word.vectors if word else {},
                latent_shape=(LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE),
                seeds=[seed * 10_007 + first + at + i for i in range(len(batch))],
                steps=STEPS,
                guidance=guidance,
                negative="[name]" if negative else "",
                negative_vectors=negative.vectors if negative else {},
            )
        )
    return torch.cat(parts)


def badness(defect: str, pictures: Tensor, seen: Sequence[Reading]) -> Tensor:
    """How bad each picture is, [N]; above `limit` it counts as having the defect."""
    if defect == "ground":
        return unevenness(pictures)
    return torch.tensor([said.look.shade for said in seen])


@cache
def limit(defect: str) -> float:
    """The badness that is still fine; uneven is what 95 % of the world's own pictures are not."""
    if defect == "pale":
        return PALE
    rng = np.random.default_rng(99)
    shown = [torch.from_numpy(draw(training_scene(rng))).float()[None] for _ in range(100)]
    back = torch.cat([model().decode_latents(model().encode_pictures(p)) for p in shown])
    return float(unevenness(back).quantile(0.95))


def unevenness(pictures: Tensor) -> Tensor:
    """How far the ground is from one colour, [N]; 0 for plain ones.

    The mean difference from the median colour of the frame, over the half of its pixels that
    differs least, so that an object that reaches into the frame does not count.
    """
    frame = torch.ones(PIXELS, PIXELS, dtype=torch.bool)
    frame[RING:-RING, RING:-RING] = False
    pixels = pictures[:, frame]
    away = (pixels - pixels.median(dim=1, keepdim=True).values).abs().mean(-1)
    return away.sort(dim=1).values[:, : away.shape[1] // 2].mean(1)


def is_right(seen: Sequence[Reading], scenes: Sequence[Scene]) -> np.ndarray:
    """Which pictures show the shape, colour, ground and place that were asked for."""
    return np.array(
        [
            said.look.shape == scene.look.shape
            and colour_name(said.look.hue) == colour_name(scene.look.hue)
            and said.background == scene.background
            and said.place == scene.place
            for said, scene in zip(seen, scenes, strict=True)
        ]
    )


def jobs(options: argparse.Namespace) -> Iterator[Job]:
    """All that is asked for, seed by seed."""
    weights = model().description["textual_inversion.model"]
    shared = {f.name: getattr(options, f.name) for f in fields(Job) if hasattr(options, f.name)}
    for seed in range(options.seeds):
        for negative in (NONE, UNTRAINED, *RECIPES):
            yield Job(model=weights, negative=negative, seed=seed, **shared)


def main() -> None:
    """Make the lines that are not there yet, then fill the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--defect", choices=("pale", "ground"), default="pale")
    parser.add_argument("--count", type=int, default=80, help="pictures for each negative and seed")
    parser.add_argument("--steps", type=int, default=400, help="of training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lesson", type=int, default=24, help="pictures to train on")
    parser.add_argument("--vectors", type=int, default=4)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    wanted = list(jobs(options))
    names = [field.name for field in fields(Job)]
    rows = [row for row in read_rows(options.output) if row["model"] == wanted[0].model]
    done = {Job(**{name: row[name] for name in names}) for row in rows}
    context = get_context("spawn")
    with (
        ProcessPoolExecutor(options.workers, mp_context=context) as pool,
        options.output.open("w", encoding="utf-8") as file,
    ):
        file.writelines(json.dumps(row) + "\n" for row in rows)
        file.flush()
        for future in as_completed([pool.submit(run, job) for job in wanted if job not in done]):
            row = future.result()
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(f"seed {row['seed']}, {row['negative']}: {len(row['bad'])} of {row['count']} bad,"
                  f" {len(row['right'])} right, {row['seconds']:.0f} s", flush=True)  # fmt: skip
    if options.output == RESULTS:
        fill_readme()


if __name__ == "__main__":
    main()
