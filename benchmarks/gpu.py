"""All that only a GPU can show, in one run of about fifteen minutes.

    COMFYUI_PATH=... python benchmarks/gpu.py [tests] [steps] [cards] [formats]

- tests: tests/host/test_gpu.py, in a process of its own;
- steps: seconds of a step beside those of the bare network, there and back;
- cards: models of full size with random weights in the memory of smaller cards: peak memory and
  seconds of a step, with weights that are brought by a stream of their own and without one, and
  the same loss as without a limit;
- formats: the gradient through quantised weights beside that through the same numbers.

Without a GPU all but the tests is gone through with small models, to see that it runs.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from memory import Peak
from support import families
from support.comfyui import find_comfyui
from support.counted import FULL_SIZE, GB, LARGE, TITLES, half_precision, network
from support.families import FAMILIES, build
from support.gradients import add_lora, gradient
from support.inprocess import use_comfyui
from support.loaded import Loaded, executing
from support.package import hide_repository_root, use_checkout
from support.paths import ROOT
from support.quantised import dequantised, formats, quantise

GPU = torch.cuda.is_available()
FAMILY_OF = {
    "sd1-512": "sd1", "sdxl-1024": "sdxl", "z-image-1024": "z-image", "flux-1024": "flux",
    "qwen-image-1024": "qwen-image",
}  # fmt: skip
"""Models of full size -> their families in the tests, which have the text encoders."""

LIMITS = (12, 8, 6, 4, 3)
"""Memory of smaller cards, in GB; in MB of small models."""


def tests() -> None:
    """The tests that need a GPU."""
    files = ["tests/host/test_gpu.py"]
    subprocess.run([sys.executable, "-m", "pytest", "-q", *files], cwd=ROOT, check=False)


def steps(folder: Path) -> None:
    """Our step, and the bare network with the same attention; in turn, so that drift shows."""
    for name, batches in (("sd1-512", (1, 4)), ("sdxl-1024", (1,))):
        loaded = full_size(name, folder)
        for batch in batches:
            with opened(loaded, name, batch) as step:
                step.whole()
                step.network()
                pairs = [
                    (seconds(step.network), seconds(step.whole)) for _ in range(9 if GPU else 1)
                ]
            bare, ours = (statistics.median(times) for times in zip(*pairs, strict=True))
            line = f"network {bare:.3f} s, step {ours:.3f} s, ratio {ours / bare:.2f}"
            print(f"{TITLES[name]}, batch {batch}: {line}", flush=True)
        del loaded
        clean()


def cards(folder: Path) -> None:
    """What training takes where there is less room."""
    print("| Model | Limit | Stay | Peak | Seconds a step | without a stream | Loss off by |")
    print("|" + " --- |" * 7)
    whole = torch.cuda.get_device_properties(0).total_memory if GPU else 0
    for name in FAMILY_OF:
        loaded = full_size(name, folder)
        usual = None
        for limit in (None, *LIMITS):
            bytes_ = None if limit is None else int(limit * (GB if GPU else 1 << 20))
            if GPU and bytes_ and bytes_ >= whole:
                continue
            if GPU:
                torch.cuda.set_per_process_memory_fraction(min(1.0, (bytes_ or whole) / whole))
            cells = [TITLES[name], f"{limit} {'GB' if GPU else 'MB'}" if limit else "none"]
            try:
                more, loss = measured(loaded, name, bytes_)
                usual = loss if usual is None else usual
                cells += [*more, f"{abs(loss / usual - 1):.1e}"]
            except Exception as error:
                cells += [f"{type(error).__name__}: {error}".partition("\n")[0]]
            print(f"| {' | '.join(cells)} |", flush=True)
            clean()
        del loaded
        clean()


def measured(loaded: Loaded, name: str, limit: int | None) -> tuple[list[str], float]:
    """What a line has to say of a model, and the loss."""
    times = []
    for way in (no_streams, streams):
        with way(), opened(loaded, name, 1, limit) as step:
            step.whole()
            peak = Peak()
            times.append(statistics.median(seconds(step.whole) for _ in range(3 if GPU else 1)))
            most, loss = peak.total(), step.whole()
    return [step.kept, f"{most / GB:.2f} GB", f"{times[1]:.2f}", f"{times[0]:.2f}"], loss


def quantised(folder: Path) -> None:
    """In small, where the host unpacks with kernels of its own."""
    for family in ("sd1", "flux"):
        plain = build(family, folder, folder)
        for kind in formats():
            try:
                packed = quantise(plain, FAMILIES[family], kind)
                add_lora(packed, plain, "none")
                whole = dequantised(packed, FAMILIES[family], plain)
                pair = [gradient(one).double().cpu() for one in (packed, whole)]
                rest = 1 - torch.nn.functional.cosine_similarity(*pair, dim=0).item()
                print(f"{FAMILIES[family].title}, {kind}: 1 - cosine {rest:.1e}", flush=True)
            except Exception as error:
                print(f"{FAMILIES[family].title}, {kind}: {type(error).__name__}: {error}")


@dataclass(frozen=True)
class Step:
    """What is timed.

    Attributes:
        whole: a step but for the optimiser; returns the loss.
        network: the network alone, there and back.
        kept: what the budget chose.
    """

    whole: Callable[[], float]
    network: Callable[[], float]
    kept: str


@contextmanager
def opened(loaded: Loaded, name: str, batch: int, limit: int | None = None) -> Iterator[Step]:
    """A model in training."""
    from textual_inversion.nodes.host.model import HostModel
    from textual_inversion.trainer.learning.initial import initial_vectors

    resolution = int(name.rpartition("-")[2]) if GPU else 64
    parts = loaded.model, loaded.clip, loaded.vae
    options = {"resolution": resolution, "batch_size": batch, "memory": limit}
    with executing(), HostModel(*parts, **options) as model:
        vectors = initial_vectors(model.text_encoders, "toy", 1)
        live = {key: rows.to(model.device).requires_grad_() for key, rows in vectors.items()}
        tokens = [model.tokenize("a photo of a [name]", 1)] * batch
        channels = loaded.model.model.latent_format.latent_channels
        generator = torch.Generator().manual_seed(1)
        shape = batch, channels, resolution // 8, resolution // 8
        noisy = torch.randn(shape, generator=generator).to(model.device)
        timesteps = torch.full((batch,), 400)
        with torch.no_grad():
            fixed = model.encode_prompts(tokens, live)
        for one in fixed:
            one["cond"] = one["cond"].detach().requires_grad_()

        def back(conditioning: list[dict[str, Any]]) -> float:
            loss = model.predict(noisy, timesteps, conditioning).square().mean()
            loss.backward()
            return loss.item()

        budget = model._budget
        kept = "all" if not budget.just_in_time else f"{budget.staying / GB:.1f} GB of blocks"
        if budget.checkpointing and not budget.just_in_time:
            kept += ", checkpointing"
        yield Step(lambda: back(model.encode_prompts(tokens, live)), lambda: back(fixed), kept)


@contextmanager
def streams() -> Iterator[None]:
    """As it comes."""
    yield


@contextmanager
def no_streams() -> Iterator[None]:
    """Weights are brought when they are asked for, as on a CPU."""
    from textual_inversion.trainer.just_in_time import JustInTime

    original = JustInTime.__init__
    JustInTime.__init__ = lambda self, _: original(self, torch.device("cpu"))
    try:
        yield
    finally:
        JustInTime.__init__ = original


def full_size(name: str, folder: Path) -> Loaded:
    """A model with random weights; a small one without a GPU."""
    import comfy.model_management as management
    import comfy.model_patcher

    family = FAMILIES[FAMILY_OF[name]]
    if not GPU:
        return build(FAMILY_OF[name], folder, folder)
    full = {**FULL_SIZE, **LARGE}[name]
    with torch.inference_mode():
        base = network(full, half_precision(full), "cpu")
        clip = families.text_encoder(
            replace(family, encoders={}), folder, torch.float16, filled=False
        )
        fill_quickly(base)
        fill_quickly(clip.cond_stage_model)
        patcher = comfy.model_patcher.CoreModelPatcher(
            base, management.get_torch_device(), management.unet_offload_device()
        )
        return Loaded(patcher, clip, families.vae(family), folder)


def fill_quickly(module: torch.nn.Module) -> None:
    """Random weights of about the right size: some numbers, over and over."""
    some = torch.randn(1 << 22)
    for name, weight in module.named_parameters():
        if weight.ndim < 2:
            weight.fill_(0 if name.endswith("bias") else 1)
            continue
        flat, tile = weight.view(-1), (some * weight[0].numel() ** -0.5).to(weight.dtype)
        for first in range(0, len(flat), len(tile)):
            part = flat[first : first + len(tile)]
            part.copy_(tile[: len(part)])


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call, which waits for the GPU."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def clean() -> None:
    """Give back what is not used any more."""
    import comfy.model_management

    comfy.model_management.unload_all_models()
    gc.collect()
    comfy.model_management.soft_empty_cache()


def main() -> None:
    """Run the parts that are named, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = ("tests", "steps", "cards", "formats")
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(known))
    wanted = parser.parse_args().parts or known
    print(torch.cuda.get_device_name() if GPU else "no GPU: small models, only to see that it runs")
    if "tests" in wanted and GPU:
        tests()
    hide_repository_root()
    use_checkout()
    folder = Path(tempfile.mkdtemp())
    use_comfyui(find_comfyui(), folder, cpu=not GPU)
    for name, part in (("steps", steps), ("cards", cards), ("formats", quantised)):
        if name in wanted:
            print(f"\n{name}", flush=True)
            part(folder)


if __name__ == "__main__":
    main()
