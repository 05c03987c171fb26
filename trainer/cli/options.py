"""What the commands that train have in common: their options, and the model these name."""

from __future__ import annotations

import argparse
import os
import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from ..data.picture_folder import CAPTIONS
from ..diffusers_model.loading import silence_libraries
from ..diffusers_model.model import DiffusersModel
from ..embeddings.embedding import Embedding
from ..embeddings.names import same_name
from ..errors import InputError
from ..files.refused import Refused
from ..files.whole_files import try_folder
from ..files.writing import FORMATS
from ..model import FrozenModel
from ..presets import HELP, NONE, PRESETS, with_preset
from ..prompts import read_templates
from ..runs.training import INTERRUPTED_ENDING
from ..settings import Settings, described_fields
from .commands import DEFAULT, CommandParser, KnownModel, Models

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

_SHORT = {"init_words": ["--init"]}
"""Further names of options."""

LEARNING, PICTURES, PROMPTS, OUTPUT, MACHINE = (
    "learning",
    "pictures",
    "prompts",
    "output",
    "machine",
)
"""The groups of options, in the order of the help."""

_GROUP_OF: Mapping[str, str] = {
    **dict.fromkeys(("resolution", "flip", "alpha", "zoom", "buckets", "unlike_weight"), PICTURES),
    **dict.fromkeys(("learn", "templates", "shuffle_tags", "drop_tags"), PROMPTS),
    **dict.fromkeys(("name", "keep", "previews", "preview_every", "save_every"), OUTPUT),
    **dict.fromkeys(("checkpointing", "memory"), MACHINE),
}
"""Setting -> its group; all others are about learning."""


def add_files(parser: CommandParser) -> None:
    """Add where the model and captions come from, and where words go."""
    groups = {title: parser.titled(title) for title in (LEARNING, PICTURES, PROMPTS, OUTPUT)}
    groups[LEARNING].add_argument(
        "--model",
        required=True,
        help="A diffusers folder, or a .safetensors checkpoint; or tiny-demo, the tiny model of "
        "this package, for trying things out.",
    )
    groups[PICTURES].add_argument(
        "--captions",
        choices=CAPTIONS,
        default=CAPTIONS[0],
        help="Where captions come from: the text files beside the pictures; or those and, where "
        "there is none, the names of the pictures; or nowhere" + DEFAULT,
    )
    files = groups[OUTPUT]
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


def add_machine(parser: CommandParser) -> None:
    """Add on what and how the network computes."""
    machine = parser.titled(MACHINE)
    machine.add_argument(
        "--config",
        type=Path,
        help="For a .safetensors checkpoint: a diffusers folder of the same family to take the "
        "configuration from, instead of the internet.",
    )
    machine.add_argument("--device", help="Such as cuda, mps or cpu; the best there is if not set.")
    machine.add_argument(
        "--dtype",
        choices=DTYPES,
        help="Number format to compute in; float32 on a CPU and 16 bits on a GPU if not set.",
    )
    machine.add_argument(
        "--offload",
        action="store_true",
        help="Keep all weights off the GPU, whether there is room or not: they are brought to it "
        "block by block, which needs the least memory, takes longer and gives the same result.",
    )


def add_recipes(parser: CommandParser) -> None:
    """Add what stands for several settings: a preset, and a file of templates."""
    parser.titled(LEARNING).add_argument(
        "--preset",
        choices=[NONE, *PRESETS],
        default=NONE,
        help=HELP.replace("%", "%%") + " Options given here override it" + DEFAULT + ".",
    )
    template_file = parser.titled(PROMPTS).add_argument(
        "--template-file",
        type=Path,
        help="A text file of templates, or a folder of such files as A1111 has them, in place of "
        "--templates.",
    )
    parser.rarely(template_file)


def add_settings(parser: CommandParser, kind: type[Settings], *, named: bool = True) -> None:
    """Add a kind of settings, with their own words as help; without the name, if not `named`."""
    parser.set_defaults(kind=kind, preset=NONE, template_file=None)
    for field, choice in described_fields(kind):
        # Absent where they are not given, so that a preset's take their place.
        option: dict[str, Any] = {
            "dest": field.name,
            "default": argparse.SUPPRESS,
            "help": choice.help.replace("%", "%%"),
        }
        if isinstance(field.default, bool):
            option["action"] = argparse.BooleanOptionalAction
        else:
            option["type"] = type(field.default)
            option["choices"] = choice.options
            option["help"] += f" (default: {field.default})" if field.default != "" else ""
        if field.name == "name":
            if not named:
                continue
            option |= {"required": True, "help": choice.help}
        names = [*_SHORT.get(field.name, []), "--" + field.name.replace("_", "-")]
        group = parser.titled(_GROUP_OF.get(field.name, LEARNING))
        action = group.add_argument(*names, **option)
        if choice.advanced:
            parser.rarely(action)


