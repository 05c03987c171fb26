"""Reading a model for `DiffusersModel` from a diffusers folder or a file of weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..embeddings.encoders import KEY_OF_WIDTH
from ..errors import InputError
from ..model import TextEncoder


@dataclass(frozen=True)
class Parts:
    """The parts of a pipeline that training needs, as `DiffusersModel` takes them."""

    unet: Any
    vae: Any
    text_encoders: Sequence[Any]
    tokenizers: Sequence[Any]
    scheduler: Any


def load_parts(path: Path, dtype: torch.dtype, config: Path | None = None) -> Parts:
    """Load a diffusers folder or a single `.safetensors` file, on the CPU.

    Args:
        path: the folder or file.
        dtype: of the U-Net; everything else is float32.
        config: for a file, a diffusers folder to take the configuration from.

    Raises:
        InputError: diffusers is not installed, or this cannot be loaded.
    """
    _require_libraries()
    if path.is_dir():
        return _load_folder(path, dtype)
    if path.is_file() and path.suffix.lower() == ".safetensors":
        return _load_file(path, dtype, config)
    raise InputError(_no_model(path))


def _no_model(path: Path) -> str:
    return (
        f"There is no model at “{path}”: give a diffusers folder (with model_index.json) or a "
        ".safetensors checkpoint."
    )


def _require_libraries() -> None:
    try:
        import diffusers  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise InputError(
            "Loading a model needs diffusers and transformers: "
            'pip install "textual-inversion[diffusers]"'
        ) from error


def load_vocabularies(path: Path, config: Path | None = None) -> list[TextEncoder]:
    """The vocabularies of a model's text encoders, without the rest of the model.

    Args:
        path: a diffusers folder, or a .safetensors checkpoint, of which only the tables of its
            CLIP encoders are read.
        config: for a checkpoint, a diffusers folder whose tokenizer names the tokens, instead of
            the one of CLIP from the Hugging Face hub.

    Raises:
        InputError: diffusers is not installed, or this cannot be loaded.
    """
    _require_libraries()
    if path.is_dir():
        return _folder_vocabularies(path)
    if not path.is_file() or path.suffix.lower() != ".safetensors":
        raise InputError(_no_model(path))
    tables = _clip_tables(path)
    with _explained(
        "The tokenizer of CLIP cannot be loaded",
        "It comes from the Hugging Face hub: go online once, or name a diffusers folder of the "
        "same family with --config.",
    ):
        tokenizer = _clip_tokenizer(config)
    return [text_encoder(key, table, tokenizer) for key, table in tables.items()]


def text_encoder(key: str, vocabulary: torch.Tensor, tokenizer: Any) -> TextEncoder:
    """What the trainer needs to know of an encoder of transformers.

    Args:
        key: the name under which embedding files keep vectors for it.
        vocabulary: its table of token vectors, [tokens, width].
        tokenizer: a `CLIPTokenizer`, or another of its kind.
    """

    def token_ids(text: str) -> list[int]:
        # Quiet: prompts longer than one chunk are expected here.
        return list(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)

    return TextEncoder(
        key, vocabulary, token_ids, word=tokenizer.decode, padding=tokenizer.pad_token_id
    )


def _folder_vocabularies(folder: Path) -> list[TextEncoder]:
    index = _read_index(folder)
    vocabularies = []
    for number, end in enumerate(_encoder_suffixes(index)):
        part = f"text_encoder{end}"
        variant = _variant(folder / part)
        encoder = _load_part(folder, index, part, torch_dtype=torch.float32, variant=variant)
        tokenizer = _load_part(folder, index, f"tokenizer{end}")
        table = encoder.get_input_embeddings().weight.detach()
        key = KEY_OF_WIDTH.get(table.shape[1], ("clip_l", "clip_g", "t5xxl")[number])
        vocabularies.append(text_encoder(key, table, tokenizer))
    return vocabularies


def _clip_tables(path: Path) -> dict[str, torch.Tensor]:
    """Encoder key -> its table of token vectors, the only tensors of the file that are read."""
    from safetensors import safe_open

    tables: dict[str, torch.Tensor] = {}
    with (
        _explained(f"“{path.name}” cannot be read as safetensors"),
        safe_open(path, framework="pt") as file,
    ):
        for name in file.keys():  # noqa: SIM118
            if name.endswith("token_embedding.weight"):
                table = file.get_tensor(name)
                tables[KEY_OF_WIDTH.get(table.shape[1], f"width_{table.shape[1]}")] = table
    if not tables:
        raise InputError(
            f"“{path.name}” holds no CLIP text encoder: give a full SD1, SD2 or SDXL checkpoint."
        )
    return tables


def _clip_tokenizer(config: Path | None) -> Any:
    """All CLIP encoders of checkpoints have the same tokens."""
    if config is not None:
        return _load_part(config, _read_index(config), "tokenizer")
    import transformers

    return transformers.CLIPTokenizer.from_pretrained("openai/clip-vit-large-patch14")


def _load_folder(folder: Path, dtype: torch.dtype) -> Parts:
    index = _read_index(folder)

    def load_model(name: str, dtype: torch.dtype = torch.float32) -> Any:
        variant = _variant(folder / name)
        return _load_part(folder, index, name, torch_dtype=dtype, variant=variant)

    suffixes = _encoder_suffixes(index)
    return Parts(
        unet=load_model("unet", dtype),
        vae=load_model("vae"),
        text_encoders=[load_model(f"text_encoder{end}") for end in suffixes],
        tokenizers=[_load_part(folder, index, f"tokenizer{end}") for end in suffixes],
        scheduler=_load_part(folder, index, "scheduler"),
    )


def _encoder_suffixes(index: Mapping[str, Any]) -> list[str]:
    return [end for end in ("", "_2", "_3") if (index.get(f"text_encoder{end}") or [None])[0]]


def _load_part(folder: Path, index: Mapping[str, Any], name: str, **options: Any) -> Any:
    with _explained(f"The {name} in “{folder}” cannot be loaded"):
        if name not in index:
            raise ValueError("model_index.json does not name it")
        library, kind = index[name]
        part = getattr(_library(library), kind)
        return part.from_pretrained(folder, subfolder=name, local_files_only=True, **options)


def _load_file(path: Path, dtype: torch.dtype, config: Path | None) -> Parts:
    import diffusers
    from safetensors import safe_open

    with (
        _explained(f"“{path.name}” cannot be read as safetensors"),
        safe_open(path, framework="pt") as f,
    ):
        keys = set(f.keys())
    if not any(key.startswith("model.diffusion_model.") for key in keys):
        raise InputError(
            f"“{path.name}” is not a Stable Diffusion checkpoint (no key begins with "
            "“model.diffusion_model.”): give a full SD1, SD2 or SDXL checkpoint."
        )
    options: dict[str, Any] = {}
    if config is not None:
        _read_index(config)
        options["config"] = str(config)
    is_xl = any(key.startswith("conditioner.") for key in keys)
    pipeline_class = (
        diffusers.StableDiffusionXLPipeline if is_xl else diffusers.StableDiffusionPipeline
    )
    with _explained(
        f"“{path.name}” cannot be loaded",
        "A single file takes its configuration from the Hugging Face hub: go online once, or name "
        "a diffusers folder of the same family with --config.",
    ):
        # The U-Net apart, so that encoders and VAE keep all their digits.
        unet = diffusers.UNet2DConditionModel.from_single_file(
            str(path), torch_dtype=dtype, subfolder="unet", **options
        )
        # A checker of pictures is no part of these files, and nothing here needs one.
        unneeded = {} if is_xl else {"safety_checker": None, "feature_extractor": None}
        pipeline = pipeline_class.from_single_file(
            str(path), torch_dtype=torch.float32, unet=unet, **unneeded, **options
        )
    second = is_xl and pipeline.text_encoder_2 is not None
    return Parts(
        unet=unet,
        vae=pipeline.vae,
        text_encoders=[pipeline.text_encoder, *([pipeline.text_encoder_2] if second else [])],
        tokenizers=[pipeline.tokenizer, *([pipeline.tokenizer_2] if second else [])],
        scheduler=_marked_scheduler(pipeline.scheduler, keys),
    )


def _marked_scheduler(scheduler: Any, keys: Set[str]) -> Any:
    """The scheduler, changed where an SDXL file's marks say so; diffusers does not look for them.

    A key `v_pred` says that the network predicts v, `ztsnr` that the last timestep is all noise.
    """
    if "v_pred" not in keys:
        return scheduler
    import diffusers

    return diffusers.DDIMScheduler.from_config(  # type: ignore[no-untyped-call]
        scheduler.config,
        prediction_type="v_prediction",
        rescale_betas_zero_snr="ztsnr" in keys,
    )


def _read_index(folder: Path) -> dict[str, Any]:
    """Which class each part of a diffusers folder has."""
    try:
        index = dict(json.loads((folder / "model_index.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"“{folder}” is not a diffusers folder: it has no readable model_index.json."
        ) from error
    missing = [n for n in ("unet", "vae", "text_encoder", "tokenizer") if n not in index]
    if missing:
        raise InputError(
            f"“{folder}” holds a {index.get('_class_name', 'model')} without {missing[0]}: only "
            "SD1, SD2 and SDXL base models can be trained on here."
        )
    return index


def silence_libraries() -> None:
    """Have diffusers and transformers, if installed, draw no bars and print no warnings."""
    with suppress(ImportError):
        for name in ("diffusers", "transformers"):
            # Not by environment variables, which count only before the first import.
            logging = _library(name).utils.logging
            logging.disable_progress_bar()
            logging.set_verbosity_error()


def _library(name: str) -> Any:
    """The module that an index names; only these two, because a folder is not to be trusted."""
    import diffusers
    import transformers

    return {"diffusers": diffusers, "transformers": transformers}[name]


def _variant(folder: Path) -> str | None:
    """`fp16` for folders that hold weights of that kind only."""
    weights = [path.name for path in folder.glob("*.safetensors")]
    return "fp16" if weights and all(".fp16." in name for name in weights) else None


@contextmanager
def _explained(problem: str, way_out: str = "") -> Iterator[None]:
    """Turn whatever the libraries raise on bad files into one sentence."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # they raise nearly every kind there is
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise InputError(f"{problem} ({reason}). {way_out}".strip()) from error
