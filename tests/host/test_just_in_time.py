"""Weights that come just in time, in every form in which the host keeps them: the same gradient.

The measure is the gradient through the same numbers as plain weights that stay.
"""

from __future__ import annotations

import importlib
import os
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from support.families import build
from support.loaded import Loaded, executing
from support.quantised import STORAGE, formats, is_large, network, quantise
from support.short_runs import draw, learn
from support.small_families import FAMILIES
from torch.nn.functional import cosine_similarity

NAMES = ("sd1", "sdxl", "flux", "z-image", "qwen-image")
PROMPTS = ("a photo of a [name]", "[name] beside a (wooden:1.3) boat")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("just-in-time")


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gradient(loaded: Loaded, at_once: int = 2, **options: Any) -> torch.Tensor:
    """Of all vectors, for two prompts, the pictures as many at once as said."""
    from textual_inversion.nodes.host.model import HostModel
    from textual_inversion.trainer.learning.initial import initial_vectors

    channels = loaded.model.model.latent_format.latent_channels
    noisy, weights = (random(2, channels, 8, 8, seed=seed) for seed in (3, 4))
    timesteps = torch.tensor([400, 600])
    with (
        executing(),
        HostModel(loaded.model, loaded.clip, loaded.vae, resolution=64, **options) as model,
    ):
        start = initial_vectors(model.text_encoders, "toy cat", 2)
        vectors = {
            k: (v + 0.1 * v.std() * random(*v.shape, seed=2)).requires_grad_()
            for k, v in start.items()
        }
        tokens = [model.tokenize(prompt, 2) for prompt in PROMPTS]
        for first in range(0, 2, at_once):
            part = slice(first, first + at_once)
            encoded = model.encode_prompts(tokens[part], vectors)
            predicted = model.predict(noisy[part], timesteps[part], encoded)
            (predicted * weights[part]).sum().backward()
        return torch.cat([v.grad.flatten() for v in vectors.values()])


@pytest.fixture
def staying(monkeypatch: pytest.MonkeyPatch) -> Callable[[Loaded, float], None]:
    """Have the budget let about this share of the blocks' bytes stay."""
    from textual_inversion.nodes.host import model as adapter
    from textual_inversion.nodes.host.memory import Budget, weights_of

    def choose(loaded: Loaded, share: float) -> None:
        base, text = loaded.model.model, loaded.clip.cond_stage_model
        sizes = [*weights_of(base, torch.float32).blocks, *weights_of(text, torch.float32).blocks]
        chosen = Budget(2, True, 1, True, True, True, int(share * sum(sizes)))
        monkeypatch.setattr(adapter, "plan", lambda *_: chosen)

    return choose


def description(loaded: Loaded) -> dict[str, str]:
    """What is noted of the model, by which runs are told apart."""
    from textual_inversion.nodes.host.model import HostModel

    parts = loaded.model, loaded.clip, loaded.vae
    with executing(), HostModel(*parts, resolution=64, memory=1) as model:
        return dict(model.description)


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """How many blocks came and stayed, and how many had stand-ins at the same time at most."""
    from textual_inversion.nodes.host.weights import HostWeights

    found: Counter[str] = Counter()
    alive: dict[int, list[weakref.ref[Any]]] = {}
    bring = HostWeights.bring

    def watched(self: Any, module: torch.nn.Module) -> Any:
        made = bring(self, module)
        values = [one.value for one in made if isinstance(one.value, torch.Tensor)]
        alive[id(made)] = [weakref.ref(value.untyped_storage()) for value in values]
        now = sum(any(ref() is not None for ref in refs) for refs in alive.values())
        found["came"] += 1
        found["at once"] = max(found["at once"], now)
        return made

    HostWeights.bring = watched
    try:
        yield found
    finally:
        HostWeights.bring = bring


def blocks(loaded: Loaded) -> int:
    from textual_inversion.trainer.just_in_time import blocks_of

    return sum(len(list(blocks_of(m))) for m in loaded.modules()[:2])


