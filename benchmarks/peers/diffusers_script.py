"""Run diffusers' textual inversion script as it is, and tell what its training took.

    python benchmarks/peers/diffusers_script.py REPORT.json SCRIPT.py [the script's options]

The script is `examples/textual_inversion/textual_inversion.py` of diffusers, of the installed
version. It loads the autoencoder as AutoencoderKL; for a model with a tiny one (TAESD) that class
is replaced here, and nothing else. The clock starts when training does, after everything is loaded.
"""

from __future__ import annotations

import json
import runpy
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import accelerate
import diffusers
import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))
from memory import Peak


def tiny_autoencoder(folder: str, **options: Any) -> Any:
    """An AutoencoderTiny that answers as the script expects of an AutoencoderKL."""
    options.pop("revision", None)
    options.pop("variant", None)
    model = diffusers.AutoencoderTiny.from_pretrained(folder, **options)
    encode = model.encode

    def encode_as_distribution(pixels: torch.Tensor) -> Any:
        latents = encode(pixels).latents
        return SimpleNamespace(latent_dist=SimpleNamespace(sample=lambda: latents))

    model.encode = encode_as_distribution
    return model


def main() -> None:
    """Run the script and write the report."""
    report, script, *arguments = sys.argv[1:]
    folder = Path(arguments[arguments.index("--pretrained_model_name_or_path") + 1])
    config = json.loads((folder / "vae" / "config.json").read_text())
    if config["_class_name"] == "AutoencoderTiny":
        diffusers.AutoencoderKL = SimpleNamespace(from_pretrained=tiny_autoencoder)

    clock: dict[str, Any] = {}
    begin, finish = accelerate.Accelerator.init_trackers, accelerate.Accelerator.wait_for_everyone

    def begin_timed(self: Any, *options: Any, **more: Any) -> Any:
        begun = begin(self, *options, **more)
        clock.update(start=time.perf_counter(), used=time.process_time(), peak=Peak())
        return begun

    def finish_timed(self: Any) -> Any:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        clock["seconds"] = time.perf_counter() - clock["start"]
        clock["processor_seconds"] = time.process_time() - clock["used"]
        clock["bytes"] = clock.pop("peak").total()
        return finish(self)

    accelerate.Accelerator.init_trackers = begin_timed
    accelerate.Accelerator.wait_for_everyone = finish_timed
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
    kept = ("seconds", "processor_seconds")
    result = {name: clock[name] for name in kept} | {"peak_bytes": clock["bytes"]}
    Path(report).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
