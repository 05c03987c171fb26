"""Weights that come just in time, in every form in which the host keeps them: the same gradient.

The measure is the gradient through the same numbers as plain weights that stay.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from support import families
from support.counted import LiveBytes
from support.families import build
from support.gradients import (
    LORAS,
    STAYING,
    add_lora,
    counted,
    description,
    gradient,
    let_stay,
    same,
)
from support.loaded import Loaded, executing
from support.quantised import STORAGE, dequantised, formats, quantise, quantised_text
from support.short_runs import draw, learn, learn_save_and_apply
from support.small_families import FAMILIES

NAMES = ("sd1", "sdxl", "flux", "z-image", "qwen-image")


@dataclass(frozen=True)
class Case:
    """A family with quantised weights, its text encoders' too or not, and how a step is computed.

    Attributes:
        family: see `FAMILIES`.
        kind: see `formats`.
        lora: see `LORAS`.
        staying: see `STAYING`.
        at_once: of two pictures.
        text: whether its text encoders are quantised, too.
    """

    family: str
    kind: str
    lora: str
    staying: float | None
    at_once: int
    text: bool


def cases(kinds: list[str]) -> list[Case]:
    """Each family in each format; all else takes turns, so that every pair is there."""
    return [
        Case(
            family,
            kind,
            LORAS[(i + j) % 4],
            STAYING[(i + (j + 1) // 2) % 4],
            1 + (i // 2 + j) % 2,
            i == j % len(NAMES),
        )
        for i, family in enumerate(NAMES)
        for j, kind in enumerate(kinds)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("just-in-time")


@dataclass(frozen=True)
class Built:
    """A model for a case, and the plain one that it was quantised from."""

    case: Case
    packed: Loaded
    plain: Loaded


@pytest.fixture(scope="module", params=NAMES)
def built(request: pytest.FixtureRequest, host_modules: ModuleType, folder: Path) -> list[Built]:
    """A family in every format."""
    family = FAMILIES[request.param]
    plain = build(request.param, folder, folder)
    return [
        Built(case, quantise(plain, family, case.kind, text), plain)
        for case in cases(formats())
        if case.family == request.param
        for text in [quantised_text(plain, family, case.kind, folder) if case.text else None]
    ]


def blocks(loaded: Loaded) -> int:
    from textual_inversion.trainer.just_in_time import blocks_of

    return sum(len(list(blocks_of(m))) for m in loaded.modules()[:2])


def test_every_pair_is_among_the_cases(host_modules: ModuleType) -> None:
    """Of family, format, LoRA, what stays, and how many pictures are computed at once."""
    found = cases(formats())
    factors = zip(*((c.family, c.kind, c.lora, c.staying, c.at_once) for c in found), strict=True)
    for one, other in combinations(factors, 2):
        assert len(set(zip(one, other, strict=True))) == len(set(one)) * len(set(other))
    for kind in formats():
        assert {case.text for case in found if case.kind == kind} == {False, True}


def test_the_gradient_is_that_of_plain_weights_that_stay(
    built: list[Built], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Afterwards all is as it was, and the host draws what it drew."""
    from textual_inversion.nodes.host.weights import packing

    for one in built:
        case, packed = one.case, one.packed
        family = FAMILIES[case.family]
        added = add_lora(packed, one.plain, case.lora)
        whole = dequantised(packed, family, one.plain)
        layers = dict(whole.model.model.diffusion_model.named_modules())
        with torch.inference_mode():
            for name, difference in added.items():
                layers[name].weight.add_(difference)
        kinds = {packing(weight) for weight in packed.model.model.parameters()}
        assert case.kind == STORAGE or len(kinds) > 1, case
        wanted = gradient(whole)
        before, drawn = packed.objects(), draw(packed)
        let_stay(monkeypatch, packed, case.staying)
        with counted() as found:
            same(gradient(packed, case.at_once), wanted, case)
        assert case.staying != 0 or found["at once"] == 2, case
        assert case.staying != 1 or found["came"] == blocks(packed), case
        assert packed.objects() == before, case
        assert torch.equal(draw(packed), drawn), case


