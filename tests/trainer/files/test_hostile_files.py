"""Files that are something else, damaged, or made to harm: refused in one sentence, at no cost."""

from __future__ import annotations

import os
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.paths import ROOT
from support.wild import H, L, a1111, lora, rows, wild, write
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.files.reading import read_embedding
from tools import fuzz_files

STRANGERS: dict[str, tuple[str, object, str]] = {
    "a LoRA": (".safetensors", lora(), "is a LoRA, not an embedding"),
    "a LoRA of one tensor": (
        ".safetensors",
        {"lora_unet_mid.lora_down.weight": rows(4, 768)},
        "is a LoRA, not an embedding",
    ),
    "a LoRA as .pt": (".pt", lora(), "is a LoRA, not an embedding"),
    "only an output of a bundle": (
        ".safetensors",
        lora() | {"bundle_emb.a.clip_l_out": L},
        "is a LoRA",
    ),
    "encoder output": (".bin", torch.ones(1, 77, 768), "holds the output of a text encoder"),
    "encoder output, named": (
        ".safetensors",
        {"emb_params": torch.ones(1, 77, 768)},
        "holds the output of a text encoder",
    ),
    "output embedding": (
        ".safetensors",
        {"emp_params": L * 0, "emp_params_out": L},
        "replace the output of a text encoder",
    ),
    "output embedding alone": (
        ".safetensors",
        {"t5_out": rows(2, 4096)},
        "replace the output of a text encoder",
    ),
    "a checkpoint": (
        ".safetensors",
        {"model.diffusion_model.x.weight": rows(2, 768), "first_stage_model.y": L},
        "is a model, not an embedding",
    ),
    "many tensors": (".safetensors", {f"a{i}": L for i in range(200)}, "is a model"),
    "a checkpoint as .pt": (".pt", {"state_dict": {"x": L}, "epoch": 3}, "is a model"),
    "optimizer state": (
        ".pt",
        {"hash": "abc", "optimizer_state_dict": {"state": {}}},
        "is the state of an optimizer",
    ),
    "not a number": (".safetensors", {"emb_params": L / 0}, "not numbers"),
    "not a number, diffusers": (".bin", {"<cat>": L * float("nan")}, "not numbers"),
    "infinite once it is float32": (".pt", a1111(L.double() * 1e300), "not numbers"),
    "zeros": (".pt", a1111(L * 0), "nothing but zeros"),
    "zeros of two encoders": (
        ".safetensors",
        {"clip_l": L * 0, "clip_g": rows(2, 1280) * 0},
        "nothing but zeros",
    ),
    "two tensors for one encoder": (
        ".safetensors",
        {"clip_l": L, "clip_g": L},
        "two tensors for clip_l",
    ),
    "no tensors": (".safetensors", {}, "holds nothing that reads as an embedding"),
    "no tensors, A1111": (".pt", a1111(L, string_to_param={}), "holds nothing that reads"),
    "whole numbers": (".pt", {"emb_params": torch.ones(2, 768).long()}, "holds nothing that reads"),
    "a matrix": (".safetensors", {"weight": rows(5, 5)}, "holds nothing that reads"),
    "text": (".pt", "hello", "holds nothing that reads"),
    "an empty list": (".pt", [], "holds nothing that reads"),
    "too many vectors": (".safetensors", {"emb_params": rows(6000, 768)}, "too many vectors"),
    "a tall table": (".safetensors", {"emb_params": torch.ones(40_000, 1)}, "too many vectors"),
}


def refusal(path: Path) -> str:
    """The one sentence, after the name of the file."""
    with pytest.raises(InputError) as error:
        read_embedding(path)
    start, _, sentence = str(error.value).partition("” ")
    assert start == f"“{path.name}"
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert len(sentence) < 300
    return sentence


@pytest.mark.parametrize("kind", STRANGERS)
def test_strangers(kind: str, tmp_path: Path) -> None:
    suffix, content, expected = STRANGERS[kind]
    assert expected in refusal(write(content, tmp_path / f"stranger{suffix}"))


@pytest.mark.parametrize(
    "key",
    [
        "lora_unet_mid_block.lora_down.weight",
        "lora_te1_text_model.alpha",
        "unet.down_blocks.0.to_q.lora_A.weight",
        "text_encoder.layers.0.q_proj.lora_linear_layer.up.weight",
        "unet.processor.to_q_lora.down.weight",
        "transformer.blocks.0.lora_B.default.weight",
        "diffusion_model.blocks.0.lokr_w1",
        "lycoris_unet_mid.hada_w1_a",
        "unet:0:down",
    ],
)
def test_keys_of_loras(key: str, tmp_path: Path) -> None:
    assert "is a LoRA" in refusal(write({key: L}, tmp_path / "word.safetensors"))


@pytest.mark.parametrize("token", ["<flora>", "explorer", "lora_girl", "<lora_>", "llama", "t5"])
def test_words_that_sound_like_models(token: str, tmp_path: Path) -> None:
    path = write({token: L}, tmp_path / "word.safetensors")
    (vectors,) = read_embedding(path).vectors.values()
    assert torch.equal(vectors, L)


