"""How a step is fitted into memory, and what one takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from support.counted import (
    FULL_SIZE,
    GB,
    LARGE,
    LiveBytes,
    chosen_on_cards,
    half_precision,
    network,
    step_bytes,
    text_encoders,
)
from support.families import build, text_encoder
from support.loaded import executing
from support.paths import ROOT
from support.short_runs import learn
from support.small_families import FAMILIES
from torch.utils._python_dispatch import TorchDispatchMode


@pytest.mark.parametrize(
    ("room", "batch_size", "wanted", "copies", "at_once", "checkpointing", "wide"),
    [
        (None, 4, False, 0, 4, False, False),  # no GPU: as the settings say
        (None, 4, True, 0, 4, True, False),
        (5 * GB, 4, False, 0, 4, False, True),  # all of it fits
        (9 * GB // 2, 4, False, 0, 4, False, False),  # all but the text encoders' copies
        (2 * GB, 4, False, 0, 2, False, False),  # half of it at once
        (2 * GB, 4, True, 0, 4, True, False),
        (GB // 2, 4, False, 0, 2, True, False),  # nothing fits plainly
        (5 * GB, 1, False, 9 * GB // 2, 1, True, False),  # copies of weights leave no room
        (5 * GB, 4, False, 3 * GB, 2, False, False),
    ],
)
def test_plan(
    host_modules: ModuleType,
    room: int | None,
    batch_size: int,
    wanted: bool,
    copies: int,
    at_once: int,
    checkpointing: bool,
    wide: bool,
) -> None:
    """Of a network that takes a gigabyte for each picture, and text encoders for their copies."""
    from textual_inversion.trainer.memory import PLAIN, Weights, plan

    capacity = None if room is None else room + 6 * GB
    network, text = Weights(stored=4 * GB, copies=copies), Weights(stored=2 * GB, copies=GB)
    found = plan(GB // PLAIN, capacity, batch_size, wanted, network, text)
    assert not found.just_in_time
    assert (found.at_once, found.checkpointing, found.wide_text) == (at_once, checkpointing, wide)
    assert room is None or not wide or found.needed <= room
    assert found.needed > 0


@pytest.mark.parametrize(
    ("capacity", "unpacked", "comes", "at_once", "staying"),
    [
        (16 * GB, 0, False, 4, 0),
        (8 * GB, 0, True, 4, 8 * GB - 3 * GB - 20 * GB // 32),  # some stay
        (3 * GB + 3 * GB // 8, 0, True, 2, 0),  # nearly all come, and half of the batch at once
        (1, 0, True, 1, 0),  # too little: the host says so
        (None, 6 * GB, True, 4, 0),  # on a CPU nothing is there twice
        (24 * GB, 6 * GB, False, 4, 0),
        (12 * GB, 6 * GB, True, 4, 12 * GB - 3 * GB - 20 * GB // 32),
    ],
)
def test_what_does_not_fit_comes_just_in_time(
    host_modules: ModuleType,
    capacity: int | None,
    unpacked: int,
    comes: bool,
    at_once: int,
    staying: int,
) -> None:
    """Of ten blocks of one gigabyte, and one gigabyte outside of them."""
    from textual_inversion.trainer.memory import PLAIN, Weights, plan, told

    network = Weights(11 * GB - unpacked // 2, unpacked, unpacked, GB, [GB] * 10)
    found = plan(GB // PLAIN, capacity, 4, False, network, Weights())
    assert found.just_in_time == comes
    assert found.at_once == at_once
    assert abs(found.staying - staying) < GB // 8
    line = told(found, capacity, network, Weights())
    assert line.startswith("Memory: ")
    assert ("block by block" in line) == comes


@pytest.mark.parametrize("name", FULL_SIZE)
def test_a_step_takes_what_is_reckoned(
    host_modules: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One picture through a network of full size in half precision, as on a GPU."""
    import comfy.model_management
    from textual_inversion.trainer.memory import Weights, plan

    monkeypatch.setattr(comfy.model_management, "pytorch_attention_flash_attention", lambda: True)
    full = FULL_SIZE[name]
    base = network(full, torch.float16)
    sampling = int(base.memory_required([1, *full.latents]))
    for checkpointing in (False, True):
        needed = plan(sampling, None, 1, checkpointing, Weights(), Weights()).needed
        found = step_bytes(base, full, torch.float16, checkpointing=checkpointing)
        assert 0.25 * needed < found <= needed


