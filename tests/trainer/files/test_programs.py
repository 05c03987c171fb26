"""What our files hold, which programs read them, and that `docs/formats.md` says so.

Where one of the files changes, the record and the document are to be checked again with those
programs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.paths import ROOT
from support.programs import (
    BY_HAND,
    IN_PART,
    LLAMA,
    NOT_ASKED,
    PROGRAMS,
    READ,
    WORDS,
    WRITTEN,
    asked,
    outcome,
)
from support.tiny_models import tokenizer
from support.wild import T5, G, H, L, lora, rows, write
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.files.picture_files import read_picture
from textual_inversion.trainer.files.reading import read_embedding
from textual_inversion.trainer.files.writing import write_embedding
from torch import Tensor

DOCUMENT = ROOT / "docs" / "formats.md"

# Format -> word -> for each file its tensors, and whose vectors they are. What is not here cannot
# be written: the format holds the vectors of one encoder.
_A1111 = {
    **{key: [{"string_to_param.*": "clip_l"}] for key in ("SD1, one", "SD1", "Flux, clip_l alone")},
    **{key: [{"string_to_param.*": "clip_h"}] for key in ("SD2, one", "SD2")},
    "SDXL, clip_g alone": [{"string_to_param.*": "clip_g"}],
    "Chroma": [{"string_to_param.*": "t5xxl"}],
    "Z-Image": [{"string_to_param.*": "qwen3_4b"}],
}
_DIFFUSERS = {
    **{
        word: [{"<w>": key} for file in files for key in file.values()]
        for word, files in _A1111.items()
    },
    **{key: [{"<w>": "clip_l"}, {"<w>": "clip_g"}] for key in ("SDXL, one", "SDXL")},
}
_SAFETENSORS = {
    **{key: [{"emb_params": "clip_l"}] for key in ("SD1, one", "SD1", "Flux, clip_l alone")},
    **{key: [{"emb_params": "clip_h"}] for key in ("SD2, one", "SD2")},
    **{
        word: [{key: key for key in embedding.vectors}]
        for word, embedding in WORDS.items()
        if not word.startswith(("SD1", "SD2", "Flux, clip_l"))
    },
}
RECORDED: Mapping[str, Mapping[str, Sequence[Mapping[str, str]]]] = {
    "safetensors": _SAFETENSORS,
    "a1111": _A1111,
    "diffusers": _DIFFUSERS,
    "a1111-picture": _A1111,
    "--onetrainer": {
        word: [
            {
                {"emb_params": "emp_params", "t5xxl": "t5"}.get(name, name): key
                for name, key in file.items()
            }
            for file in files
        ]
        for word, files in _SAFETENSORS.items()
    },
    "--diffusers": _DIFFUSERS,
}


def tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        found = load_file(path)
    elif path.suffix == ".png":
        found = read_picture(path.read_bytes())
    else:
        found = torch.load(path, weights_only=True)
    if "string_to_param" in found:
        found = {f"string_to_param.{key}": rows for key, rows in found["string_to_param"].items()}
    return found


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("format", WRITTEN)
def test_files_hold_what_other_programs_look_for(format: str, word: str, tmp_path) -> None:
    target = tmp_path / f"w{WRITTEN[format].suffix}"
    if word not in RECORDED[format]:
        with pytest.raises(InputError, match="reads one encoder's"):
            write_embedding(WORDS[word], target, format=WRITTEN[format])
        return
    paths = write_embedding(WORDS[word], target, format=WRITTEN[format])
    for path, expected in zip(paths, RECORDED[format][word], strict=True):
        found = tensors(path)
        assert {*found} == {*expected}
        for name, key in expected.items():
            vectors = WORDS[word].vectors[key]
            # Of one vector, diffusers' first files had no second dimension.
            flat = "diffusers" in format and len(vectors) == 1
            assert found[name].shape == (vectors[0] if flat else vectors).shape
            assert found[name].dtype == torch.float32
            assert torch.equal(found[name].reshape(vectors.shape), vectors)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_record_asks_all_that_can_be_written(program: str) -> None:
    words = {word for _, word in asked(program)}
    assert {*PROGRAMS[program]} == {*WRITTEN}
    assert {*asked(program)} == {
        (format, word) for format in WRITTEN for word in RECORDED[format].keys() & words
    }


def diffusers_reads(source: str | dict[str, Tensor], vectors: Tensor, folder: Path) -> bool:
    """Whether its pipelines take a file, or its content, for the word of one of their encoders."""
    from diffusers.loaders import TextualInversionLoaderMixin
    from transformers import CLIPTextConfig, CLIPTextModel

    class Pipeline(TextualInversionLoaderMixin):
        hf_device_map = None
        components: Mapping[str, object] = {}

    tokens = tokenizer(folder, pads_with_end=True)
    width = vectors.shape[1]
    config = CLIPTextConfig(
        hidden_size=width, intermediate_size=8, num_hidden_layers=0, vocab_size=len(tokens)
    )
    encoder = CLIPTextModel(config)
    try:
        Pipeline().load_textual_inversion(
            source, token="my-word", tokenizer=tokens, text_encoder=encoder
        )
    except (ValueError, OSError):
        return False
    names = ["my-word", *(f"my-word_{number}" for number in range(1, len(vectors)))]
    found = encoder.get_input_embeddings().weight[tokens.convert_tokens_to_ids(names)]
    return torch.equal(found, vectors)


@pytest.mark.parametrize(("format", "word"), asked("diffusers"))
def test_diffusers_does_as_recorded(format: str, word: str, tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    vectors, expected = WORDS[word].vectors, outcome("diffusers", format, word)
    target = tmp_path / f"w{WRITTEN[format].suffix}"
    paths = write_embedding(WORDS[word], target, format=WRITTEN[format])
    for path, learned in zip(paths, vectors.values(), strict=expected == READ):
        assert diffusers_reads(str(path), learned, tmp_path / "tokens") == (expected == READ)
    if expected == BY_HAND:
        content, (names,) = load_file(target), RECORDED[format][word]
        for name, key in names.items():
            if key != "t5xxl":  # The encoder here is CLIP.
                part = {"my-word": content[name]}
                assert diffusers_reads(part, vectors[key], tmp_path / "tokens")


# The document


CELLS = {"rr": "all", "hh": "by hand", "pp": "one half", "r-": "one", "-r": "several",
         "xr": "several", "--": "–", "..": "–"}  # fmt: skip
"""What becomes of a word of one vector, and of one of several -> how the tables say it."""


def cell(program: str, format: str, families: Sequence[str]) -> str:
    pairs = {
        outcome(program, format, f"{family}, one") + outcome(program, format, family)
        for family in families
    }
    (pair,) = (pairs - {".."}) or {".."}
    return CELLS[pair]


def table_below(heading: str) -> dict[str, list[str]]:
    text = DOCUMENT.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
    lines = re.findall(r"^\| (.+) \|$", text.partition("\n## ")[0], re.MULTILINE)
    assert lines[0].split(" | ")[1:] == [*WRITTEN]
    return {row[0]: row[1:] for row in (line.split(" | ") for line in lines[2:])}


@pytest.mark.parametrize(
    ("heading", "families"),
    [("Words for SD1 and SD2", ["SD1", "SD2"]), ("Words for SDXL", ["SDXL"])],
)
def test_the_tables_say_what_was_recorded(heading: str, families: list[str]) -> None:
    rows = {
        program: [cell(program, format, families) for format in WRITTEN]
        for program in PROGRAMS
        if any(outcome(program, "safetensors", family) != NOT_ASKED for family in families)
    }
    assert table_below(heading) == rows


def test_other_families_are_told_as_recorded() -> None:
    text = DOCUMENT.read_text(encoding="utf-8").partition("\n## Words for other models\n")[2]
    lines = re.findall(r"^\| (.+) \|$", text.partition("\n## ")[0], re.MULTILINE)
    families = lines[0].split(" | ")[1:]
    expected = {}
    for program in PROGRAMS:
        row = []
        for family in families:
            found = {
                format: outcome(program, format, family)
                for format in ("safetensors", "--onetrainer")
            }
            told = {READ: "", BY_HAND: " by hand", IN_PART: " in part"}
            row.append(
                ", ".join(f"{format}{told[how]}" for format, how in found.items() if how in told)
                or "–"
            )
        if any(one != "–" for one in row):
            expected[program] = row
    assert {row[0]: row[1:] for row in (line.split(" | ") for line in lines[2:])} == expected


# What the savers of other programs write

ONETRAINER_TENSORS = {
    "SD1": {"emp_params": L},
    "SD2": {"emp_params": H},
    "SDXL": {"clip_l": L, "clip_g": G},
    "SD3": {"clip_l": L, "clip_g": G, "t5": T5},
    "Flux": {"clip_l": L, "t5": T5},
    "Chroma": {"t5": T5},
    "HiDream": {"clip_l": L, "clip_g": G, "t5": T5, "llama": LLAMA},
    "HunyuanVideo": {"llama": LLAMA, "clip_l": L},
    "PixArt": {"t5": T5},
    "Sana": {"gemma": rows(3, 2304)},
    "Würstchen": {"clip_g": G},
}
_OURS = {"t5": "t5xxl"}


def expected_vectors(saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    widths = {768: "clip_l", 1024: "clip_h"}
    return {
        widths[rows.shape[1]] if name == "emp_params" else _OURS.get(name, name): rows.float()
        for name, rows in saved.items()
    }


def assert_read(path: Path, expected: Mapping[str, Tensor]) -> None:
    vectors = read_embedding(path).vectors
    assert {*vectors} == {*expected}
    assert all(torch.equal(vectors[key], rows) for key, rows in expected.items())


@pytest.mark.parametrize("kind", ["input", "half precision", "input and output", "output alone"])
@pytest.mark.parametrize("family", ONETRAINER_TENSORS)
def test_what_onetrainers_savers_write(family: str, kind: str, tmp_path: Path) -> None:
    saved = dict(ONETRAINER_TENSORS[family])
    if kind == "half precision":
        saved = {name: rows.half() for name, rows in saved.items()}
    output = {f"{name}_out": rows + 1 for name, rows in saved.items()} if "output" in kind else {}
    inputs = {} if kind == "output alone" else saved
    path = write({**inputs, **output}, tmp_path / "word.safetensors")
    if kind == "output alone":
        with pytest.raises(InputError, match="OneTrainer's “output embedding”"):
            read_embedding(path)
        return
    assert_read(path, expected_vectors(saved))


@pytest.mark.parametrize("family", [f for f in ONETRAINER_TENSORS if f != "SD2"])
def test_what_onetrainer_puts_into_a_lora(family: str, tmp_path: Path) -> None:
    saved = {"clip_l": L} if family == "SD1" else ONETRAINER_TENSORS[family]
    bundle = {f"bundle_emb.<word>.{name}": rows for name, rows in saved.items()}
    path = write({**lora(), **bundle}, tmp_path / "style.safetensors")
    assert_read(path, expected_vectors(saved))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".ckpt"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "saved",
    [{"emb_params": L}, {"emb_params": H}, {"clip_l": L, "clip_g": G}],
    ids=["SD1", "SD2", "SDXL"],
)
def test_what_kohyas_scripts_write(
    saved: Mapping[str, Tensor], dtype: torch.dtype, suffix: str, tmp_path: Path
) -> None:
    converted = {name: rows.to(dtype) for name, rows in saved.items()}
    path = write(converted, tmp_path / f"word{suffix}")
    widths = {768: "clip_l", 1024: "clip_h", 1280: "clip_g"}
    assert_read(path, {widths[rows.shape[1]]: rows.float() for rows in converted.values()})
