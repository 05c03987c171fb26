"""The commands `train`, `train-negative` and `train-ratings`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from ..data.pictures import Picture
from ..embeddings.embedding import Embedding
from ..errors import InputError
from ..files.checkpoint_hash import CheckpointHash
from ..files.reading import read_embedding
from ..files.thumbnails import png
from ..files.whole_files import try_folder, write_whole
from ..files.writing import write_embedding
from ..learning.chosen_objective import objective_of
from ..learning.distributed import ALONE, Processes, joined
from ..learning.loop import train
from ..model import FrozenModel
from ..runs.ratings import RatingFolder
from ..runs.run import Run, open_run
from ..runs.run_inputs import fingerprints
from ..runs.training import Destination, train_and_save
from ..settings import NegativeSettings, RatingSettings, Settings
from .commands import CommandParser
from .configuration import add_configuration, write_configuration
from .display import TerminalDisplay
from .dry_run import plan
from .options import (
    LEARNING,
    OUTPUT,
    PICTURES,
    add_files,
    add_machine,
    add_recipes,
    add_settings,
    load_model,
    refuse_taken,
    refuse_unwritable,
    settings_of,
    target_of,
)
from .pictures import pictures_of

FOLDER_HELP = (
    "A text file of the same name beside a picture (.txt or .caption) is its caption; for cat.jpg, "
    "a picture cat-mask.png is its mask, white where to learn."
)


def describe_train(parser: CommandParser) -> None:
    """Describe the command `train`."""
    parser.description = (
        f"Learn a word from a folder of pictures and write it as an embedding file. {FOLDER_HELP}"
    )
    _describe(parser, Settings)
    _add_images(parser)


def describe_train_negative(parser: CommandParser) -> None:
    """Describe the command `train-negative`."""
    parser.description = (
        "Learn a word for negative prompts from a folder of pictures: bad ones, good ones with "
        "captions, or a pair of words. Write it as an embedding file that is marked as a "
        f"negative. {FOLDER_HELP}"
    )
    _describe(parser, NegativeSettings)
    _add_images(parser)


def describe_train_ratings(parser: CommandParser) -> None:
    """Describe the command `train-ratings`."""
    parser.description = (
        "Learn a word from pictures that you like and pictures that you dislike, both drawn by the "
        "model: pictures of one prompt are compared, so each needs its prompt as caption. Write it "
        "as an embedding file. Two dozen pairs or more; where you have pairs, they teach more than "
        f"bad or good pictures alone. {FOLDER_HELP}"
    )
    _describe(parser, RatingSettings)
    parser.usage = (
        "%(prog)s --model MODEL (--liked FOLDER --disliked FOLDER | --ratings FOLDER) --name WORD "
        "[options]"
    )
    pictures = parser.titled(PICTURES)
    pictures.add_argument("--liked", type=Path, help="The folder of pictures that you like.")
    pictures.add_argument("--disliked", type=Path, help="The folder of those that you dislike.")
    pictures.add_argument(
        "--ratings",
        type=Path,
        help="A folder in which pictures and their ratings are kept, in place of the two.",
    )


def _add_images(parser: CommandParser) -> None:
    pictures = parser.titled(PICTURES)
    pictures.add_argument("--images", type=Path, required=True, help="The folder of pictures.")
    unlike = pictures.add_argument(
        "--unlike-images",
        type=Path,
        help="A folder of pictures of what the word does not mean, such as other things of its "
        "kind or the same places without it: what they share with the others is not learned.",
    )
    parser.rarely(unlike)


def _describe(parser: CommandParser, kind: type[Settings]) -> None:
    """Add the options of a training, which are those of a kind of settings."""
    parser.set_defaults(run=partial(_run_train, parser))
    parser.usage = "%(prog)s --model MODEL --images FOLDER --name WORD [options]"
    add_files(parser)
    if kind is not RatingSettings:
        add_recipes(parser)
    add_settings(parser, kind)
    parser.titled(LEARNING).add_argument(
        "--start-from", type=Path, help="An embedding to continue from."
    )
    output = parser.titled(OUTPUT)
    output.add_argument(
        "--run",
        "--run-folder",
        dest="run_folder",
        type=Path,
        help="A folder to keep the run in: losses, previews, and checkpoints from which the same "
        "command continues if it was cut short. Under torchrun, write --run-folder, because "
        "torchrun takes --run as an option of its own.",
    )
    output.add_argument(
        "--dry-run",
        action="store_true",
        help="Check everything, say what would be learned and, after a few steps that are not "
        "kept, how much time and memory it would take; then stop.",
    )
    add_configuration(parser)
    add_machine(parser)


def _run_train(parser: CommandParser, options: argparse.Namespace) -> int:
    settings = settings_of(options)
    if options.write_config is not None:
        write_configuration(options, parser)
        return 0
    names = objective_of(settings).names(settings.name)
    target, *_ = [target_of(options, name) for name in names]
    if settings.previews:
        refuse_taken(preview_of(target), overwrite=options.overwrite)
    if options.run_folder is not None:
        try_folder(options.run_folder, f"{settings.name}_00001", keep=not options.dry_run)
    pictures = _pictures(options, settings)
    start = None if options.start_from is None else read_embedding(options.start_from)
    model = load_model(options, settings)
    refuse_unwritable(model, options.format)
    if options.dry_run:
        print(plan(model, pictures, settings, target, start))
        return 0

    with joined(model.device) as processes, ExitStack() as stack:
        run: Run | None = None
        if options.run_folder is not None and processes.leads:
            fingerprint = fingerprints(model, pictures, start)
            run = stack.enter_context(open_run(options.run_folder, settings, fingerprint))
            print(run.folder.path)
        resume = processes.agree(run.state if run else None)
        if not processes.leads:
            deque(train(model, pictures, settings, start, resume, processes), maxlen=0)
            return 0
        train_to_file(
            model,
            pictures,
            settings,
            target,
            CheckpointHash(Path(options.model)),
            overwrite=options.overwrite,
            start=start,
            run=run,
            processes=processes,
            quiet=options.quiet,
        )
    return 0


def _pictures(options: argparse.Namespace, settings: Settings) -> Sequence[Picture]:
    """The pictures that the options name."""
    if not isinstance(settings, RatingSettings):
        images, others = options.images, options.unlike_images
    elif options.ratings is not None and not (options.liked or options.disliked):
        return RatingFolder(options.ratings).pictures(settings)
    elif options.ratings is None and options.liked and options.disliked:
        images, others = options.liked, options.disliked
    else:
        raise InputError("Give --liked and --disliked, or --ratings alone.")
    return pictures_of(images, others, options.captions, settings, quiet=options.quiet)


def train_to_file(
    model: FrozenModel,
    pictures: Sequence[Picture],
    settings: Settings,
    target: Path,
    checkpoint: CheckpointHash,
    *,
    overwrite: bool,
    start: Embedding | None = None,
    run: Run | None = None,
    processes: Processes = ALONE,
    bar_place: int = 0,
    quiet: bool = False,
) -> None:
    """Train with a bar; the word, its preview and what an ended run leaves go beside `target`.

    Args:
        model: see `train_and_save`.
        pictures: see `train_and_save`.
        settings: see `train_and_save`.
        target: the file of the word, whose suffix chooses the format.
        checkpoint: the model's.
        overwrite: whether it may replace a file.
        start: see `train_and_save`.
        run: see `train_and_save`.
        processes: see `train_and_save`.
        bar_place: line of the bar in the terminal, where several processes have one.
        quiet: whether only results are printed.
    """
    told: set[Path] = set()

    def write(word: Embedding, replace: bool) -> None:
        path = target.with_name(f"{word.name}{target.suffix}")
        write_embedding(checkpoint.noted_in(word), path, overwrite=replace)
        if path not in told:
            print(path)
        told.add(path)

    with TerminalDisplay(settings, bar_place, quiet=quiet) as display:
        trained = train_and_save(
            model,
            pictures,
            settings,
            display,
            Destination(write, overwrite=overwrite, last_resort=Path(tempfile.gettempdir())),
            start,
            run,
            processes,
        )
    if settings.previews:
        picture = preview_of(target)
        try:
            write_whole(picture, png(trained.preview))
            print(picture)
        except InputError as error:
            print(error, file=sys.stderr)
    if trained.report.learned and not quiet:
        print(trained.report.learned, file=sys.stderr)
    if trained.unsaved:
        raise InputError(trained.unsaved)


def preview_of(target: Path) -> Path:
    """The picture that `train` draws with a word, beside its file."""
    return target.with_name(f"{target.stem}.preview.png")
