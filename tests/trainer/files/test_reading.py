"""Reading what tools write, and writing what tools read."""

from __future__ import annotations

import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.wild import LAYOUTS, WILD, G, L, a1111, lora, paper, rows, wild, write
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.files.reading import read_embedding, read_notes, read_words

REAL = {
    "EasyNegative.safetensors": {"clip_l": (8, 768)},
    "a1111_image_embedding_gasai-yuno-1000.png": {"clip_l": (8, 768)},
    "bad-hands-5.pt": {"clip_l": (2, 768)},
    "bad_prompt_version2.pt": {"clip_l": (8, 768)},
    "badhandv4.pt": {"clip_l": (6, 768)},
    "cat-toy_learned_embeds.bin": {"clip_l": (1, 768)},
    "gasai-yuno-1000.pt": {"clip_l": (8, 768)},
    "gta5-artwork_learned_embeds.bin": {"clip_l": (1, 768)},
    "legacy_unsafe_pickle/anya.pt": {"clip_l": (1, 768)},
    "neg_Colorizer768-neutral.pt": {"clip_h": (43, 1024)},
    "ttekcor_learned_embeds.safetensors": {"clip_l": (1, 768)},
    "unaestheticXLv31.safetensors": {"clip_l": (8, 768), "clip_g": (8, 1280)},
}


def shapes(embedding: Embedding) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in embedding.vectors.items()}


def assert_vectors(embedding: Embedding, expected: dict[str, torch.Tensor]) -> None:
    assert set(embedding.vectors) == set(expected)
    for key, tensor in expected.items():
        assert torch.equal(embedding.vectors[key], tensor), key


# Files of the community


@pytest.mark.parametrize("name", REAL)
def test_real_files(name: str) -> None:
    embedding = read_embedding(wild(name))
    assert shapes(embedding) == REAL[name]
    assert embedding.name == Path(name).stem


def test_no_real_file_is_untested() -> None:
    if not WILD.is_dir():
        pytest.skip("no community files beside the repository")
    found = {str(p.relative_to(WILD)) for p in WILD.rglob("*") if p.is_file()}
    assert found == {*REAL, "reneg_sd1.5.bin", "cloneofsimo_lora_disney.safetensors"}


@pytest.mark.parametrize("name", [n for n in REAL if n.endswith((".pt", ".bin")) and "/" not in n])
def test_our_unpickling_agrees_with_torch(name: str) -> None:
    data = torch.load(wild(name), weights_only=True, map_location="cpu")
    tensor = next(iter(data.get("string_to_param", data).values()))
    (read,) = read_embedding(wild(name)).vectors.values()
    assert torch.equal(read, tensor.reshape(read.shape))


def test_real_file_of_the_paper() -> None:
    path = wild("legacy_unsafe_pickle/anya.pt")
    with zipfile.ZipFile(path) as archive:
        stored = torch.frombuffer(bytearray(archive.read("archive/data/1")), dtype=torch.float32)
    assert_vectors(read_embedding(path), {"clip_l": stored[None]})


def test_notes_of_a1111_become_metadata() -> None:
    assert read_embedding(wild("bad-hands-5.pt")).metadata == {
        "name": "bad-hands-5",
        "step": "1364",
        "sd_checkpoint": "7ab762a7",
        "sd_checkpoint_name": "blossom-extract",
    }
    assert read_embedding(wild("neg_Colorizer768-neutral.pt")).metadata == {
        "name": "neg_Colorizer768-Neutral2"
    }


def test_metadata_of_safetensors_is_kept() -> None:
    metadata = read_embedding(wild("unaestheticXLv31.safetensors")).metadata
    assert metadata["modelspec.architecture"] == "stable-diffusion-xl-v1-base/textual-inversion"


def test_words_inside_a_real_lora() -> None:
    path = wild("cloneofsimo_lora_disney.safetensors")
    assert sorted(read_words(path)) == ["s1", "s2"]
    with pytest.raises(InputError, match=r"holds 2 words: choose one of “s1”, “s2”"):
        read_embedding(path)
    first, second = read_embedding(path, "<s1>"), read_embedding(path, "s2")
    assert (first.name, second.name) == ("s1", "s2")
    assert shapes(first) == {"clip_l": (1, 768)}
    assert not torch.equal(first.vectors["clip_l"], second.vectors["clip_l"])


# What tools write


@pytest.mark.parametrize("tool", LAYOUTS)
def test_layouts(tool: str, tmp_path: Path) -> None:
    suffix, content, expected = LAYOUTS[tool]
    path = write(content, tmp_path / f"word{suffix}")
    assert_vectors(read_embedding(path), expected)
    assert read_embedding(path).name == "word"
    assert read_embedding(path, "other").name == "other"