@pytest.mark.parametrize(
    ("name", "most"),
    [("sd1-512", 3), ("sdxl-1024", 4), *((name, 8) for name in (
        "sd3.5-medium-1024", "flux-1024", "chroma-1024", "z-image-1024", "qwen-image-1024"))],
)  # fmt: skip
def test_what_is_there_at_once_when_all_blocks_come_just_in_time(
    host_modules: ModuleType, name: str, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gigabytes of weights and inner values of one picture; what is reckoned with is enough."""
    import comfy.model_management
    from textual_inversion.nodes.host.memory import weights_of
    from textual_inversion.trainer.memory import Weights, plan

    monkeypatch.setattr(comfy.model_management, "pytorch_attention_flash_attention", lambda: True)
    full = {**FULL_SIZE, **LARGE}[name]
    dtype = half_precision(full)
    base = network(full, dtype)
    sampling = int(base.memory_required([1, *full.latents]))
    weights, text = weights_of(base, dtype), weights_of(text_encoders(full), torch.float32)
    needed = plan(sampling, 1, 1, False, weights, Weights()).needed
    assert 1.2 * step_bytes(base, full, dtype, just_in_time=True) < needed
    assert plan(sampling, 1, 1, False, weights, text).needed <= most * GB
    # What the docs say; python benchmarks/memory_table.py writes it.
    assert chosen_on_cards(name, base) in (ROOT / "docs" / "hardware.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "card", "checkpointing"), [("sd1-512", 6 * GB, False), ("sdxl-1024", 12 * GB, True)]
)
def test_common_cards(
    host_modules: ModuleType,
    name: str,
    card: int,
    checkpointing: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One picture at a time fits, for SDXL with checkpointing."""
    import comfy.model_management
    from textual_inversion.nodes.host.memory import weights_of
    from textual_inversion.trainer.memory import Weights, plan

    monkeypatch.setattr(comfy.model_management, "pytorch_attention_flash_attention", lambda: True)
    full = FULL_SIZE[name]
    base = network(full, torch.float16)
    weights = 2 * sum(p.numel() for p in base.diffusion_model.parameters())
    stored = Weights(weights + weights_of(text_encoders(full), torch.float32).stored)
    # A GPU never has all of its memory for us.
    room = int(0.93 * card) - stored.stored
    sampling = int(base.memory_required([1, *full.latents]))
    found = plan(sampling, int(0.93 * card), 1, False, stored, Weights())
    assert not found.just_in_time
    assert found.checkpointing == checkpointing
    assert found.needed < room


def test_text_encoders_in_half_precision_keep_no_copies(
    host_modules: ModuleType, tmp_path: Path
) -> None:
    """They compute in float32, and autograd would keep all their weights in it."""
    from textual_inversion.nodes.host.memory import copies
    from textual_inversion.nodes.host.model import HostModel
    from textual_inversion.trainer.learning.initial import initial_vectors

    with torch.inference_mode():
        half = text_encoder(FAMILIES["sd1"], tmp_path, dtype=torch.float16)
    loaded = replace(build("sd1", tmp_path, tmp_path), clip=half)
    with executing(), HostModel(loaded.model, half, loaded.vae, resolution=64) as model:
        rows = initial_vectors(model.text_encoders, "toy", 1)
        rows = {key: row.requires_grad_() for key, row in rows.items()}
        tokens = [model.tokenize("a photo of a [name]", 1)]
        encoder = half.cond_stage_model
        with torch.no_grad():
            model.encode_prompts(tokens, rows)  # the host's weights are taken over here
        with LiveBytes(encoder) as live:
            (encoded,) = model.encode_prompts(tokens, rows)
        blocks = encoder.clip_l.transformer.text_model.encoder.layers
        assert live.now < copies(blocks, torch.float32)
        encoded["cond"].sum().backward()
    assert rows["clip_l"].grad.abs().max() > 0


def test_a_file_in_float32_is_brought_in_as_half_precision(
    host_modules: ModuleType, tmp_path: Path
) -> None:
    """With dynamic VRAM, each layer knows in what its weights come; nothing is copied then."""
    from textual_inversion.nodes.host.memory import copies

    network = build("sd1", tmp_path, tmp_path).model.model.diffusion_model
    everything = copies(network, torch.float16)
    assert everything == 2 * sum(p.numel() for p in network.parameters())
    for part in network.modules():
        for name, _ in part.named_parameters(recurse=False):
            setattr(part, f"{name}_comfy_model_dtype", torch.float16)
    assert copies(network, torch.float16) == 0


def test_what_is_reserved_for_dynamic_vram_is_not_taken_for_a_step(
    host_modules: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the host reckons with a gigabyte more for each picture that it samples."""
    from textual_inversion.nodes.host import model as adapter
    from textual_inversion.trainer import memory as budget

    loaded = build("sd1", tmp_path, tmp_path)
    sampling = loaded.model.memory_required([1, 4, 64, 64])
    monkeypatch.setattr(loaded.model, "memory_required", lambda _: 1.3 * sampling + GB)
    weights = sum(p.nbytes for m in loaded.modules()[:2] for p in m.parameters())
    room = 4 * budget.PLAIN * int(sampling) + weights
    monkeypatch.setattr(adapter, "capacity", lambda *_: room)
    with adapter.HostModel(loaded.model, loaded.clip, loaded.vae, batch_size=4) as model:
        assert model.pictures_at_once == 4


def test_with_room_text_encoders_are_cast_once(
    host_modules: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same is learned, to the bit, by fewer operations; weights are as before afterwards."""
    from textual_inversion.nodes.host import model as adapter

    with torch.inference_mode():
        half = text_encoder(FAMILIES["sd1"], tmp_path, dtype=torch.float16)
    loaded = replace(build("sd1", tmp_path, tmp_path), clip=half)
    before = loaded.weights_hash()
    found, casts = [], []
    for size in (None, 1 << 50):
        monkeypatch.setattr(adapter, "capacity", lambda *_, size=size: size)
        with Casts() as counted:
            found.append(learn(loaded).kept.vectors["clip_l"])
        casts.append(counted.count)
        assert loaded.weights_hash() == before
    assert torch.equal(*found)
    assert casts[1] < casts[0] / 2


class Casts(TorchDispatchMode):
    """Counts conversions from one number format to another."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        self.count += func is torch.ops.aten._to_copy.default
        return func(*args, **(kwargs or {}))
