"""How a step is fitted into memory, and what one takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from support.counted import FULL_SIZE, LiveBytes, network, step_bytes
from support.families import FAMILIES, build, text_encoder
from support.loaded import executing
from support.short_runs import learn
from torch.utils._python_dispatch import TorchDispatchMode

GB = 1 << 30
TEXT_ENCODERS = {"sd1-512": 0.23 * GB, "sdxl-1024": 1.53 * GB}
"""Weights in half precision."""


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
        (GB // 8, 4, False, 0, 1, True, False),  # too little: the host says so
        (-GB, 1, False, 0, 1, True, False),
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
    from textual_inversion.nodes.host.memory import PLAIN, plan

    found = plan(GB // PLAIN, room, batch_size, wanted, copies, GB)
    assert (found.at_once, found.checkpointing, found.wide_text) == (at_once, checkpointing, wide)
    assert room is None or not wide or found.needed <= room
    assert found.needed > 0


@pytest.mark.parametrize("name", FULL_SIZE)
def test_a_step_takes_what_is_reckoned(
    host_modules: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One picture through a network of full size in half precision, as on a GPU."""
    import comfy.model_management
    from textual_inversion.nodes.host.memory import plan

    monkeypatch.setattr(comfy.model_management, "pytorch_attention_flash_attention", lambda: True)
    full = FULL_SIZE[name]
    base = network(full, torch.float16)
    sampling = int(base.memory_required([1, *full.latents]))
    for checkpointing in (False, True):
        needed = plan(sampling, None, 1, checkpointing, 0, 0).needed
        found = step_bytes(base, full, torch.float16, checkpointing=checkpointing)
        assert 0.25 * needed < found <= needed


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
    from textual_inversion.nodes.host.memory import plan

    monkeypatch.setattr(comfy.model_management, "pytorch_attention_flash_attention", lambda: True)
    full = FULL_SIZE[name]
    base = network(full, torch.float16)
    weights = 2 * sum(p.numel() for p in base.diffusion_model.parameters())
    # A GPU never has all of its memory for us.
    room = int(0.93 * card - weights - TEXT_ENCODERS[name])
    found = plan(int(base.memory_required([1, *full.latents])), room, 1, False, 0, 0)
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
    from textual_inversion.nodes.host import memory as budget
    from textual_inversion.nodes.host import model as adapter

    loaded = build("sd1", tmp_path, tmp_path)
    sampling = loaded.model.memory_required([1, 4, 64, 64])
    monkeypatch.setattr(loaded.model, "memory_required", lambda _: 1.3 * sampling + GB)
    monkeypatch.setattr(adapter, "room", lambda *_: 4 * budget.PLAIN * int(sampling))
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
    for room in (None, 1 << 50):
        monkeypatch.setattr(adapter, "room", lambda *_, room=room: room)
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
