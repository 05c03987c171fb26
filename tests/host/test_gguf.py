"""Models as ComfyUI-GGUF loads them, checked with the pack itself; and packs that do alike.

COMFYUI_GGUF names the folder of the pack, which needs the package `gguf`; without it, those tests
are skipped.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from support import families
from support.families import build
from support.gradients import STAYING, description, gradient, let_stay, same
from support.loaded import Loaded
from support.quantised import is_large, large, network
from support.short_runs import draw, learn_save_and_apply, random
from support.small_families import FAMILIES

SCALES = {
    "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,),
    "IQ4_NL": (0,), "IQ4_XS": (0,),
}  # fmt: skip
"""Kinds that the package `gguf` reads and does not write: where half-precision numbers stand in a
block, by which the other bytes of it are multiplied (llama.cpp, ggml-common.h)."""

KINDS = ("BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", *SCALES)

WIDE = replace(
    FAMILIES["flux"], network={**FAMILIES["flux"].network, "hidden_size": 256, "num_heads": 2}
)
"""Flux.1 with layers of whole groups of 256 numbers."""


@dataclass(frozen=True)
class Pack:
    """What is used of the package and the pack."""

    gguf: Any
    ops: Any
    nodes: Any
    loader: Any

    def write(self, path: Path, architecture: str, state: Mapping[str, Any], kind: str) -> None:
        """A file as people share it, with the larger weights of a kind."""
        writer = self.gguf.GGUFWriter(path, architecture)
        for name, weight in state.items():
            values = weight.float().numpy()
            qtype = self.gguf.GGMLQuantizationType[kind]
            block, size = self.gguf.GGML_QUANT_SIZES[qtype]
            if not is_large(name, weight) or values.shape[1] % block:
                writer.add_tensor(name, values)
            elif kind in SCALES:
                writer.add_tensor(name, self._made_up(values, kind, block, size), raw_dtype=qtype)
            else:
                writer.add_tensor(name, self.gguf.quants.quantize(values, qtype), raw_dtype=qtype)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    def numbers(self, state: Mapping[str, Any], path: Path) -> dict[str, torch.Tensor]:
        """What the pack makes of a file's weights; the package's own reading says nearly that.

        The pack reckons in half precision.
        """
        found = {
            name: self.ops.dequantize_tensor(weight, torch.float32).as_subclass(torch.Tensor)
            for name, weight in state.items()
        }
        for one, tensor in zip(found.values(), self.gguf.GGUFReader(path).tensors, strict=True):
            read = self.gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            wanted = torch.from_numpy(np.array(read, np.float32)).reshape(one.shape)
            torch.testing.assert_close(one, wanted, rtol=0, atol=2e-3 * wanted.abs().max().item())
        return found

    def _made_up(self, values: Any, kind: str, block: int, size: int) -> Any:
        """Any bytes, with scales that make weights about as large as they were."""
        rows, columns = values.shape
        data = np.random.default_rng(rows).integers(
            0, 256, (rows, columns // block, size), dtype=np.uint8
        )

        def scaled(scale: float) -> Any:
            for place in SCALES[kind]:
                data[..., place : place + 2] = np.array([scale], np.float16).view(np.uint8)
            return data.reshape(rows, -1)

        qtype = self.gguf.GGMLQuantizationType[kind]
        ratio = values.std() / self.gguf.quants.dequantize(scaled(1.0), qtype).std()
        return scaled(float(ratio))


@pytest.fixture(scope="module")
def pack(host_modules: ModuleType) -> Pack:
    """ComfyUI-GGUF and its package."""
    folder = os.environ.get("COMFYUI_GGUF")
    if not folder:
        pytest.skip("COMFYUI_GGUF is not set")
    gguf = pytest.importorskip("gguf")
    sys.path.append(str(Path(folder).parent))
    parts = (
        importlib.import_module(f"{Path(folder).name}.{part}")
        for part in ("ops", "nodes", "loader")
    )
    return Pack(gguf, *parts)


@pytest.fixture(scope="module")
def plain(host_modules: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = tmp_path_factory.mktemp("gguf")
    with torch.inference_mode():
        model = families.model(WIDE, folder / "flux.safetensors")
    return replace(build("flux", folder, folder), model=model)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network(
    pack: Pack, plain: Loaded, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Unet Loader (GGUF) has it, without a LoRA and with one; what is learned is applied.

    How many blocks stay and how many pictures are computed at once goes by turns.
    """
    import folder_paths

    path = tmp_path / f"flux-{kind}.gguf"
    pack.write(path, "flux", plain.model.model.diffusion_model.state_dict(), kind)
    folder_paths.add_model_folder_path("diffusion_models", str(tmp_path))
    with torch.inference_mode():
        (model,) = pack.nodes.UnetLoaderGGUF().load_unet(path.name)
        state = pack.loader.gguf_sd_loader(str(path))
        whole = network(WIDE, torch.float32)
        whole.model.diffusion_model.load_state_dict(pack.numbers(state, path))
        if kind == "Q8_0":
            # With dynamic VRAM the host does not copy what is in the file: all is of the pack's
            # own type then, also what is not quantised and in layers that are the host's.
            model.model.load_model_weights(state, "", assign=True)
    place = KINDS.index(kind)
    key = "diffusion_model.double_blocks.0.img_attn.qkv.weight"
    difference = 0.01 * random(*whole.model.state_dict()[key].shape, seed=5)
    for patches in ({}, {key: ("diff", (difference,))}):
        model, whole = model.clone(), whole.clone()
        for patcher in (model, whole):
            patcher.add_patches(patches, 1.0)
        wanted, packed = gradient(replace(plain, model=whole)), replace(plain, model=model)
        packed.have_host_load()
        before, drawn = packed.objects(), draw(packed)
        assert description(packed)
        with monkeypatch.context() as patch:
            let_stay(patch, packed, STAYING[place % 4])
            same(gradient(packed, 1 + place // 4 % 2), wanted, list(patches))
        assert packed.objects() == before
        assert torch.equal(draw(packed), drawn)
    if kind in ("Q8_0", "Q4_K"):
        assert max(learn_save_and_apply(packed, WIDE, tmp_path)) < 1e-3


@pytest.mark.parametrize(
    ("name", "architecture", "key"),
    [("flux", "t5encoder", "t5xxl"), ("z-image", "qwen3", "qwen3_4b")],
)
@pytest.mark.parametrize("kind", ["Q8_0", "Q5_0"])
def test_a_text_encoder(
    pack: Pack, tmp_path: Path, name: str, architecture: str, key: str, kind: str
) -> None:
    """As CLIPLoader (GGUF) has it, with tables of words that are quantised, or half precision."""
    family = FAMILIES[name]
    plain = build(name, tmp_path, tmp_path)
    names = {"t5encoder": pack.loader.T5_SD_MAP, "qwen3": pack.loader.LLAMA_SD_MAP}[architecture]
    states = []
    for encoder in family.encoders:
        state = getattr(plain.clip.cond_stage_model, encoder).transformer.state_dict()
        if encoder == key:
            state.pop("encoder.embed_tokens.weight", None)  # the same as `shared`
            renamed = {}
            for own, weight in state.items():
                for theirs, ours in reversed(names.items()):
                    own = own.replace(ours, theirs)
                renamed[own] = weight
            path = tmp_path / f"{kind}.gguf"
            pack.write(path, architecture, renamed, kind)
            state = pack.loader.gguf_clip_loader(str(path))
        states.append(state)
    with torch.inference_mode():
        clip = families.text_encoder(
            family, tmp_path, state=states, custom_operations=pack.ops.GGMLOps
        )
        clip.patcher = pack.nodes.GGUFModelPatcher.clone(clip.patcher)
        numbers = pack.numbers(pack.loader.gguf_clip_loader(str(path)), path)
        target = getattr(plain.clip.cond_stage_model, key).transformer
        _, unexpected = target.load_state_dict(numbers, strict=False)
    assert not unexpected
    packed = replace(plain, clip=clip)
    packed.have_host_load()
    before = packed.objects()
    same(gradient(packed), gradient(plain))
    assert packed.objects() == before
    assert max(learn_save_and_apply(packed, family, tmp_path)) < 1e-3


def test_any_pack_whose_layers_unpack(host_modules: ModuleType, tmp_path: Path) -> None:
    """A weight of a type of its own, and a layer that makes numbers of it."""

    class Packed(torch.Tensor):
        """Numbers of 8 bits and what they are multiplied by."""

        scale: float

    def get_weight(packed: Packed, dtype: torch.dtype) -> torch.Tensor:
        return packed.as_subclass(torch.Tensor).to(dtype) * packed.scale

    plain = build("sd1", tmp_path, tmp_path)
    packed = replace(plain, model=network(FAMILIES["sd1"], torch.float32))
    network_ = packed.model.model.diffusion_model
    with torch.inference_mode():
        network_.load_state_dict(plain.model.model.diffusion_model.state_dict())
        whole = replace(plain, model=network(FAMILIES["sd1"], torch.float32))
        state = network_.state_dict()
        for name, part in large(network_):
            scale = part.weight.abs().max().item() / 127
            kept = (part.weight / scale).round().to(torch.int8).as_subclass(Packed)
            kept.scale = scale
            state[f"{name}.weight"] = get_weight(kept, torch.float32)
            part._parameters["weight"] = kept
            part.get_weight = get_weight
        whole.model.model.diffusion_model.load_state_dict(state)
    packed.have_host_load()
    before = packed.objects()
    same(gradient(packed), gradient(whole))
    assert packed.objects() == before