def test_real_encoder_output() -> None:
    assert "holds the output of a text encoder" in refusal(wild("reneg_sd1.5.bin"))


def test_paths(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "absent.pt")
    assert "is a folder" in refusal(tmp_path)
    for name, expected in {
        "model.gguf": "is a model",
        "word.pt.optim": "is the state of an optimizer",
        "word.txt": "is not an embedding file: choose one of .bin, .ckpt, .png, .pt",
        "word.jxl": "JPEG XL",
    }.items():
        (tmp_path / name).write_bytes(b"x")
        assert expected in refusal(tmp_path / name)
    with (tmp_path / "model.ckpt").open("wb") as model:
        model.truncate(20 * 1024 * 1024)
    assert "it may be a model" in refusal(tmp_path / "model.ckpt")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.pt")
        assert "does not exist" in refusal(tmp_path / "pipe.pt")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads anything")
def test_forbidden_file(tmp_path: Path) -> None:
    path = write(a1111(L), tmp_path / "word.pt")
    path.chmod(0)
    assert "cannot be read: Permission denied" in refusal(path)


WHOLE: dict[str, Callable[[Path], Path]] = {
    ".safetensors": lambda p: write({"emb_params": L}, p),
    ".pt": lambda p: write(a1111(H), p),
    ".bin": lambda p: write({"<cat>": L}, p),
    ".png": lambda p: write(a1111(L), p),
}


@pytest.mark.parametrize("suffix", WHOLE)
@pytest.mark.parametrize("kept", [0, 1, 7, 8, 9, 100, 0.3, 0.9, -1])
def test_truncated_files(suffix: str, kept: float, tmp_path: Path) -> None:
    path = WHOLE[suffix](tmp_path / f"word{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if 0 < kept < 1 else int(kept)])
    if suffix == ".png" and kept == -1:
        read_embedding(path)  # The last byte is a checksum that nobody needs.
    else:
        refusal(path)


@pytest.mark.parametrize("suffix", WHOLE)
@pytest.mark.parametrize("content", [b"\0" * 100, b"\xff" * 100, b"hello", b"PK\x03\x04", b"{}"])
def test_files_of_another_kind(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"word{suffix}"
    path.write_bytes(content)
    refusal(path)


# Code


class Harm:
    """Pickled, it is a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("where", ["word", "param", "list", "key", "metadata"])
def test_code_in_pickles_is_not_run(where: str, legacy: bool, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    harm: Any = Harm(os.mkdir, str(trace))
    content: object = {
        "word": harm,
        "param": a1111(L, string_to_param={"*": harm}),
        "list": [L, harm],
        "key": {harm: L},
        "metadata": a1111(L, name=harm),
    }[where]
    path = tmp_path / "word.pt"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    sentence = refusal(path)
    assert "holds more than data (it asks for posix.mkdir)" in sentence or os.name == "nt"
    assert not trace.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles(protocol: int, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    path = tmp_path / "word.pt"
    path.write_bytes(pickle.dumps(Harm(os.mkdir, str(trace)), protocol))
    assert "holds more than data" in refusal(path)
    assert not trace.exists()


def zipped(program: bytes, path: Path, storage: bytes = b"", compression: int = 0) -> Path:
    """A file as `torch.save` writes it, with any pickle."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/data/0", storage)
        archive.writestr("archive/version", b"3\n")
    return path


TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
STORAGE = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x08tQ"
FORGED = {
    "call of a known function with the wrong arguments": b"\x80\x02" + TENSOR + b")R.",
    "call of what is no function": b"\x80\x02U\x01a)R.",
    "call of a type": b"\x80\x02ctorch\nFloatStorage\n)R.",
    "dotted name": b"\x80\x04\x8c\x05torch\x8c\x10_utils.os.system\x93.",
    "eval": b"\x80\x02cbuiltins\neval\nU\x011\x85R.",
    "getattr": b"\x80\x02cbuiltins\ngetattr\n.",
    "extension": b"\x80\x02\x82\x01.",
    "instance": b"(ios\nsystem\n.",
    "state of a list": b"\x80\x02]}b.",
    "long integer": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "large memo": b"\x80\x02]r\xff\xff\xff\xff.",
    "large text": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "large frame": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "no end": b"\x80\x02}",
    "nothing": b"\x80\x02.",
    "a mark": b"\x80\x02(.",
    "too many marks": b"\x80\x02" + b"(" * 1000 + b"t.",
    "unhashable key": b"\x80\x02}]K\x01s.",
    "recursive list": b"\x80\x02]q\x00h\x00a.",
    "elements outside": b"\x80\x02" + TENSOR + b"(" + STORAGE + b"K\x00K\x10\x85K\x01\x85tR.",
    "offset outside": b"\x80\x02" + TENSOR + b"(" + STORAGE + b"K\x09K\x01\x85K\x01\x85tR.",
    "negative stride": b"\x80\x02"
    + TENSOR
    + b"("
    + STORAGE
    + b"K\x07K\x08\x85J\xff\xff\xff\xff\x85tR.",
    "one number as a billion": b"\x80\x02"
    + TENSOR
    + b"("
    + STORAGE
    + b"K\x00(J\x00\xca\x9a\x3bM\x00\x03tK\x00K\x00\x86tR.",
    "bytes as numbers of an object": b"\x80\x02cnumpy\ndtype\nU\x01O\x85R.",
    "a number of too many bytes": b"\x80\x02cnumpy.core.multiarray\nscalar\n"
    b"cnumpy\ndtype\nU\x02i8\x85Rc_codecs\nencode\nU\x03abc\x85R\x86R.",
    "text in another encoding": b"\x80\x02c_codecs\nencode\nU\x01aU\x03zip\x86R.",
    "items that are no pairs": b"\x80\x02ccollections\nOrderedDict\n](K\x01K\x02e\x85R.",
    "missing storage": b"\x80\x02"
    + TENSOR
    + b"("
    + STORAGE.replace(b"U\x010", b"U\x019")
    + b"K\x00t",
    "storage outside": b"\x80\x02" + STORAGE.replace(b"U\x010", b"U\x0a../version") + b".",
}


@pytest.mark.parametrize("kind", FORGED)
def test_forged_pickles(kind: str, tmp_path: Path) -> None:
    refusal(zipped(FORGED[kind], tmp_path / "word.pt", bytes(32)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("torch.nn.modules.linear\nLinear", "is a whole model, saved with its code (it asks for "),
        ("__main__\nNet", "holds more than data (it asks for __main__.Net)"),
        ("os\nsystem", "holds more than data (it asks for os.system)"),
    ],
)
@pytest.mark.parametrize("how", [b"c%s\n)R.", b"(i%s\n."])
def test_what_is_refused_for_code_is_named(
    how: bytes, name: str, expected: str, tmp_path: Path
) -> None:
    path = zipped(b"\x80\x02" + how % name.encode(), tmp_path / "word.pt")
    assert expected in refusal(path)


def test_nested_tuples_as_key_do_not_hang(tmp_path: Path) -> None:
    """Hashing this would take 2**60 steps."""
    nested = b")" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(60))
    refusal(zipped(b"\x80\x02}" + nested + b"K\x01s.", tmp_path / "word.pt"))