@pytest.mark.parametrize("tool", [t for t, (suffix, *_) in LAYOUTS.items() if suffix == ".pt"])
@pytest.mark.parametrize(
    "options",
    [
        {"_use_new_zipfile_serialization": False},
        {"pickle_protocol": 4},
        {"pickle_protocol": 4, "_use_new_zipfile_serialization": False},
    ],
    ids=["before 1.6", "protocol 4", "before 1.6, protocol 4"],
)
def test_other_pickles(tool: str, options: dict[str, Any], tmp_path: Path) -> None:
    _, content, expected = LAYOUTS[tool]
    if tool == "paper" and "pickle_protocol" in options:
        pytest.skip("no tool saved a module in that protocol")
    torch.save(content, tmp_path / "word.pt", **options)
    assert_vectors(read_embedding(tmp_path / "word.pt"), expected)


def numbers_of_eight_bits() -> torch.Tensor:
    return L.to(torch.float8_e4m3fn)


HARMLESS: dict[str, Callable[[], tuple[object, torch.Tensor]]] = {
    "the state of a module": lambda: (with_emb().state_dict(), L),
    "expanded": lambda: ({"<a>": L[:1].expand(2, -1)}, L[:1].repeat(2, 1)),
    "torch.Size": lambda: (a1111(L) | {"shape": L.shape}, L),
    "torch.dtype": lambda: (a1111(L) | {"dtype": torch.float16}, L),
    "numbers of NumPy": lambda: (
        a1111(L) | {"step": np.int64(5), "loss": np.float32(0.5), "on": np.bool_(True)},
        L,
    ),
    "defaultdict": lambda: (defaultdict(dict, {"<a>": L}), L),
    "OrderedDict": lambda: (OrderedDict({"<a>": L}), L),
    "sets": lambda: (a1111(L) | {"tags": {"a", "b"}, "kinds": frozenset("c")}, L),
    "float8": lambda: ({"<a>": numbers_of_eight_bits()}, numbers_of_eight_bits().float()),
}
"""What is no embedding's own, but does no harm: content, and the vectors that it holds."""


def with_emb() -> torch.nn.Module:
    module = torch.nn.Module()
    module.emb = torch.nn.Parameter(L.clone())
    return module


@pytest.mark.parametrize("kind", HARMLESS)
@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_harmless_contents_are_read(kind: str, protocol: int, tmp_path: Path) -> None:
    content, expected = HARMLESS[kind]()
    path = tmp_path / "word.pt"
    torch.save(content, path, pickle_protocol=protocol)
    (vectors,) = read_embedding(path).vectors.values()
    assert torch.equal(vectors, expected)


def test_numbers_of_numpy_become_notes(tmp_path: Path) -> None:
    path = tmp_path / "word.pt"
    torch.save(a1111(L) | {"step": np.int64(5)}, path)
    assert read_embedding(path).metadata["step"] == "5"


def test_strided_and_shared_tensors(tmp_path: Path) -> None:
    both = rows(6, 768)
    path = write([both[::2], both.T[:, :1].T.contiguous()], tmp_path / "word.pt")
    assert_vectors(read_embedding(path), {"clip_l": torch.cat([both[::2], both[:1]])})


def test_layers_of_xti_are_named_as_what_they_are(tmp_path: Path) -> None:
    layers = [*(f"IN{i:02}" for i in (1, 2, 4, 5, 7, 8)), "MID"]
    layers += [f"OUT{i:02}" for i in range(3, 12)]
    for suffix in (".safetensors", ".pt"):
        path = write({layer: L.clone() for layer in layers}, tmp_path / f"xti{suffix}")
        with pytest.raises(InputError, match="is an XTI embedding of kohya's scripts: 16 words"):
            read_embedding(path)


def test_a_renamed_picture_has_the_name_inside(tmp_path: Path) -> None:
    """As A1111 does it; unless no prompt could carry that name."""
    picture = write(a1111(L, name="my-word"), tmp_path / "00017 (copy).png")
    assert read_embedding(picture).name == "my-word"
    assert read_embedding(picture, "other").name == "other"
    unusable = write(a1111(L, name="my/word"), tmp_path / "plain.png")
    assert read_embedding(unusable).name == "plain"


def test_metadata_of_other_tools(tmp_path: Path) -> None:
    notes = {"name": '"my word"', "step": "500", "string_to_token": '{"*": 265}'}
    path = write({"emb_params": L}, tmp_path / "word.safetensors", notes)
    assert read_embedding(path).metadata == notes


def test_words_of_the_paper(tmp_path: Path) -> None:
    path = write(paper({"*": L, "@": L + 1}), tmp_path / "word.pt")
    with pytest.raises(InputError, match="holds 2 words: choose one of “\\*”, “@” by name"):
        read_embedding(path)
    assert_vectors(read_embedding(path, "@"), {"clip_l": L + 1})


