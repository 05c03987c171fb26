"""Settings and names: bad values get one sentence."""

from __future__ import annotations

import pytest
from textual_inversion.trainer.embeddings.embedding import check_name
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.methods.optimizers import OPTIMIZERS
from textual_inversion.trainer.settings import (
    NegativeSettings,
    RatingSettings,
    Settings,
    described_fields,
)


def test_defaults_are_valid_and_described() -> None:
    Settings()
    for field, choice in described_fields(Settings):
        assert choice.help.endswith("."), field.name


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"num_vectors": 0}, "num_vectors is 0: it must be at least 1."),
        ({"steps": 10**6}, "steps is 1000000: it must be at most 100000."),
        ({"learn": "face"}, "learn is “face”: choose one of object, style."),
        ({"resolution": 500}, "resolution is 500: it must be a multiple of 8."),
        ({"seed": -1}, "seed is -1: it must be at least 0."),
        ({"pull": float("nan")}, "pull is nan: it must be at least 0.0."),
        ({"learning_rate": "fast"}, "The learning rate “fast” cannot be read"),
        ({"memory": "much"}, "memory is “much”: write auto, or a number of GB such as 8."),
        ({"memory": "-1"}, "memory is “-1”: write auto"),
    ],
)
def test_values_out_of_range(values: dict, sentence: str) -> None:
    with pytest.raises(InputError) as raised:
        Settings(**values)
    assert str(raised.value).startswith(sentence)


@pytest.mark.parametrize(("text", "size"), [("auto", None), (" 8 ", 8 << 30), ("6.5 GB", 13 << 29)])
def test_memory(text: str, size: int | None) -> None:
    assert Settings(memory=text).memory_bytes == size


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "a,b", "<a>", "[a", "a/b", "a\\b", "../a", ".a", "a:b", "(a)", "a*b", "a?b"],
)
def test_name_that_prompts_or_disks_cannot_carry(name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of an embedding"):
        check_name(name)


@pytest.mark.parametrize("name", ["my-word", "Word_2", "größe", "v1.5-style", "猫"])
def test_good_names(name: str) -> None:
    assert check_name(f" {name} ") == name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_without_a_rate_each_optimizer_has_its_own(optimizer: str) -> None:
    settings = Settings(optimizer=optimizer, learning_rate=" auto ")
    known = OPTIMIZERS[optimizer]
    usual = known.falling_rate or known.rate
    assert settings == Settings(optimizer=optimizer, learning_rate=usual)
    assert Settings(optimizer=optimizer) == settings
    assert Settings(optimizer=optimizer, schedule="cosine").learning_rate == known.rate


@pytest.mark.parametrize(
    ("settings", "guidance"),
    [
        (Settings(), None),
        (NegativeSettings(guidance=5.0), 1.0),
        (NegativeSettings(objective="good pictures", guidance=5.0), 5.0),
        (NegativeSettings(objective="pair", guidance=5.0), 5.0),
        (RatingSettings(guidance=5.0), 5.0),
        (RatingSettings(word_for="described negative", guidance=5.0), 1.0),
        (RatingSettings(word_for="both", guidance=5.0), 5.0),
        (RatingSettings(word_for="prompt", guidance=5.0), None),
    ],
)
def test_words_for_negative_prompts_say_what_guidance_they_are_for(
    settings: Settings, guidance: float | None
) -> None:
    """By which a run says where usual guidance leaves the negative prompt out."""
    assert settings.guidance_of_negative == guidance
