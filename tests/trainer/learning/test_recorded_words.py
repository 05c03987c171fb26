"""Words of the same seed stay the same: three short runs, recorded once, one of each objective."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.toy_model import ToyModel
from textual_inversion.trainer.data.pictures import Picture
from textual_inversion.trainer.learning.loop import train
from textual_inversion.trainer.settings import NegativeSettings, Settings

SHORT: dict[str, Any] = {
    "name": "w", "steps": 12, "resolution": 64, "evaluations": 2, "num_vectors": 2,
    "learning_rate": "0.04", "batch_size": 4, "schedule": "cosine", "optimizer": "sphere",
    "pull": 0.1, "averaging": "last quarter", "weighting": "none",
}  # fmt: skip

RECORDED: dict[str, tuple[Settings, str, list[list[float]]]] = {
    "object with captions": (
        Settings(**SHORT, init_words="toy"),
        "a red [name], photo {}",
        [[-0.9800794, -0.2869533, 1.5699357, -0.2686285]] * 2,
    ),
    "negative from good pictures": (
        NegativeSettings(**SHORT, init_words="cat", objective="good pictures"),
        "a red toy",
        [[0.0118925, 1.2770898, 1.1863296, -0.7357166]] * 2,
    ),
    "pair": (
        NegativeSettings(**SHORT, init_words="toy", objective="pair"),
        "a red [name], photo {}",
        [[-1.0834925, 0.1151837, 1.5439882, 0.0929153]] * 2
        + [[-1.3116381, 0.3654325, -0.2004877, -1.2983166]] * 2,
    ),
}


@pytest.mark.parametrize("kind", RECORDED)
def test_words_are_what_they_were(kind: str) -> None:
    settings, caption, rows = RECORDED[kind]
    generator = torch.Generator().manual_seed(3)
    pictures = [
        Picture(torch.rand(64, 64, 3, generator=generator), caption.format(i)) for i in range(3)
    ]
    *_, last = train(ToyModel(), pictures, settings)
    torch.testing.assert_close(last.kept.vectors["clip_l"], torch.tensor(rows), atol=2e-6, rtol=0)