def test_two_bundles_in_a_lora(tmp_path: Path) -> None:
    bundle = {"bundle_emb.a.clip_l": L, "bundle_emb.b.clip_l": L + 1}
    path = write(lora() | bundle, tmp_path / "style.safetensors")
    assert read_words(path) == ["a", "b"]
    assert_vectors(read_embedding(path, "b"), {"clip_l": L + 1})
    with pytest.raises(InputError, match="holds 2 words"):
        read_embedding(path, "c")


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize("read", ["learned_embeds", "learned_embeds_2"])
def test_pair_of_diffusers(suffix: str, read: str, tmp_path: Path) -> None:
    write({"<cat>": L}, tmp_path / f"learned_embeds{suffix}")
    write({"<cat>": G}, tmp_path / f"learned_embeds_2{suffix}")
    embedding = read_embedding(tmp_path / f"{read}{suffix}")
    assert_vectors(embedding, {"clip_l": L, "clip_g": G})
    assert embedding.name == "cat"


def test_pair_has_the_name_of_its_first_file(tmp_path: Path) -> None:
    write({"<cat>": L}, tmp_path / "my-cat.bin")
    write({"<cat>": G}, tmp_path / "my-cat_2.bin")
    assert {read_embedding(path).name for path in tmp_path.iterdir()} == {"my-cat"}


@pytest.mark.parametrize("read", ["learned_embeds-steps-500", "learned_embeds_2-steps-500"])
def test_pair_of_diffusers_on_the_way(read: str, tmp_path: Path) -> None:
    for steps in (500, 1000):
        write({"<cat>": L + steps}, tmp_path / f"learned_embeds-steps-{steps}.safetensors")
        write({"<cat>": G + steps}, tmp_path / f"learned_embeds_2-steps-{steps}.safetensors")
    embedding = read_embedding(tmp_path / f"{read}.safetensors")
    assert_vectors(embedding, {"clip_l": L + 500, "clip_g": G + 500})
    assert embedding.name == "cat"


def test_damaged_half_is_not_passed_over(tmp_path: Path) -> None:
    write({"<cat>": L}, tmp_path / "learned_embeds.bin")
    (tmp_path / "learned_embeds_2.bin").write_bytes(b"half a file")
    with pytest.raises(InputError, match=r"^“learned_embeds_2.bin” is damaged"):
        read_embedding(tmp_path / "learned_embeds.bin")


def test_neighbours_that_are_no_pair(tmp_path: Path) -> None:
    write({"<cat>": L}, tmp_path / "word.bin")
    other = write({"<dog>": G}, tmp_path / "word_2.bin")
    assert_vectors(read_embedding(tmp_path / "word.bin"), {"clip_l": L})
    write({"<cat>": L}, other)
    assert_vectors(read_embedding(tmp_path / "word.bin"), {"clip_l": L})
    write(a1111(G), other)
    assert_vectors(read_embedding(tmp_path / "word.bin"), {"clip_l": L})


def test_zeros_of_one_encoder_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write({"clip_l": L, "clip_g": G * 0}, tmp_path / "word.safetensors")
    assert_vectors(read_embedding(path), {"clip_l": L})
    assert "clip_g are all zero" in caplog.text


def test_norms_are_left_alone(tmp_path: Path) -> None:
    path = write({"emb_params": L * 1000}, tmp_path / "word.safetensors")
    assert_vectors(read_embedding(path), {"clip_l": L * 1000})


def test_name_without_its_suffix_case(tmp_path: Path) -> None:
    write({"emb_params": L}, tmp_path / "word.safetensors")
    (tmp_path / "word.safetensors").rename(tmp_path / "My word.SAFETENSORS")
    assert read_embedding(tmp_path / "My word.SAFETENSORS").name == "My word"


def test_notes_alone(tmp_path: Path) -> None:
    """From the header of a file; whatever is wrong with it is no concern of a list of files."""
    noted = tmp_path / "word.safetensors"
    save_file({"emb_params": L}, noted, {"modelspec.title": "word"})
    assert read_notes(noted) == {"modelspec.title": "word"}
    content = noted.read_bytes()
    for damaged in (
        b"",
        content[:20],
        b"\xff" * 8,
        b"\x04" + b"\0" * 7 + b"[[1]",
        b"\5" + b"\0" * 7,
    ):
        (tmp_path / "bad.safetensors").write_bytes(damaged)
        assert read_notes(tmp_path / "bad.safetensors") == {}
    assert read_notes(tmp_path / "absent.safetensors") == {}
    assert read_notes(write(a1111(L), tmp_path / "word.pt")) == {}