def test_what_is_learned_is_saved_and_applied(
    built: list[Built], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With text encoders in the same format.

    The prompt says what was trained with, and the host draws what training saw; nearly, in formats
    in which the host rounds also what it multiplies with the weights (to four bits in those of
    “a4”).
    """
    for case, packed in ((one.case, one.packed) for one in built if one.case.text):
        let_stay(monkeypatch, packed, case.staying)
        said, drawn = learn_save_and_apply(packed, FAMILIES[case.family], folder)
        most = 1e-4 if case.kind == STORAGE else 0.2 if case.kind.endswith("a4") else 0.05
        assert said < most, case
        # What is held back comes with dynamic VRAM alone, which there is not on a CPU.
        assert drawn < most or case.lora == "held back", case


@pytest.mark.parametrize("lora", ["held back", "at each use"])
def test_a_lora_that_comes_with_the_weights_is_noted(
    host_modules: ModuleType, folder: Path, lora: str
) -> None:
    """Or a run would go on with another one."""
    plain = build("flux", folder, folder)
    packed = quantise(plain, FAMILIES["flux"], STORAGE)
    without = description(packed)
    add_lora(packed, plain, lora)
    assert description(packed) != without


@pytest.mark.parametrize("kind", ["plain", STORAGE, "int8_tensorwise"])
def test_there_is_no_second_copy_of_the_weights(
    host_modules: ModuleType, folder: Path, kind: str
) -> None:
    """On a CPU; what a step takes, and the weights of two blocks."""
    family = FAMILIES["flux"]
    larger = replace(
        family, network={**family.network, "hidden_size": 384, "num_heads": 3,
                         "depth_single_blocks": 10},
    )  # fmt: skip
    plain = build("flux", folder, folder)
    with torch.inference_mode():
        model = families.model(larger, folder / "larger.safetensors")
    loaded = replace(plain, model=model)
    whole = sum(p.nbytes for p in model.model.diffusion_model.parameters())
    if kind != "plain":
        loaded = quantise(loaded, larger, kind)
    loaded.have_host_load()
    with LiveBytes(torch.nn.ModuleList(loaded.modules())) as live:
        # Those of fewer bits come just in time without being asked.
        gradient(loaded, 1, checkpointing=kind == "plain")
    assert live.peak < whole / 2


def test_what_was_chosen_is_told(host_modules: ModuleType, folder: Path) -> None:
    """In one line; nothing where there was nothing to choose."""
    from textual_inversion.nodes.host.model import HostModel

    whole = build("flux", folder, folder)
    packed = quantise(whole, FAMILIES["flux"], "float8_e4m3fn")
    for loaded, memory, chosen in ((packed, None, True), (whole, 1, True), (whole, None, False)):
        parts = loaded.model, loaded.clip, loaded.vae
        with executing(), HostModel(*parts, resolution=64, memory=memory) as model:
            lines = [line for line in model.notes if "made for pictures" not in line]
        assert len(lines) == chosen
        assert all("they come block by block" in line for line in lines)


def test_after_an_error_everything_is_the_hosts_again(
    host_modules: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = quantise(build("flux", folder, folder), FAMILIES["flux"], STORAGE)
    packed.have_host_load()
    before = packed.objects(), packed.weights_hash()

    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("broken")

    block = packed.model.model.diffusion_model.single_blocks[0]
    with monkeypatch.context() as patch:
        patch.setattr(block.linear1, "forward", broken)
        with pytest.raises(KeyError, match="broken"):
            learn(packed)
    assert (packed.objects(), packed.weights_hash()) == before


def test_what_cannot_be_unpacked_is_refused_by_name(host_modules: ModuleType, folder: Path) -> None:
    """Before the first step; the layer and the format are told."""
    from textual_inversion.trainer.errors import InputError

    class Packed(torch.Tensor):
        """What a pack may put in place of a weight."""

    loaded = build("sd1", folder, folder)
    loaded.have_host_load()
    table = loaded.model.model.diffusion_model.out[2]._parameters
    original = table["weight"]
    before = loaded.objects()
    try:
        table["weight"] = torch.zeros(original.shape, dtype=torch.uint8).as_subclass(Packed)
        with pytest.raises(InputError, match=r"“diffusion_model\.out\.2\.weight” .* as Packed"):
            gradient(loaded)
    finally:
        table["weight"] = original
    assert loaded.objects() == before
