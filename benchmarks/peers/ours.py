"""One training run of this package, and what it took.

    python benchmarks/peers/ours.py REPORT.json MODEL PICTURES DTYPE SETTINGS

The counterpart of `diffusers_script.py`: the clock starts when everything is loaded. SETTINGS are
JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
sys.path.append(str(Path(__file__).resolve().parents[1]))
from memory import Peak
from support.package import hide_repository_root, use_checkout

hide_repository_root()
use_checkout()


def main() -> None:
    """Run, and write the report."""
    from textual_inversion.trainer.data.picture_folder import read_folder
    from textual_inversion.trainer.diffusers_model.model import DiffusersModel
    from textual_inversion.trainer.learning.loop import train
    from textual_inversion.trainer.settings import Settings

    report, model, pictures, dtype, settings = sys.argv[1:]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = DiffusersModel.from_pretrained(model, device, getattr(torch, dtype))
    images = read_folder(Path(pictures)).pictures
    chosen = Settings(**json.loads(settings))
    start, peak = time.perf_counter(), Peak()
    *_, progress = train(loaded, images, chosen)
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    result = {"seconds": seconds, "peak_bytes": peak.total(), "steps": progress.step}
    Path(report).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
