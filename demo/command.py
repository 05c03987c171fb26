"""The command `textual-inversion demo`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..trainer.cli.commands import DEFAULT, Command, CommandParser, KnownModel


def describe_demo(parser: CommandParser) -> None:
    """Describe the command `demo`."""
    parser.description = (
        "Teach the tiny model that comes with this package a word, measure what it has learned, "
        "and write the embedding, the loss and a picture that tells the story."
    )
    parser.set_defaults(run=_run)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("textual-inversion-demo"),
        help="The folder for the results" + DEFAULT,
    )
    parser.add_argument(
        "--concept", default="candy-flower", help="What to learn" + DEFAULT + "; a wrong name "
        "lists the right ones."
    )  # fmt: skip
    parser.add_argument("--steps", type=int, help="How many steps, if not the default.")
    parser.add_argument("--seed", type=int, default=0, help="Seed for all random choices.")


def _tiny_model(**place: Any) -> object:
    from .story import tiny_model

    return tiny_model(**place)


DEMO = Command(
    "demo",
    "teach a tiny model a word, in a minute or two on any machine",
    __name__,
    describe_demo.__name__,
)

MODELS = {"tiny-demo": KnownModel(_tiny_model, resolution=128)}
"""What `--model` finds by name."""


def _run(options: argparse.Namespace) -> int:
    # Only here, so that other commands need not wait for it.
    from tqdm import tqdm

    from ..trainer.files.whole_files import try_folder
    from .story import learn, lesson_settings, tell, tiny_model

    changes = {"seed": options.seed} | (
        {"steps": options.steps} if options.steps is not None else {}
    )
    settings = lesson_settings(options.concept, **changes)
    try_folder(options.output, f"{settings.name}.safetensors")
    model = tiny_model()
    run = []
    with tqdm(unit="step", desc="learning a word", disable=options.quiet) as bar:
        for progress in learn(model, settings):
            run.append(progress)
            bar.total = progress.expected
            bar.set_postfix_str(f"loss {progress.smoothed_loss:.4f}", refresh=False)
            bar.update()
    print("Drawing and measuring …")
    print(tell(options.output, settings.name, run, model))
    print(f"Look at {options.output / 'story.png'}")
    return 0
