"""What words from liked and disliked pictures change about what the tiny demo model draws.

    pip install -e ".[demo]"
    python benchmarks/negatives/comparisons.py [--taste pale] [--pairs 24] [--wrong 0] [--seeds 3]
        [--word-for "negative prompt"] [--vectors 4] [--drawn FOLDER]

The model draws four pictures for each of other prompts than those measured, and a judge likes one
of the four and dislikes another, where the two differ enough to be seen (`tastes.py`). A line of
`comparisons.jsonl` is one word of one seed: which of the pictures drawn with it the judge dislikes,
which show all that their prompts ask for, and how far each is from the one without a word. A line
with 0 pairs is of no word. Lines that are there already are not made again; those of other weights
of the model are dropped. `--drawn` keeps what the model drew for the judge and without a word, and
what was read there. At the end the tables in `README.md` are filled in.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import torch
from measure import BATCH, draw_all, model
from report import COMPARED, fill_readme
from results import read_rows
from tastes import TASTES
from textual_inversion.demo.estimator import Reading, read
from textual_inversion.demo.evaluate import evaluation_prompts
from textual_inversion.demo.world import PIXELS, Look
from textual_inversion.trainer.data import pairs
from textual_inversion.trainer.data.pictures import Picture, as_unlike
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.learning.chosen_objective import objective_of
from textual_inversion.trainer.learning.loop import train
from textual_inversion.trainer.settings import WORD_FOR, RatingSettings
from torch import Tensor

DRAWS = 4
"""Pictures of a prompt that the judge chooses from."""

FIRST, PROMPTS = 280, 240
"""The first of the prompts for the judge, none of which is measured, and how many there are."""

LESS_GUIDANCE = 0.625
"""Guidance in training, as a share of that in drawing: what the settings advise."""

IN_PROMPT = ("prompt", "both")


@dataclass(frozen=True)
class Job:
    """A word to be learned and drawn with.

    Attributes:
        model: fingerprint of the weights of the tiny model.
        taste: of the judge, one of `TASTES`.
        count: pictures to draw.
        seed: of all chance.
        pairs: that the judge gives at most; with 0, nothing is learned and no word drawn with.
        word_for: where the word stands, one of `WORD_FOR`.
        vectors: of the word.
        wrong: share of the pairs in which the judge takes one for the other.
        guidance: in drawing, and for which the word is learned.
    """

    model: str
    taste: str
    count: int
    seed: int
    pairs: int
    word_for: str
    vectors: int
    wrong: float
    guidance: float


def run(job: Job, folder: Path) -> dict[str, Any]:
    """Learn the word, draw with it and look: a line of the results."""
    started = time.monotonic()
    found: dict[str, Any] = {"found": 0, "steps": 0}
    words: Sequence[Embedding] = ()
    if job.pairs:
        pictures, settings = rated(job, folder), settings_of(job)
        *_, last = train(model(), pictures, settings)
        words = objective_of(settings).hand_out(last.kept)
        found = {"found": len(pictures) // 2, "steps": last.step}
    row = asdict(job) | found | look(job, words, folder)
    return row | {"seconds": round(time.monotonic() - started, 1)}


def look(job: Job, words: Sequence[Embedding], folder: Path) -> dict[str, Any]:
    """What pictures show that are drawn with the words, and how far they are from the plain ones.

    `change` is the mean difference of a picture's values, which are in 0..1.
    """
    taste = TASTES[job.taste]
    prompts, scenes = evaluation_prompts(job.count)
    plain = kept(
        folder / f"{_kind(job)}-plain-{job.count}.pt",
        lambda: draw_all(prompts, job.seed, job.guidance),
    )
    drawn = draw_with(prompts, job, words) if words else plain
    seen = read(drawn)
    change = (drawn - plain).abs().mean((1, 2, 3))
    return {
        "bad": taste.disliked(drawn, seen),
        "right": taste.right(seen, scenes),
        "change": [round(one, 4) for one in change.tolist()],
    }


def settings_of(job: Job) -> RatingSettings:
    """The defaults, and what the job says; nothing is drawn on the way."""
    return RatingSettings(
        name="taste",
        word_for=job.word_for,
        num_vectors=job.vectors,
        guidance=LESS_GUIDANCE * job.guidance,
        resolution=PIXELS,
        previews=0,
        seed=job.seed,
    )


def draw_with(prompts: Sequence[str], job: Job, words: Sequence[Embedding]) -> Tensor:
    """One picture for each prompt, with the words where they stand."""
    word = words[0] if job.word_for in IN_PROMPT else None
    negative = None if job.word_for == "prompt" else words[-1]
    texts = [f"{prompt}, [name]" for prompt in prompts] if word else prompts
    return draw_all(texts, job.seed, job.guidance, negative, word)


def rated(job: Job, folder: Path) -> list[Picture]:
    """What the judge likes, and what it dislikes."""
    taste = TASTES[job.taste]
    prompts = evaluation_prompts(FIRST + PROMPTS)[0][FIRST:]
    rng = np.random.default_rng([job.seed, 13])
    liked, disliked = [], []
    for at in range(0, PROMPTS, BATCH // DRAWS):
        if len(liked) >= job.pairs:
            break
        drawn, seen = own_pictures(prompts, at, job, folder)
        worse = taste.dislike(drawn, seen).view(-1, DRAWS)
        for number, four in enumerate(worse):
            if float(four.max() - four.min()) < taste.seen():
                continue
            chosen = [int(four.argmin()), int(four.argmax())]
            if rng.random() < job.wrong:
                chosen.reverse()
            good, bad = (drawn[number * DRAWS + place] for place in chosen)
            liked.append(Picture(good, prompts[at + number]))
            disliked.append(as_unlike(Picture(bad, prompts[at + number])))
    return [*liked[: job.pairs], *disliked[: job.pairs]]


def own_pictures(
    prompts: Sequence[str], at: int, job: Job, folder: Path
) -> tuple[Tensor, list[Reading]]:
    """`DRAWS` pictures of some prompts from a place on, drawn once and kept, and what they show."""
    batch = [prompt for prompt in prompts[at : at + BATCH // DRAWS] for _ in range(DRAWS)]
    file = folder / f"{_kind(job)}-{at:03d}.pt"
    drawn = kept(file, lambda: draw_all(batch, 1000 + job.seed, job.guidance, at=at * DRAWS))
    notes = file.with_suffix(".json")
    if not notes.exists():
        notes.write_text(json.dumps([asdict(one) for one in read(drawn)], default=float))
    said = json.loads(notes.read_text())
    return drawn, [Reading(**one | {"look": Look(**one["look"])}) for one in said]


def kept(file: Path, make: Callable[[], Tensor]) -> Tensor:
    """Pictures of a file, made where it is not there."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(make().half(), file)
    pictures: Tensor = torch.load(file, weights_only=True).float()
    return pictures


