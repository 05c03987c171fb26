"""ComfyUI started as people start it: the same is learned, and drawn before and after."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.client import Host, RunningHost
from support.families import build
from support.graph import Graph, sample
from support.loaded import Loaded
from support.short_runs import draw, learn
from support.training import batch, checkpoint, learned, photos, stock_picture, train

FLAGS = (
    ("--bf16-unet", "--fp32-text-enc"),
    ("--fp16-unet", "--use-split-cross-attention"),
    ("--use-quad-cross-attention", "--disable-dynamic-vram"),
)
"""Those for video memory cannot stand beside `--cpu`."""


@pytest.fixture(scope="module")
def sd1(host_modules: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = tmp_path_factory.mktemp("flags")
    return build("sd1", folder, folder)


@pytest.fixture
def by_lora(sd1: Loaded) -> Loaded:
    """The model with some of its weights patched."""
    patcher = sd1.model.clone()
    state = patcher.model.state_dict()
    keys = [key for key, weight in state.items() if weight.ndim == 2][:6]
    patcher.add_patches({key: (0.1 * state[key].clone(),) for key in keys}, 1.0)
    return Loaded(patcher, sd1.clip, sd1.vae, sd1.checkpoint)


@pytest.mark.parametrize("state", ["HIGH_VRAM", "NORMAL_VRAM", "LOW_VRAM", "NO_VRAM"])
@pytest.mark.parametrize("patched", [False, True], ids=["plain", "lora"])
def test_wherever_the_host_keeps_the_weights(
    sd1: Loaded, by_lora: Loaded, state: str, patched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As --gpu-only, --lowvram and --novram have it; the last brings in weights layer by layer."""
    import comfy.model_management as management

    loaded = by_lora if patched else sd1
    expected, before = learn(loaded).kept.vectors["clip_l"], draw(loaded)
    with torch.inference_mode():
        management.unload_all_models()
    with monkeypatch.context() as patch:
        # The host manages memory for any device that it does not take for the CPU.
        patch.setattr(management, "is_device_cpu", lambda _device: False)
        patch.setattr(management, "vram_state", management.VRAMState[state])
        found = learn(loaded).kept.vectors["clip_l"]
        assert loaded.model.model.model_lowvram == (state == "NO_VRAM")
        torch.testing.assert_close(draw(loaded), before)
        with torch.inference_mode():
            management.unload_all_models()
    torch.testing.assert_close(found, expected)
    assert torch.equal(draw(loaded), before)


def test_patches_that_dynamic_vram_brings_in_with_the_weights(sd1: Loaded, by_lora: Loaded) -> None:
    """Such layers hold a place and their patches; both are theirs again afterwards."""
    from comfy.model_patcher import LowVramPatch

    expected = learn(by_lora).kept.vectors["clip_l"]
    plain = learn(sd1).kept.vectors["clip_l"]
    layers = dict(sd1.model.model.named_modules())
    patches = by_lora.model.patches
    marked = {
        layers[key.removesuffix(".weight")]: (LowVramPatch(key, patches), object())
        for key in patches
    }
    for layer, marks in marked.items():
        layer.weight_lowvram_function, layer._v = marks
    found = learn(sd1).kept.vectors["clip_l"]
    for layer, marks in marked.items():
        assert (layer.weight_lowvram_function, layer._v) == marks
        del layer.weight_lowvram_function, layer._v
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, plain)


@pytest.fixture(scope="module")
def usual_move(host: Host, sd1_checkpoint: Path) -> torch.Tensor:
    return move(host, sd1_checkpoint)


def move(server: Host, file: Path) -> torch.Tensor:
    """Where a short run takes the vectors; stock pictures are the same before and after."""
    model = server.add_checkpoint(file)
    before = stock_picture(server, model, 0)
    start = learned(server, model, "start", learning_rate="1e-9", steps=1)
    moved = learned(server, model, "flags") - start
    np.testing.assert_array_equal(stock_picture(server, model, 1), before)
    return moved.flatten()


@pytest.mark.slow
@pytest.mark.parametrize("flags", FLAGS, ids=" ".join)
def test_a_server_with_flags(
    running_host: RunningHost,
    usual_move: torch.Tensor,
    sd1_checkpoint: Path,
    flags: tuple[str, ...],
) -> None:
    """Nearly the same as without, within what its number formats leave."""
    with running_host(*flags) as other:
        found = move(other, sd1_checkpoint)
    assert torch.nn.functional.cosine_similarity(usual_move, found, dim=0) > 0.9


def test_two_nodes_of_one_graph_learn_as_if_alone(host: Host, sd1_checkpoint: Path) -> None:
    """On the same model, one after the other, with a picture between them."""
    model = host.add_checkpoint(sd1_checkpoint)
    graph = Graph()
    loaded, pictures = checkpoint(graph, model), batch(graph, photos(host))
    first = train(graph, loaded, pictures, name="first-of-two", seed=21)
    applied = graph.add(
        "TextualInversionApply", clip=loaded[1], embedding=first[0], text="[name]", strength=1.0
    )
    drawn = sample(graph, loaded[0], loaded[1], loaded[2], text=applied[0])
    again = graph.add("LoadImage", image=photos(host)[0])
    train(graph, loaded, again[0], name="second-of-two", seed=22, start_from=first[0])
    assert host.run(graph, timeout=900)[drawn]["images"]
    both = [
        load_file(host.embeddings / f"{name}-of-two.safetensors")["emb_params"]
        for name in ("first", "second")
    ]
    assert torch.equal(learned(host, model, "first-alone", seed=21), both[0])
    alone = Graph()
    loaded, one = checkpoint(alone, model), alone.add("LoadImage", image=photos(host)[0])
    start = alone.add("TextualInversionLoad", file="first-of-two.safetensors")
    train(alone, loaded, one[0], name="second-alone", seed=22, start_from=start[0])
    host.run(alone, timeout=900)
    second = load_file(host.embeddings / "second-alone.safetensors")["emb_params"]
    assert torch.equal(second, both[1])
