"""What our files hold, as `docs/formats.md` tells which programs read them.

Where one of these changes, the document is to be checked again with those programs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.paths import ROOT
from support.wild import T5, G, H, L
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.files.picture_files import read_picture
from textual_inversion.trainer.files.writing import (
    DIFFUSERS_SAFETENSORS,
    FORMATS,
    ONETRAINER,
    Format,
    write_embedding,
)

WRITTEN: Mapping[str, Format] = {
    **FORMATS, "--onetrainer": ONETRAINER, "--diffusers": DIFFUSERS_SAFETENSORS
}  # fmt: skip

WORDS = {
    "SD1, one": Embedding("w", {"clip_l": L[:1]}),
    "SD1": Embedding("w", {"clip_l": L}),
    "SD2": Embedding("w", {"clip_h": H}),
    "SDXL": Embedding("w", {"clip_l": L, "clip_g": G}),
    "Flux": Embedding("w", {"clip_l": L, "t5xxl": T5}),
}

# Format and word -> for each file its tensors and their shapes; None where it cannot be written.
RECORDED = {
    ("safetensors", "SD1, one"): [{"emb_params": (1, 768)}],
    ("safetensors", "SD1"): [{"emb_params": (3, 768)}],
    ("safetensors", "SD2"): [{"emb_params": (3, 1024)}],
    ("safetensors", "SDXL"): [{"clip_g": (3, 1280), "clip_l": (3, 768)}],
    ("safetensors", "Flux"): [{"clip_l": (3, 768), "t5xxl": (3, 4096)}],
    ("a1111", "SD1, one"): [{"string_to_param.*": (1, 768)}],
    ("a1111", "SD1"): [{"string_to_param.*": (3, 768)}],
    ("a1111", "SD2"): [{"string_to_param.*": (3, 1024)}],
    ("a1111", "SDXL"): None,
    ("a1111", "Flux"): None,
    ("diffusers", "SD1, one"): [{"<w>": (768,)}],
    ("diffusers", "SD1"): [{"<w>": (3, 768)}],
    ("diffusers", "SD2"): [{"<w>": (3, 1024)}],
    ("diffusers", "SDXL"): [{"<w>": (3, 768)}, {"<w>": (3, 1280)}],
    ("diffusers", "Flux"): None,
    ("a1111-picture", "SD1, one"): [{"string_to_param.*": (1, 768)}],
    ("a1111-picture", "SD1"): [{"string_to_param.*": (3, 768)}],
    ("a1111-picture", "SD2"): [{"string_to_param.*": (3, 1024)}],
    ("a1111-picture", "SDXL"): None,
    ("a1111-picture", "Flux"): None,
    ("--onetrainer", "SD1, one"): [{"emp_params": (1, 768)}],
    ("--onetrainer", "SD1"): [{"emp_params": (3, 768)}],
    ("--onetrainer", "SD2"): [{"emp_params": (3, 1024)}],
    ("--onetrainer", "SDXL"): [{"clip_g": (3, 1280), "clip_l": (3, 768)}],
    ("--onetrainer", "Flux"): [{"clip_l": (3, 768), "t5": (3, 4096)}],
    ("--diffusers", "SD1, one"): [{"<w>": (768,)}],
    ("--diffusers", "SD1"): [{"<w>": (3, 768)}],
    ("--diffusers", "SD2"): [{"<w>": (3, 1024)}],
    ("--diffusers", "SDXL"): [{"<w>": (3, 768)}, {"<w>": (3, 1280)}],
    ("--diffusers", "Flux"): None,
}


def tensors(path: Path) -> dict[str, tuple[int, ...]]:
    if path.suffix == ".safetensors":
        found = load_file(path)
    elif path.suffix == ".png":
        found = read_picture(path.read_bytes())
    else:
        found = torch.load(path, weights_only=True)
    if "string_to_param" in found:
        found = {f"string_to_param.{key}": rows for key, rows in found["string_to_param"].items()}
    assert {rows.dtype for rows in found.values()} == {torch.float32}
    return {key: tuple(rows.shape) for key, rows in found.items()}


@pytest.mark.parametrize(("format", "word"), RECORDED)
def test_files_hold_what_other_programs_look_for(format: str, word: str, tmp_path) -> None:
    expected, target = RECORDED[format, word], tmp_path / f"w{WRITTEN[format].suffix}"
    if expected is None:
        with pytest.raises(InputError, match="reads one encoder's"):
            write_embedding(WORDS[word], target, format=WRITTEN[format])
        return
    paths = write_embedding(WORDS[word], target, format=WRITTEN[format])
    assert [tensors(path) for path in paths] == expected


def test_the_tables_have_all_formats() -> None:
    assert {*RECORDED} == {(format, word) for format in WRITTEN for word in WORDS}
    document = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    heads = [line for line in document.splitlines() if line.startswith("| Program | safetensors")]
    assert heads == [f"| Program | {' | '.join(WRITTEN)} |"] * 2
