from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from textual_inversion.demo.captions import OBJECT_TEMPLATES, STAND_IN, caption, words
from textual_inversion.demo.concepts import (
    CONCEPTS,
    MARGIN,
    attribute_errors,
    concept_pictures,
    concept_scenes,
    is_held_out,
    look_error,
    training_scene,
)
from textual_inversion.demo.world import (
    BACKGROUNDS,
    COLOURS,
    PLACES,
    SHAPES,
    SIZE,
    SIZES,
    colour_name,
    draw,
    place_look,
    random_look,
    random_scene,
)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_pictures_are_antialiased_and_in_range(rng):
    for _ in range(30):
        picture = draw(random_scene(rng))
        assert picture.shape == (128, 128, 3)
        assert picture.dtype == np.float32
        assert picture.min() >= 0.0
        assert picture.max() <= 1.0
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10


def test_same_scene_same_picture(rng):
    scene = random_scene(rng)
    assert np.array_equal(draw(scene), draw(scene))


@pytest.mark.parametrize("shape", SHAPES)
def test_objects_stand_where_and_as_large_as_the_scene_says(shape):
    rng = np.random.default_rng(1)
    look = replace(random_look(rng, shape, "plain", "red"), proportion=0.9, tilt=0.0, softness=0.5)
    small, largest = SIZES["small"]
    for place, (x, y) in PLACES.items():
        scene = place_look(look, rng, background="white", size="small", place=place)
        picture = draw(scene, SIZE)  # a pixel for each unit of the world
        ys, xs = np.nonzero(picture[..., 1] < 0.6)
        assert abs((xs.min() + xs.max()) / 2 - x) < 6
        assert abs((ys.min() + ys.max()) / 2 - y) < 6
        assert 0.7 * small < xs.max() - xs.min() <= 2 * largest


def test_every_fine_attribute_changes_the_picture(rng):
    look = replace(
        random_look(rng, "star", "striped", "blue"),
        points=5,
        angle=30.0,
        period=10.0,
        proportion=0.3,
        softness=1.0,
        shade=0.5,
    )
    scene = place_look(look, rng, background="white", size="large", place="center")
    plain = draw(scene)
    for change in (
        {"points": 6},
        {"angle": 60.0},
        {"period": 13.0},
        {"proportion": 0.6},
        {"softness": 3.0},
        {"shade": 0.8},
        {"hue": look.hue + 25.0},
        {"second_hue": look.second_hue + 40.0},
    ):
        other = draw(replace(scene, look=replace(look, **change)))
        assert np.abs(other - plain).mean() > 0.004, change


def test_colour_names_cover_the_circle():
    assert {colour_name(hue) for hue in range(360)} == set(COLOURS)
    assert colour_name(359.0) == colour_name(1.0) == "red"


def test_full_caption_names_what_is_coarse(rng):
    for _ in range(50):
        scene = random_scene(rng)
        text = caption(scene)
        assert scene.look.shape in text
        assert colour_name(scene.look.hue) in text
        assert f"on a {scene.background} background" in text
        assert scene.size == "medium" or scene.size in text


def test_captions_vary_and_stay_within_the_word_list(rng):
    known = set(words())
    scene = random_scene(rng)
    seen = set()
    for _ in range(400):
        text = caption(scene, rng)
        seen.add(text)
        assert set(text.replace(",", " ").replace("-", " ").split()) <= known
    assert len(seen) > 200
    for template in OBJECT_TEMPLATES:
        assert set(template.replace("{}", "").replace("-", " ").split()) <= known


@pytest.mark.parametrize("kind", ["object", "style"])
def test_stand_in_captions_hold_the_stand_in_once(rng, kind):
    for _ in range(100):
        assert caption(random_scene(rng), rng, learned=kind).count(STAND_IN) == 1


def test_there_are_objects_and_styles_to_learn():
    kinds = [concept.kind for concept in CONCEPTS.values()]
    assert kinds.count("object") >= 6
    assert kinds.count("style") >= 2


@pytest.mark.parametrize("concept", CONCEPTS.values(), ids=lambda concept: concept.name)
def test_likeness_is_0_for_the_concept_and_1_for_its_class(concept):
    assert look_error(concept.look, concept) == 0.0
    rng = np.random.default_rng(2)
    look = concept.look
    errors = []
    for _ in range(300):
        other = random_look(rng, look.shape, look.texture, colour_name(look.hue))
        second = random_look(rng, colour=colour_name(look.second_hue)).hue
        errors.append(look_error(replace(other, second_hue=second), concept))
    assert np.mean(errors) == pytest.approx(1.0, abs=0.12)
    assert all(value == 0.0 for value in attribute_errors(look, concept).values())


def test_a_wrong_kind_is_further_off_than_a_wrong_detail():
    concept = CONCEPTS["lagoon-star"]
    detail = look_error(replace(concept.look, points=6), concept)
    shape = look_error(replace(concept.look, shape="ring", points=0), concept)
    texture = look_error(replace(concept.look, texture="plain"), concept)
    assert 0.0 < detail < 0.5 < min(shape, texture)


def test_training_leaves_the_concepts_out(rng):
    assert all(is_held_out(concept.look) for concept in CONCEPTS.values())
    for _ in range(500):
        look = training_scene(rng).look
        assert all(look_error(look, c, every=True) >= MARGIN for c in CONCEPTS.values())


@pytest.mark.parametrize("name", CONCEPTS)
def test_concept_scenes_vary_around_one_look(name):
    scenes = concept_scenes(name, 30)
    concept = CONCEPTS[name]
    assert all(look_error(scene.look, concept) == 0.0 for scene in scenes)
    assert {scene.place for scene in scenes} == set(PLACES)
    assert {scene.size for scene in scenes} == set(SIZES)
    assert len({scene.background for scene in scenes}) > len(BACKGROUNDS) // 3
    if concept.kind == "style":
        assert len({scene.look.shape for scene in scenes}) > 3
    assert scenes == concept_scenes(name, 30)
    assert scenes != concept_scenes(name, 30, seed=1)
    assert np.array_equal(concept_pictures(name, 1)[0], draw(scenes[0]))


def test_drawing_needs_no_torch():
    code = (
        "import sys, textual_inversion.demo.concepts\n"
        "assert not {'torch', 'diffusers', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
