"""Recipes by name."""

from __future__ import annotations

import dataclasses

import pytest
from textual_inversion.trainer.cli.commands import CommandParser
from textual_inversion.trainer.cli.options import add_files, add_recipes, add_settings, settings_of
from textual_inversion.trainer.presets import NONE, PRESETS, with_preset
from textual_inversion.trainer.settings import Settings, described_fields

MINE = ("name", "init_words", "num_vectors", "resolution", "seed", "previews", "checkpointing")
"""What a recipe has no business with."""


@pytest.mark.parametrize("name", PRESETS)
def test_a_recipe_fits_the_settings(name: str) -> None:
    preset = PRESETS[name]
    settings = Settings(**preset.values)
    defaults = {field.name: field.default for field, _ in described_fields(Settings)}
    for key, value in preset.values.items():
        assert getattr(settings, key) == value
        assert type(value) is type(defaults[key])
        assert key not in MINE
    assert preset.help


def test_a_recipe_takes_the_place_of_what_it_names_alone() -> None:
    mine = Settings(name="mug", flip=True, steps=7, pull=0.3, optimizer="adamw")
    before = dataclasses.asdict(mine)
    after = with_preset("fast", before)
    changed = {key for key in before if before[key] != after[key]}
    assert {"steps", "optimizer"} <= changed <= set(PRESETS["fast"].values)
    assert (after["name"], after["pull"]) == ("mug", 0.3)
    assert with_preset(NONE, before) == before


def test_recipes_of_others_do_not_depend_on_settings_before_them() -> None:
    """Whatever else had been tried, the recipe is the same."""
    ours = PRESETS["fast"].values.keys()
    for name in ("paper", "diffusers", "A1111", "kohya", "onetrainer"):
        assert ours <= PRESETS[name].values.keys()


def test_options_count_more_than_the_recipe() -> None:
    def chosen(*options: str) -> Settings:
        parser = CommandParser()
        add_files(parser)
        add_settings(parser, Settings)
        add_recipes(parser)
        needed = ["--model", "m", "--images", ".", "--name", "mug"]
        return settings_of(parser.parse_known_args([*needed, *options])[0])

    plain = chosen("--preset", "diffusers")
    assert plain == Settings(**with_preset("diffusers", {"name": "mug"}))
    changed = chosen("--steps", "9", "--preset", "diffusers", "--no-flip")
    assert changed == dataclasses.replace(plain, steps=9, flip=False)
    assert chosen() == Settings(name="mug")
