"""What words from liked and disliked pictures change about what the tiny demo model draws.

    pip install -e ".[demo]"
    python benchmarks/negatives/comparisons.py [--taste pale] [--pairs 24] [--wrong 0] [--seeds 3]
        [--word-for "negative prompt"] [--vectors 4] [--drawn FOLDER]

The model draws four pictures for each of other prompts than those measured, and a judge likes one
of the four and dislikes another, where the two differ enough to be seen. A line of
`comparisons.jsonl` is one word of one seed, counted as in `measure.py`, which has also made the
lines without a word: which of the pictures drawn with it have what the judge dislikes, and which
show all that their prompts ask for. Lines that are there already are not made again; those of other
weights of the model are dropped. `--drawn` keeps what the model drew for the judge. At the end the
tables in `README.md` are filled in.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import torch
from measure import BATCH, OTHERS, badness, draw_all, is_right, limit, model
from report import COMPARED, fill_readme
from results import read_rows
from textual_inversion.demo.estimator import Reading, read
from textual_inversion.demo.evaluate import evaluation_prompts
from textual_inversion.demo.world import PIXELS
from textual_inversion.trainer.data.pictures import Picture, as_unlike
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.learning.chosen_objective import objective_of
from textual_inversion.trainer.learning.loop import train
from textual_inversion.trainer.settings import WORD_FOR, RatingSettings
from torch import Tensor

DRAWS = 4
"""Pictures of a prompt that the judge chooses from."""

PROMPTS = 120
"""Prompts for the judge, the last of all."""

SEEN: Mapping[str, float] = {"pale": 0.1, "ground": 0.3}
"""How far apart two pictures are that the judge tells apart: in shade, in limits of unevenness."""

IN_PROMPT = ("prompt", "both")


@dataclass(frozen=True)
class Job:
    """A word to be learned and drawn with.

    Attributes:
        model: fingerprint of the weights of the tiny model.
        defect: what the judge dislikes, `pale` or `ground`.
        count: pictures to draw.
        seed: of all chance.
        pairs: that the judge gives at most.
        word_for: where the word stands, one of `WORD_FOR`.
        vectors: of the word.
        wrong: share of the pairs in which the judge takes one for the other.
        guidance: in drawing, and for which the word is learned.
    """

    model: str
    defect: str
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
    prompts, scenes = evaluation_prompts(job.count)
    pictures, settings = rated(job, folder), settings_of(job)
    *_, last = train(model(), pictures, settings)
    words = objective_of(settings).hand_out(last.kept)
    word = words[0] if job.word_for in IN_PROMPT else None
    negative = None if job.word_for == "prompt" else words[-1]
    drawn = draw_with(prompts, job, word, negative)
    seen = read(drawn)
    bad = badness(job.defect, drawn, seen) > limit(job.defect)
    return asdict(job) | {
        "found": len(pictures) // 2,
        "steps": last.step,
        "bad": bad.nonzero().flatten().tolist(),
        "right": is_right(seen, scenes).nonzero()[0].tolist(),
        "seconds": round(time.monotonic() - started, 1),
    }


def settings_of(job: Job) -> RatingSettings:
    """The defaults, and what the job says; nothing is drawn on the way."""
    return RatingSettings(
        name="taste",
        word_for=job.word_for,
        num_vectors=job.vectors,
        guidance=job.guidance,
        resolution=PIXELS,
        previews=0,
        seed=job.seed,
    )


def draw_with(
    prompts: list[str], job: Job, word: Embedding | None, negative: Embedding | None
) -> Tensor:
    """One picture for each prompt, with the word where it stands."""
    texts = [f"{prompt}, [name]" for prompt in prompts] if word else prompts
    return draw_all(texts, job.seed, job.guidance, negative, word)


def rated(job: Job, folder: Path) -> list[Picture]:
    """What the judge likes, and what it dislikes."""
    prompts = evaluation_prompts(OTHERS)[0][-PROMPTS:]
    rng = np.random.default_rng([job.seed, 13])
    liked, disliked = [], []
    for at in range(0, PROMPTS, BATCH // DRAWS):
        if len(liked) >= job.pairs:
            break
        drawn, seen = own_pictures(prompts, at, job, folder)
        worse = badness(job.defect, drawn, seen).view(-1, DRAWS)
        for number, four in enumerate(worse):
            apart = float(four.max() - four.min())
            if apart < SEEN[job.defect] * (limit("ground") if job.defect == "ground" else 1):
                continue
            chosen = [int(four.argmin()), int(four.argmax())]
            if rng.random() < job.wrong:
                chosen.reverse()
            good, bad = (drawn[number * DRAWS + place] for place in chosen)
            liked.append(Picture(good, prompts[at + number]))
            disliked.append(as_unlike(Picture(bad, prompts[at + number])))
    return [*liked[: job.pairs], *disliked[: job.pairs]]


def own_pictures(
    prompts: list[str], at: int, job: Job, folder: Path
) -> tuple[Tensor, list[Reading]]:
    """`DRAWS` pictures of some prompts from a place on, drawn once and kept, and what they show."""
    file = folder / f"{job.model[:12]}-{job.guidance:g}-{job.seed}-{at:03d}.pt"
    if not file.exists():
        batch = [prompt for prompt in prompts[at : at + BATCH // DRAWS] for _ in range(DRAWS)]
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(draw_all(batch, 1000 + job.seed, job.guidance, at=at * DRAWS).half(), file)
    drawn = torch.load(file, weights_only=True).float()
    return drawn, read(drawn)


def main() -> None:
    """Make the lines that are not there yet, one after the other, then fill the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--taste", dest="defect", choices=SEEN, default="pale")
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
    wanted = [Job(model=weights, seed=seed, **shared) for seed in range(options.seeds)]
    rows = [row for row in read_rows(COMPARED) if row["model"] == weights]
    names = [field.name for field in fields(Job)]
    done = {Job(**{name: row[name] for name in names}) for row in rows}
    for job in [job for job in wanted if job not in done]:
        row = run(job, options.drawn)
        rows.append(row)
        COMPARED.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
        print(
            f"seed {job.seed}, {job.word_for}: {len(row['bad'])} of {job.count} "
            f"{job.defect}, {len(row['right'])} right, {row['seconds']:.0f} s",
            flush=True,
        )
    fill_readme()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
