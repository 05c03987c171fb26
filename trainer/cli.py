"""The command line: `textual-inversion train --model … --images … --name … --init …`."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tqdm import tqdm

from .data import Picture, read_folder
from .diffusers_files import silence_libraries
from .diffusers_model import DiffusersModel
from .embedding import Embedding
from .errors import DivergedError, InputError
from .files import FORMATS, read_embedding, write_embedding
from .loop import train
from .model import FrozenModel
from .previews import preview_grid
from .refused import Refused
from .settings import Settings, described_fields

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
"""Exit codes; the last is what shells expect after Ctrl-C."""

_SHORT = {"init_words": ["--init"]}
"""Further names of options."""

DEFAULT = " (default: %(default)s)"

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
    for add_command in (_add_train, *further):
        add_command(commands)
    return parser


def _add_train(commands: Any) -> None:
    parser = commands.add_parser(
        "train",
        help="learn a word from a folder of pictures",
        description="Learn a word from a folder of pictures and write it as an embedding file. A "
        "text file of the same name beside a picture is its caption.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=_run_train)
    files = parser.add_argument_group("files")
    files.add_argument(
        "--model", required=True, help="A diffusers folder, or a .safetensors checkpoint."
    )
    files.add_argument("--images", type=Path, required=True, help="The folder of pictures.")
    files.add_argument(
        "--output", type=Path, default=Path(), help="Where the file goes (default: here)."
    )
    files.add_argument(
        "--format",
        choices=FORMATS,
        default=next(iter(FORMATS)),
        help="; ".join(f"{key}: {form.help}" for key, form in FORMATS.items()) + DEFAULT,
    )
    files.add_argument("--overwrite", action="store_true", help="Replace an existing file.")
    files.add_argument("--start-from", type=Path, help="An embedding to go on from.")
    files.add_argument(
        "--config",
        type=Path,
        help="For a .safetensors checkpoint: a diffusers folder of the same family, from which "
        "the configuration is taken instead of from the internet.",
    )
    machine = parser.add_argument_group("machine")
    machine.add_argument("--device", help="Such as cuda, mps or cpu; the best there is if not set.")
    machine.add_argument(
        "--dtype",
        choices=DTYPES,
        help="In which the network computes; float32 on a CPU and 16 bits on a GPU if not set.",
    )
    group = parser.add_argument_group("training")
    for field, choice in described_fields():
        option: dict[str, Any] = {
            "dest": field.name,
            "default": field.default,
            "help": choice.help.replace("%", "%%"),
        }
        if isinstance(field.default, bool):
            option["action"] = "store_true"
        else:
            option["type"] = type(field.default)
            option["choices"] = choice.options
            option["help"] += DEFAULT if field.default != "" else ""
        if field.name == "name":
            option |= {"required": True, "help": choice.help}
        names = [*_SHORT.get(field.name, []), "--" + field.name.replace("_", "-")]
        group.add_argument(*names, **option)


def _run_train(options: argparse.Namespace) -> int:
    settings = Settings(**{f.name: getattr(options, f.name) for f, _ in described_fields()})
    target = _target(options, settings.name)
    pictures = read_folder(options.images)
    start = None if options.start_from is None else read_embedding(options.start_from)
    model = _load_model(options, settings)
    _refuse_unwritable(model, options.format)

    word: Embedding | None = None
    try:
        with tqdm(total=settings.steps, unit="step", leave=False) as bar:
            for progress in train(model, pictures, settings, start):
                bar.leave = True  # no bar remains of a run that never began
                word = progress.kept
                bar.set_postfix_str(f"loss {progress.smoothed_loss:.4f}", refresh=False)
                bar.update()
    except BaseException as reason:
        _rescue(reason.last_good if isinstance(reason, DivergedError) else word, target)
        raise
    if word is not None:
        write_embedding(word, target, overwrite=options.overwrite)
        print(target)
        if settings.previews:
            print(_write_previews(model, pictures, settings, word, target))
    return 0


def _rescue(word: Embedding | None, target: Path) -> None:
    """Keep what a run that ended early has learned, under a name of its own."""
    if word is None:
        return
    word = word.renamed(f"{word.name}-interrupted")
    target = target.with_name(word.name + target.suffix)
    write_embedding(word, target, overwrite=True)
    print(target)


def _target(options: argparse.Namespace, name: str) -> Path:
    """The file to write, once it is known that it can be."""
    folder: Path = options.output
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder “{folder}” cannot be made ({error.strerror}): choose another --output."
        ) from error
    target = folder / f"{name}{FORMATS[options.format].suffix}"
    if target.exists() and not options.overwrite:
        raise InputError(f"“{target}” exists already: choose another --name, or add --overwrite.")
    return target


def _load_model(options: argparse.Namespace, settings: Settings) -> DiffusersModel:
    device = _device(options.device)
    dtype = DTYPES[options.dtype] if options.dtype else _best_dtype(device)
    silence_libraries()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return DiffusersModel.from_pretrained(
            options.model, device, dtype, options.config, checkpointing=settings.checkpointing
        )


def _device(name: str | None) -> torch.device:
    if name is None:
        accelerators = (("cuda", torch.cuda), ("mps", torch.backends.mps))
        name = next((n for n, backend in accelerators if backend.is_available()), "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"The device “{name}” is not there: leave --device out to take the best there is."
        ) from error


def _best_dtype(device: torch.device) -> torch.dtype:
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _refuse_unwritable(model: FrozenModel, format: str) -> None:
    """Find out before training whether the format holds what will be learned."""
    trial = Embedding("word", {e.key: e.vocabulary[:1] for e in model.text_encoders})
    try:
        FORMATS[format].encode(trial)
    except Refused as reason:
        raise InputError(f"A word for this model {reason}") from None


def _write_previews(
    model: FrozenModel,
    pictures: Sequence[Picture],
    settings: Settings,
    word: Embedding,
    target: Path,
) -> Path:
    path = target.with_name(f"{word.name}.preview.png")
    grid = preview_grid(model, pictures, settings, word)
    Image.fromarray((grid * 255).round().byte().numpy()).save(path)
    return path


if __name__ == "__main__":
    sys.exit(main())
