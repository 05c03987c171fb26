"""What the budget chooses for models of full size on common cards: the table in docs/hardware.md.

    COMFYUI_PATH=... python benchmarks/memory_table.py

Counted on PyTorch's device `meta`: it takes seconds, and neither a GPU nor the models' memory.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from results import fill
from support.comfyui import find_comfyui
from support.counted import CARDS, FULL_SIZE, LARGE, TITLES, chosen_on_cards, half_precision
from support.counted import network as network_of
from support.inprocess import use_comfyui
from support.package import hide_repository_root, use_checkout
from support.paths import ROOT


def main() -> None:
    """Write the table."""
    hide_repository_root()
    use_checkout()
    use_comfyui(find_comfyui(), Path(tempfile.mkdtemp()))
    import comfy.model_management

    # The host reckons with what such attention takes on a GPU.
    comfy.model_management.pytorch_attention_flash_attention = lambda: True
    columns = ["Model", "`resolution`", "Weights", "Least", *(f"{card} GB" for card in CARDS)]
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    for name in TITLES:
        full = {**FULL_SIZE, **LARGE}[name]
        lines.append(chosen_on_cards(name, network_of(full, half_precision(full))))
        print(lines[-1], flush=True)
    fill(ROOT / "docs" / "hardware.md", "\n".join(lines))


if __name__ == "__main__":
    main()