def same(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert cosine_similarity(found.double(), wanted.double(), dim=0) > 1 - 1e-6
    assert found.norm() == pytest.approx(wanted.norm().item(), rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_that_of_weights_that_stay(
    host_modules: ModuleType,
    folder: Path,
    name: str,
    staying: Callable[[Loaded, float], None],
) -> None:
    """Of weights of 8 bits, so that each block is really brought; none, half or all come."""
    packed, whole = quantise(build(name, folder, folder), FAMILIES[name], STORAGE)
    wanted = gradient(whole)
    packed.have_host_load()
    before = packed.objects(), packed.weights_hash()
    everything = blocks(packed)
    for share, at_once in ((0.0, 2), (0.0, 1), (0.5, 2), (1.0, 2)):
        staying(packed, share)
        with counted() as found:
            same(gradient(packed, at_once), wanted)
        assert share > 0 or found["at once"] == 2
        assert share < 1 or found["came"] == everything
        assert (packed.objects(), packed.weights_hash()) == before


@pytest.mark.parametrize("name", NAMES)
def test_quantised_weights_are_unpacked(host_modules: ModuleType, folder: Path, name: str) -> None:
    """Every format that the host packs weights into, just in time without being asked."""
    from textual_inversion.nodes.host.weights import packing

    loaded = build(name, folder, folder)
    for kind in formats():
        if kind == STORAGE:
            continue
        packed, whole = quantise(loaded, FAMILIES[name], kind)
        if not any(packing(weight) for weight in packed.model.model.parameters()):
            continue  # all layers are too small
        packed.have_host_load()
        before = packed.objects()
        drawn = draw(packed)
        with counted() as found:
            same(gradient(packed), gradient(whole))
        assert found["at once"] <= 2, kind
        assert found["came"] > 0, kind
        assert packed.objects() == before, kind
        assert torch.equal(draw(packed), drawn), kind


@pytest.mark.parametrize("attribute", ["weight_lowvram_function", "weight_function"])
@pytest.mark.parametrize("kind", [STORAGE, "float8_e4m3fn"])
def test_a_lora_that_the_host_brings_in_with_the_weights(
    host_modules: ModuleType, folder: Path, kind: str, attribute: str
) -> None:
    """As it holds them back: with dynamic VRAM, and for what it keeps off the GPU."""
    from comfy.model_patcher import LowVramPatch

    packed, whole = quantise(build("flux", folder, folder), FAMILIES["flux"], kind)
    plain = gradient(whole)
    packed.have_host_load()
    without = description(packed)
    layers = dict(whole.model.model.diffusion_model.named_modules())
    for name, part in packed.model.model.diffusion_model.named_modules():
        if not hasattr(part, "comfy_cast_weights") or "blocks" not in name:
            continue
        weight = part._parameters["weight"]
        if weight is None or weight.ndim != 2:
            continue
        up, down = (
            random(*shape, seed=7) for shape in ((weight.shape[0], 2), (2, weight.shape[1]))
        )
        difference = 0.01 * up @ down
        patch = LowVramPatch(name, {name: [(1.0, ("diff", (difference,)), 1.0, None, None)]})
        setattr(part, attribute, [patch] if attribute == "weight_function" else patch)
        with torch.inference_mode():
            layers[name]._parameters["weight"].add_(difference)
    wanted = gradient(whole)
    assert cosine_similarity(plain, wanted, dim=0) < 0.999
    assert description(packed) != without  # or a run would go on with another LoRA
    same(gradient(packed, memory=1), wanted)


def test_what_was_chosen_is_told(host_modules: ModuleType, folder: Path) -> None:
    """In one line; nothing where there was nothing to choose."""
    from textual_inversion.nodes.host.model import HostModel

    packed, whole = quantise(build("flux", folder, folder), FAMILIES["flux"], "float8_e4m3fn")
    for loaded, memory, chosen in ((packed, None, True), (whole, 1, True), (whole, None, False)):
        parts = loaded.model, loaded.clip, loaded.vae
        with executing(), HostModel(*parts, resolution=64, memory=memory) as model:
            lines = [line for line in model.notes if "made for pictures" not in line]
        assert len(lines) == chosen
        assert all("they come block by block" in line for line in lines)


def test_after_an_error_everything_is_the_hosts_again(
    host_modules: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed, _ = quantise(build("flux", folder, folder), FAMILIES["flux"], "float8_e4m3fn")
    packed.have_host_load()
    before = packed.objects()

    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("broken")

    block = packed.model.model.diffusion_model.single_blocks[0]
    with monkeypatch.context() as patch:
        patch.setattr(block.linear1, "forward", broken)
        with pytest.raises(KeyError, match="broken"):
            learn(packed)
    assert packed.objects() == before


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
        table["weight"] = torch.zeros(original.shape).as_subclass(Packed)
        with pytest.raises(InputError, match=r"“diffusion_model\.out\.2\.weight” .* as Packed"):
            gradient(loaded)
    finally:
        table["weight"] = original
    assert loaded.objects() == before


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_1", "Q4_0"])
def test_gguf_by_its_pack(host_modules: ModuleType, folder: Path, kind: str) -> None:
    """As Unet Loader (GGUF) of ComfyUI-GGUF loads it; COMFYUI_GGUF names the pack's folder."""
    pack = os.environ.get("COMFYUI_GGUF")
    if not pack:
        pytest.skip("COMFYUI_GGUF is not set")
    gguf = pytest.importorskip("gguf")
    sys.path.append(str(Path(pack).parent))
    ops = importlib.import_module(f"{Path(pack).name}.ops")
    nodes = importlib.import_module(f"{Path(pack).name}.nodes")
    import comfy.sd

    loaded = build("flux", folder, folder)
    state, whole = {}, {}
    qtype = gguf.GGMLQuantizationType[kind]
    for name, weight in loaded.model.model.diffusion_model.state_dict().items():
        whole[name] = weight.clone()
        if is_large(name, weight):
            data = torch.from_numpy(gguf.quants.quantize(weight.numpy(), qtype))
            state[name] = ops.GGMLTensor(data, tensor_type=qtype, tensor_shape=weight.shape)
            whole[name] = ops.dequantize_tensor(state[name], torch.float32).as_subclass(
                torch.Tensor
            )
        else:
            state[name] = ops.GGMLTensor(
                weight.clone(),
                tensor_type=gguf.GGMLQuantizationType.F32,
                tensor_shape=weight.shape,
            )
    with torch.inference_mode():
        model = comfy.sd.load_diffusion_model_state_dict(
            state, model_options={"custom_operations": ops.GGMLOps()}
        )
        model = nodes.GGUFModelPatcher.clone(model)
        plain = network(FAMILIES["flux"], torch.float32)
        plain.model.diffusion_model.load_state_dict(whole)
    for patcher in (model, plain):
        key = "diffusion_model.double_blocks.0.img_attn.qkv.weight"
        difference = 0.01 * random(*whole[key.removeprefix("diffusion_model.")].shape, seed=5)
        patcher.add_patches({key: ("diff", (difference,))}, 1.0)
    packed = replace(loaded, model=model)
    packed.have_host_load()
    before, drawn = packed.objects(), draw(packed)
    assert description(packed)
    same(gradient(packed), gradient(replace(loaded, model=plain)))
    assert packed.objects() == before
    assert torch.equal(draw(packed), drawn)