def test_forged_file_of_old_pytorch(tmp_path: Path) -> None:
    path = tmp_path / "word.pt"
    torch.save(a1111(L), path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    at = len(content) - L.numel() * 4 - 8
    assert content[at : at + 8] == struct.pack("<q", L.numel())
    for count in (-1, 0, 1, L.numel() + 1, 2**61, 2**63 - 1):
        path.write_bytes(content[:at] + struct.pack("<q", count) + content[at + 8 :])
        refusal(path)


def test_what_may_be_called_is_short_and_ours() -> None:
    from textual_inversion.trainer.files import plain_builders

    plain = {"set", "frozenset", "dict", "list", "tuple", "int", "float", "str"}
    assert set(plain_builders.BUILDERS) == {
        "collections OrderedDict",
        "collections defaultdict",
        "torch._utils _rebuild_tensor_v2",
        "torch._utils _rebuild_tensor_v3",
        "torch._utils _rebuild_parameter",
        "torch.nn.modules.container ParameterDict",
        "torch Size",
        "numpy dtype",
        "numpy.core.multiarray scalar",
        "numpy._core.multiarray scalar",
        "_codecs encode",
        *(f"{module} {name}" for module in ("__builtin__", "builtins") for name in plain),
    }
    for function in plain_builders.BUILDERS.values():
        assert function.__module__ == plain_builders.__name__
    source = "".join(p.read_text() for p in (ROOT / "trainer").rglob("*.py"))
    assert "pickle.load" not in source
    assert "torch.load(" not in source.replace("`torch.load(weights_only=True)`", "")


# Chance


@pytest.mark.filterwarnings("ignore:invalid escape sequence")  # What a pickle says is its own.
def test_damaged_files(tmp_path: Path) -> None:
    """`cd tests && python -m tools.fuzz_files` does the same for hours."""
    report = fuzz_files.run(2500, 7, tmp_path)
    assert not report.failures, report.failures[0]
    assert report.slowest < 5
    assert report.peak_growth <= 4 * report.largest + fuzz_files.MEMORY
    assert report.outcomes["read"] > 50
    assert len(report.outcomes) > 5


def test_damage_is_repeatable() -> None:
    import random

    content = bytes(range(256)) * 4
    first = [fuzz_files.damage(content, random.Random(seed)) for seed in range(50)]
    assert first == [fuzz_files.damage(content, random.Random(seed)) for seed in range(50)]
    program = pickle.dumps({"a": 1}, 2)
    forged = [fuzz_files.forge_pickle(program, random.Random(seed)) for seed in range(50)]
    assert len(set(forged)) > 20
    assert [*pickletools.genops(program)]
