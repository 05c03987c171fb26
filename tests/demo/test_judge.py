"""The judge of the demo likes what it says it likes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from textual_inversion.demo.concepts import training_scene
from textual_inversion.demo.judge import judged
from textual_inversion.demo.world import draw
from textual_inversion.trainer.runs.ratings import DISLIKED, LIKED, SKIPPED


def test_deep_colours_are_liked_and_pale_ones_disliked_of_each_prompt() -> None:
    shades = [0.9, 0.1, 0.5, 0.2, 0.8]
    scene = training_scene(np.random.default_rng(3))
    pictures = [
        torch.from_numpy(draw(replace(scene, look=replace(scene.look, shade=shade)))).float()
        for shade in [*shades, 0.8, 0.9, 0.2, 0.1, 0.5]
    ]
    said = judged(pictures, ["one"] * 5 + ["other"] * 5)
    assert said[:5] == [DISLIKED, LIKED, SKIPPED, LIKED, DISLIKED]
    assert said[5:] == [DISLIKED, DISLIKED, LIKED, LIKED, SKIPPED]
    assert judged([], []) == []