def settings_of(options: argparse.Namespace, **changes: object) -> Settings:
    """The settings that the options name.

    Args:
        options: parsed.
        changes: settings that take the place of the options'.

    Raises:
        InputError: one of them cannot be used, or the template file cannot be read.
    """
    if options.template_file is not None:
        options.templates = read_templates(options.template_file)
    names = {field.name for field, _ in described_fields(options.kind)}
    given = {name: value for name, value in vars(options).items() if name in names}
    usual: dict[str, Any] = {}
    known = known_model(options)
    if known is not None:
        usual["resolution"] = known.resolution
    values = {**usual, **with_preset(options.preset, {}), **given, **changes}
    try:
        settings: Settings = options.kind(**values)
    except InputError as error:
        # What comes from elsewhere, as from a table, goes by its own name there.
        raise InputError(str(error) if changes else as_options(str(error), names)) from None
    return settings


def known_model(options: argparse.Namespace) -> KnownModel | None:
    """The model that the options call by a name, if they do."""
    models: Models = getattr(options, "models", {})
    return models.get(options.model)


def as_options(sentence: str, names: Collection[str]) -> str:
    """A sentence about settings, with their names as they are typed.

    A setting is recognised where its name has a `_`, and where the sentence begins with it.
    """
    longest = sorted((name for name in names if "_" in name), key=len, reverse=True)
    if longest:
        pattern = rf"(?<![\w“-])({'|'.join(longest)})(?![\w-])"
        sentence = re.sub(pattern, lambda m: "--" + m[1].replace("_", "-"), sentence)
    first, space, rest = sentence.partition(" ")
    return f"--{first}{space}{rest}" if first in names else sentence


def file_of(options: argparse.Namespace, name: str) -> Path:
    """The file of a word, in the folder and the format that the options name."""
    folder: Path = options.output
    return folder / f"{name}{FORMATS[options.format].suffix}"


def target_of(options: argparse.Namespace, name: str) -> Path:
    """The file to write, once it is known that it can be; a dry run leaves no folder for it.

    Raises:
        InputError: it exists, or its folder cannot be written to.
    """
    target = file_of(options, name)
    longest = f"{name}{INTERRUPTED_ENDING}{target.suffix}"
    try_folder(target.parent, longest, keep=not options.dry_run)
    refuse_taken(target, overwrite=options.overwrite)
    return target


def refuse_taken(target: Path, *, overwrite: bool) -> None:
    """Refuse to write over a file, also over one whose name is the same on some file systems.

    Raises:
        InputError: it exists, and may not be replaced.
    """
    for path in target.parent.iterdir() if target.parent.exists() and not overwrite else ():
        if same_name(path.name, target.name):
            raise InputError(f"“{path}” already exists: choose another --name, or add --overwrite.")


def load_model(options: argparse.Namespace, settings: Settings) -> DiffusersModel:
    """The model that the options name, on the device that they name."""
    known = known_model(options)
    if known is not None:
        # So small that it is on the CPU unless asked for elsewhere.
        place = {"device": device_of(options.device)} if options.device is not None else {}
        model: DiffusersModel = known.load(**place)
        return model
    device = device_of(options.device)
    dtype = DTYPES[options.dtype] if options.dtype else _best_dtype(device)
    with warnings.catch_warnings():
        if not getattr(options, "verbose", False):
            silence_libraries()
            warnings.simplefilter("ignore")
        return DiffusersModel.from_pretrained(
            options.model,
            device,
            dtype,
            options.config,
            checkpointing=settings.checkpointing,
            offload=options.offload,
            memory=settings.memory_bytes,
            batch_size=settings.batch_pictures,
            resolution=settings.resolution,
        )


def device_of(name: str | None) -> torch.device:
    """The device of this name; the best there is if it has none.

    Of several GPUs, each process that `torchrun` started takes its own.

    Raises:
        InputError: there is no such device.
    """
    if name is None:
        accelerators = (("cuda", torch.cuda), ("mps", torch.backends.mps))
        name = next((n for n, backend in accelerators if backend.is_available()), "cpu")
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"The device “{name}” is not available: leave --device out to use the best there is."
        ) from error


def _best_dtype(device: torch.device) -> torch.dtype:
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def refuse_unwritable(model: FrozenModel, format: str) -> None:
    """Find out before training whether the format holds what will be learned."""
    trial = Embedding("word", {e.key: e.vocabulary[:1] for e in model.text_encoders})
    try:
        FORMATS[format].encode(trial, torch.float32)
    except Refused as reason:
        raise InputError(f"A word for this model {reason}") from None
