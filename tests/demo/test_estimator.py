from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from textual_inversion.demo.concepts import CONCEPTS, concept_pictures, training_scene
from textual_inversion.demo.estimator import (
    as_batch,
    likeness_details,
    likeness_error,
    likeness_errors,
    prompt_following,
    read,
)
from textual_inversion.demo.train_estimator import measure_estimator
from textual_inversion.demo.world import colour_name, draw, place_look, random_look


def test_its_own_error_is_as_documented():
    rng = np.random.default_rng(41)
    from textual_inversion.demo.estimator import load_estimator

    measured = measure_estimator(load_estimator(), [training_scene(rng) for _ in range(300)])
    for name in ("shape", "texture", "background", "place", "size"):
        assert measured[name] > 0.95, name
    assert measured["points"] > 0.85
    assert measured["colour"] > 0.88  # hues next to a boundary tip over
    assert measured["hue (degrees)"] < 5.0
    assert measured["period (pixels)"] < 1.0
    assert measured["angle (degrees)"] < 8.0


@pytest.mark.parametrize("name", CONCEPTS)
def test_a_concept_is_told_from_others_of_its_class(name):
    concept = CONCEPTS[name]
    rng = np.random.default_rng(5)
    others = []
    for _ in range(20):
        look = random_look(rng, concept.look.shape, concept.look.texture)
        hue = rng.uniform(-10, 10) + concept.look.hue
        other = replace(look, hue=hue % 360, second_hue=concept.look.second_hue)
        others.append(draw(place_look(other, rng)))
    own = likeness_error(concept_pictures(name, 20, seed=3), name)
    assert own < 0.35
    assert own < 0.5 * likeness_error(others, name)


def test_pictures_may_be_arrays_or_tensors():
    pictures = concept_pictures("dusk-ring", 3)
    stacked = torch.from_numpy(np.stack(pictures))
    assert as_batch(pictures).shape == as_batch(stacked).shape == (3, 3, 64, 64)
    assert as_batch(stacked[0]).shape == (1, 3, 64, 64)
    assert likeness_errors(pictures, "dusk-ring") == pytest.approx(
        likeness_errors(stacked, CONCEPTS["dusk-ring"])
    )
    details = likeness_details(pictures, "dusk-ring")
    assert {"hue", "second_hue", "period", "proportion"} <= set(details)


def test_prompt_following_counts_what_was_asked_for():
    rng = np.random.default_rng(6)
    look = random_look(rng, "square", "plain", "red")
    scenes = [
        place_look(look, rng, background="white", size="large", place=place)
        for place in ("left", "left", "right", "top")
    ]
    pictures = [draw(scene) for scene in scenes]
    rates = prompt_following(
        pictures, background="white", place="left", size="large", shape="square"
    )
    assert rates == {"background": 1.0, "place": 0.5, "size": 1.0, "shape": 1.0}
    assert prompt_following(pictures, background="black") == {"background": 0.0}
    reading = read(pictures)[0]
    assert colour_name(reading.look.hue) == "red"