def _kind(job: Job) -> str:
    """Names files of pictures that are drawn alike."""
    return f"{job.model[:12]}-{job.guidance:g}-{job.seed}"


def main() -> None:
    """Make the lines that are not there yet, one after the other, then fill the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--taste", choices=TASTES, default="pale")
    parser.add_argument("--count", type=int, default=80, help="pictures for each word and seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--word-for", choices=WORD_FOR, default=WORD_FOR[0])
    parser.add_argument("--vectors", type=int, default=4)
    parser.add_argument("--wrong", type=float, default=0.0)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--drawn", type=Path, default=Path(gettempdir()) / "drawn-for-the-judge")
    options = parser.parse_args()
    shared = {f.name: getattr(options, f.name) for f in fields(Job) if hasattr(options, f.name)}
    weights = model().description["textual_inversion.model"]
    words = [Job(model=weights, seed=seed, **shared) for seed in range(options.seeds)]
    usual = {"pairs": 0, "word_for": WORD_FOR[0], "vectors": 4, "wrong": 0.0}
    wanted = dict.fromkeys([*(replace(job, **usual) for job in words), *words])
    pairs.FEWEST = 1  # how few are enough is among the questions
    rows = [row for row in read_rows(COMPARED) if row["model"] == weights]
    names = [field.name for field in fields(Job)]
    done = {Job(**{name: row[name] for name in names}) for row in rows}
    for job in [job for job in wanted if job not in done]:
        row = run(job, options.drawn)
        rows.append(row)
        COMPARED.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
        print(
            f"seed {job.seed}, {job.pairs} pairs, {job.word_for}: {len(row['bad'])} of {job.count} "
            f"{job.taste}, {len(row['right'])} right, {row['seconds']:.0f} s",
            flush=True,
        )
    fill_readme()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
