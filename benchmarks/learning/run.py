"""What each method has learned after how many samples, on the tiny world.

    python benchmarks/learning/run.py [--output results.jsonl] [--groups ours peers grid changes]
        [--methods NAME ...] [--concepts NAME ...] [--seeds 0 1 2] [--samples 200 500 2000 5000]
        [--workers 2] [--device cpu] [--script textual_inversion.py]

Every line of the output is one finished run: a method, a concept, a seed and a number of samples
(steps times pictures per step), with the likeness error and the prompt-following of 20 pictures
that the model then draws with the word, and the seconds that learning took (of the processor, on
one core, so that what else the machine does counts for nothing; of the clock on a GPU). Runs that
are in the file already are not made again, so that a campaign can be stopped and resumed.

The group `scripts` needs diffusers' own script (its examples/textual_inversion/
textual_inversion.py, of the installed version) and the extra `benchmarks`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from methods import GROUPS, LEARNED, METHODS, SCRIPTS, Method

sys.path.append(str(Path(__file__).resolve().parents[1]))
sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
from results import read_rows
from support.package import hide_repository_root, use_checkout

if TYPE_CHECKING:
    from textual_inversion.trainer.data.pictures import Picture
    from textual_inversion.trainer.diffusers_model.model import DiffusersModel

hide_repository_root()
use_checkout()

SCRIPT_RUNNER = Path(__file__).resolve().parents[1] / "peers" / "diffusers_script.py"
RESULTS = Path(__file__).with_name("results.jsonl")
PICTURES = 5
CONTEXTS = 20
SAMPLES = (200, 500, 2000, 5000)
GUIDANCE = 4.0
"""All rows were drawn with it. Less shows words better (`drawing.py`), for all methods alike."""

FORESEEN = (10, 20, 40, 80, 160, 320)
"""Steps after which a row has between which steps the run was expected to end."""

WORDS, COPY = "nearest words", "the pictures themselves"
"""What no word can do without learning, and what none can do better: through the autoencoder."""


@dataclass(frozen=True)
class Job:
    """One run to be made."""

    method: str
    concept: str
    seed: int
    samples: int


@cache
def tiny_model(device: str) -> DiffusersModel:
    """The tiny model on a device, once for each process."""
    from textual_inversion.demo.model import load_model
    from textual_inversion.trainer.diffusers_model.model import DiffusersModel

    torch.set_num_threads(1)
    parts = load_model()
    for part in (parts.unet, parts.vae, parts.text_encoder):
        part.to(device)
    return DiffusersModel(
        parts.unet, parts.vae, [parts.text_encoder], [parts.tokenizer], parts.scheduler,
        name="tiny-demo",
    )  # fmt: skip


def lesson(concept: str, seed: int, captions: bool) -> list[Picture]:
    """The pictures to learn from, which differ from seed to seed."""
    from textual_inversion.demo.lesson import captioned_pictures
    from textual_inversion.trainer.data.pictures import Picture

    return [
        Picture(torch.from_numpy(pixels).float(), caption if captions else None)
        for pixels, caption in zip(*captioned_pictures(concept, PICTURES, seed), strict=True)
    ]


def settings_of(method: Method, job: Job) -> dict[str, Any]:
    """The settings of a run: the preset's, the method's, and the run's own."""
    from textual_inversion.demo.concepts import CONCEPTS
    from textual_inversion.trainer.presets import NONE, with_preset
    from textual_inversion.trainer.settings import Settings, described_fields

    concept = CONCEPTS[job.concept]
    changes = dict(method.settings)
    defaults = {field.name: field.default for field, _ in described_fields(Settings)}
    values = {**with_preset(changes.pop("preset", NONE), defaults), **changes}
    per_step = values["batch_size"] * values["accumulate"]
    return {
        **values,
        "name": job.concept,
        "init_words": concept.class_word,  # of every vector, where there are several
        "learn": concept.kind,
        "steps": max(1, job.samples // per_step),
        "seed": job.seed,
        "resolution": len(lesson(job.concept, job.seed, captions=False)[0].pixels),
    }


def learn(job: Job, device: str) -> tuple[dict[str, torch.Tensor], float, dict[str, Any]]:
    """Train a word; returns its vectors, seconds, its loss on the fixed batch, and its steps."""
    from textual_inversion.trainer.learning.loop import train
    from textual_inversion.trainer.settings import Settings

    method, model = METHODS[job.method], tiny_model(device)
    pictures = lesson(job.concept, job.seed, method.captions)
    settings = Settings(**settings_of(method, job))
    clock = time.process_time if device == "cpu" else time.perf_counter
    start, foreseen = clock(), {}
    for progress in train(model, pictures, settings):
        if progress.step in FORESEEN and settings.ends_by_itself:
            foreseen[progress.step] = progress.end
    told = {"loss": progress.evaluation, "steps": progress.step, "foreseen": foreseen}
    told["over_noise"] = progress.estimate.over_noise
    return dict(progress.kept.vectors), clock() - start, told


def learn_by_script(
    job: Job, device: str, script: Path
) -> tuple[dict[str, Any], float, dict[str, Any]]:
    """The same by diffusers' script, in a process of its own."""
    import numpy as np
    from PIL import Image
    from textual_inversion.trainer.files.reading import read_embedding

    values = settings_of(METHODS[job.method], job)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pictures").mkdir()
        for i, picture in enumerate(lesson(job.concept, job.seed, captions=False)):
            pixels = (picture.pixels.clamp(0, 1) * 255).round().byte().numpy()
            Image.fromarray(np.ascontiguousarray(pixels)).save(folder / "pictures" / f"{i}.png")
        options = {
            "pretrained_model_name_or_path": pipeline_folder(),
            "train_data_dir": folder / "pictures",
            "learnable_property": values["learn"],
            "placeholder_token": f"<{job.concept}>",
            "initializer_token": values["init_words"],
            "resolution": values["resolution"],
            "train_batch_size": values["batch_size"],
            "gradient_accumulation_steps": values["accumulate"],
            "learning_rate": values["learning_rate"],
            "max_train_steps": values["steps"],
            "lr_warmup_steps": 0,
            "seed": job.seed,
            "output_dir": folder / "out",
        }
        command = [sys.executable, SCRIPT_RUNNER]
        command += [folder / "report.json", script]
        command += itertools.chain(*((f"--{key}", str(value)) for key, value in options.items()))
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""
        subprocess.run(command, check=True, capture_output=True, env=environment)
        report = json.loads((folder / "report.json").read_text())
        seconds = report["processor_seconds" if device == "cpu" else "seconds"]
        word = read_embedding(folder / "out" / "learned_embeds.safetensors")
    widths = {e.key: e.width for e in tiny_model(device).text_encoders}
    return word.rows_for(widths), seconds, {}


@cache
def pipeline_folder() -> Path:
    """The tiny model in the format of diffusers, kept for the life of this process."""
    from textual_inversion.demo.model import load_model

    holder = tempfile.TemporaryDirectory()
    _held.append(holder)
    folder, parts = Path(holder.name), load_model()
    for name in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        getattr(parts, name).save_pretrained(folder / name)
    return folder


_held: list[Any] = []


def draw(device: str, prompts: list[str], vectors: dict[str, torch.Tensor]) -> torch.Tensor:
    """A picture for each prompt, each from its own noise, which is the same for every method."""
    from textual_inversion.demo.model import LATENT_CHANNELS, LATENT_SIZE
    from textual_inversion.demo.sampling import STEPS
    from textual_inversion.trainer.methods.sampler import sample_batch

    shape = (LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)
    on_device = {key: rows.to(device) for key, rows in vectors.items()}
    return sample_batch(
        tiny_model(device), prompts, on_device, latent_shape=shape, seeds=range(len(prompts)),
        steps=STEPS, guidance=GUIDANCE,
    ).cpu()  # fmt: skip


def run(job: Job, device: str, script: Path | None) -> dict[str, Any]:
    """Make one run and measure it: a line of the output."""
    from textual_inversion.demo.measure import contexts, measure, wordings
    from textual_inversion.trainer.prompts import PLACEHOLDER

    row: dict[str, Any] = asdict(job)
    if job.method == WORDS:
        measured = []
        for phrase in wordings(job.concept):
            asked = contexts(job.concept, phrase, CONTEXTS)
            measured.append(
                measure(draw(device, [a.prompt for a in asked], {}), job.concept, asked)
            )
        return row | asdict(min(measured, key=lambda one: one.likeness_error))
    if job.method == COPY:
        model = tiny_model(device)
        copies = [
            model.decode_latents(model.encode_pictures(p.pixels[None])).cpu()
            for p in lesson(job.concept, job.seed, captions=False)
        ]
        asked = contexts(job.concept, PLACEHOLDER, len(copies))
        errors = measure(torch.cat(copies), job.concept, asked)
        return row | {"likeness_error": errors.likeness_error}
    if METHODS[job.method].script:
        assert script is not None
        vectors, seconds, told = learn_by_script(job, device, script)
    else:
        vectors, seconds, told = learn(job, device)
    asked = contexts(job.concept, PLACEHOLDER, CONTEXTS)
    result = measure(draw(device, [a.prompt for a in asked], vectors), job.concept, asked)
    length = max(float(rows.norm(dim=1).mean()) for rows in vectors.values())
    return row | asdict(result) | {"seconds": seconds, "length": length} | told


def jobs(options: argparse.Namespace) -> Iterator[Job]:
    """All runs that are asked for, those of little work first."""
    for concept in options.concepts:
        yield Job(WORDS, concept, 0, 0)
        yield Job(COPY, concept, 0, 0)
    chosen = options.methods or [name for group in options.groups for name in GROUPS[group]]
    for samples, seed, concept, method in itertools.product(
        sorted(options.samples), options.seeds, options.concepts, chosen
    ):
        if method not in SCRIPTS or options.script:
            yield Job(method, concept, seed, samples)


def main() -> None:
    """Make the runs that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="in place of groups")
    parser.add_argument("--concepts", nargs="+", choices=LEARNED, default=LEARNED)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--samples", nargs="+", type=int, default=list(SAMPLES))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--script", type=Path, help="diffusers' textual_inversion.py")
    options = parser.parse_args()

    rows = read_rows(options.output)
    done = {Job(r["method"], r["concept"], r["seed"], r["samples"]) for r in rows}
    todo = [job for job in dict.fromkeys(jobs(options)) if job not in done]
    print(f"{len(done)} runs are there, {len(todo)} to be made")
    with (
        ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool,
        options.output.open("a") as file,
    ):
        pending = [pool.submit(run, job, options.device, options.script) for job in todo]
        for number, future in enumerate(pending, 1):
            row = future.result()
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(
                f"{number}/{len(todo)} {row['method']}, {row['concept']}, seed {row['seed']}, "
                f"{row['samples']} samples: error {row['likeness_error']:.2f}"
            )


if __name__ == "__main__":
    main()
