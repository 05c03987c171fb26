"""The command line: `textual-inversion train --model … --images … --name … --init …`."""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tqdm import tqdm

from .checks import checks
from .cli_options import (
    add_files,
    add_machine,
    add_settings,
    load_model,
    refuse_unwritable,
    settings_of,
    target_of,
)
from .embedding import Embedding
from .errors import DivergedError, InputError
from .files import read_embedding, write_embedding
from .folder import read_folders
from .kept_training import train_and_keep
from .loop import train
from .metadata import with_thumbnail
from .model import FrozenModel
from .negative_settings import NegativeSettings
from .negative_tasks import task_of
from .pictures import Picture
from .previews import draw_previews, preview_grid
from .report import RunReport
from .run_folder import FINISHED
from .runs import Run, fingerprints, open_run
from .settings import Settings
from .team import ALONE, Team, joined

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
"""Exit codes; the last is what shells expect after Ctrl-C."""

FOLDER_HELP = (
    "A text file of the same name beside a picture is its caption; for cat.jpg, a picture "
    "cat-mask.png is its mask, white where to learn."
)

AddCommand = Callable[[Any], None]
"""Adds a parser, whose default `run` takes the options and returns an exit code."""


def main(arguments: Sequence[str] | None = None, further: Sequence[AddCommand] = ()) -> int:
    """Run one command; returns the exit code of the process.

    Args:
        arguments: of the command line; the process's own if not given.
        further: functions that add commands which build on the trainer.
    """
    options = _parser(further).parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except InputError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except DivergedError as error:
        print(error, file=sys.stderr)
        return FAILED
    except torch.cuda.OutOfMemoryError:
        print(
            "The device has too little memory: lower --batch-size or --resolution, or add "
            "--checkpointing.",
            file=sys.stderr,
        )
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser(further: Sequence[AddCommand]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="textual-inversion",
        description="Teach a text-to-image model a new word from a few pictures.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add_command in (_add_train, _add_train_negative, *further):
        add_command(commands)
    return parser


def _add_train(commands: Any) -> None:
    parser = commands.add_parser(
        "train",
        help="learn a word from a folder of pictures",
        description="Learn a word from a folder of pictures and write it as an embedding file. "
        + FOLDER_HELP,
        allow_abbrev=False,
    )
    _add_training(parser, Settings)


def _add_train_negative(commands: Any) -> None:
    parser = commands.add_parser(
        "train-negative",
        help="learn a word for negative prompts",
        description="Learn a word for negative prompts from a folder of pictures: bad ones, good "
        "ones with captions, or a pair of words. Write it as an embedding file that says that it "
        f"is a negative. {FOLDER_HELP}",
        allow_abbrev=False,
    )
    _add_training(parser, NegativeSettings)


def _add_training(parser: argparse.ArgumentParser, kind: type[Settings]) -> None:
    """Add the options of a training, which are those of a kind of settings."""
    parser.set_defaults(run=_run_train)
    files = add_files(parser)
    files.add_argument("--images", type=Path, required=True, help="The folder of pictures.")
    files.add_argument(
        "--unlike-images",
        type=Path,
        help="A folder of pictures of what the word does not mean, such as other things of its "
        "kind or the same places without it: what they share with the others is not learned.",
    )
    files.add_argument("--start-from", type=Path, help="An embedding to go on from.")
    files.add_argument(
        "--run",
        "--run-folder",
        dest="run_folder",
        type=Path,
        help="A folder in which the run is kept: losses, previews, and checkpoints from which the "
        "same command goes on when it was cut short. Under torchrun write --run-folder, because it "
        "takes --run for an option of its own.",
    )
    add_machine(parser)
    add_settings(parser, kind)


def _run_train(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    target, *_ = [target_of(options, name) for name in task_of(settings).names(settings.name)]
    pictures = read_folders(options.images, options.unlike_images, options.captions)
    start = None if options.start_from is None else read_embedding(options.start_from)
    model = load_model(options, settings)
    refuse_unwritable(model, options.format)

    with joined(model.device) as team, ExitStack() as stack:
        run: Run | None = None
        if options.run_folder is not None and team.leads:
            fingerprint = fingerprints(model, pictures, start)
            run = stack.enter_context(open_run(options.run_folder, settings, fingerprint))
            print(run.folder.path)
        resume = team.agree(run.state if run else None)
        if not team.leads:
            deque(train(model, pictures, settings, start, resume, team=team), maxlen=0)
            return 0
        word = train_to_file(run, model, pictures, settings, start, target, team)
        if word is not None:
            for one in task_of(settings).hand_out(word):
                write_beside(target, one, overwrite=options.overwrite)
        if run is not None:
            run.end(FINISHED)
        if word is not None:
            add_previews(model, pictures, settings, word, target)
    return 0


def train_to_file(
    run: Run | None,
    model: FrozenModel,
    pictures: Sequence[Picture],
    settings: Settings,
    start: Embedding | None,
    target: Path,
    team: Team = ALONE,
    bar_place: int = 0,
) -> Embedding | None:
    """Train with a bar; what was learned before an error or an interrupt is written too.

    Args:
        run: where the run is kept, or None.
        model: see `train`.
        pictures: see `train`.
        settings: see `train`.
        start: see `train`.
        target: the file of the word, to which what an ended run leaves is put beside.
        team: see `train`; this process leads it.
        bar_place: line of the bar in the terminal, where several processes have one.
    """
    word: Embedding | None = None
    prompts = task_of(settings).prompts
    found = checks(pictures, settings, model.text_encoders, start, prompts)
    report = RunReport(found, model.device)
    for note in report.notes:
        print(note, file=sys.stderr)
    done = run.state.step if run and run.state else 0
    if run is None:
        steps = train(model, pictures, settings, start, team=team)
    else:
        kept = train_and_keep(run, model, pictures, settings, start, team=team)
        steps = (progress for progress, *_ in kept)
    try:
        with tqdm(
            total=settings.steps,
            initial=done,
            desc=settings.name,
            unit="step",
            leave=False,
            position=bar_place,
        ) as bar:
            for progress in steps:
                bar.leave = True  # no bar remains of a run that never began
                word = progress.kept
                for line in report.take(progress):
                    bar.write(line, file=sys.stderr)
                bar.set_postfix_str(f"loss {progress.smoothed_loss:.4f}", refresh=False)
                bar.update()
    except BaseException as reason:
        word = reason.last_good if isinstance(reason, DivergedError) else word
        # Kept under names of their own.
        for one in [] if word is None else task_of(settings).hand_out(word):
            write_beside(target, one.renamed(f"{one.name}-interrupted"), overwrite=True)
        raise
    if report.learned:
        print(report.learned, file=sys.stderr)
    return word


def write_beside(target: Path, word: Embedding, *, overwrite: bool) -> None:
    """Write a word beside `target`, in the same format, and tell where."""
    path = target.with_name(f"{word.name}{target.suffix}")
    write_embedding(word, path, overwrite=overwrite)
    print(path)


def add_previews(
    model: FrozenModel,
    pictures: Sequence[Picture],
    settings: Settings,
    learned: Embedding,
    target: Path,
) -> None:
    """Draw with what was learned: a picture beside the file, and a small one inside.

    Nothing is drawn where the settings ask for no previews.
    """
    if not settings.previews:
        return
    rows = draw_previews(model, pictures, settings, learned)
    for word in task_of(settings).hand_out(with_thumbnail(learned, rows[-1][0])):
        path = target.with_name(f"{word.name}{target.suffix}")
        write_embedding(word, path, overwrite=True)
    path = target.with_name(f"{learned.name}.preview.png")
    grid = preview_grid(pictures, settings, rows)
    Image.fromarray((grid * 255).round().byte().numpy()).save(path)
    print(path)


if __name__ == "__main__":
    sys.exit(main())
