"""Which runs and words are the same, and which are only alike."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.toy_model import ToyModel
from textual_inversion.trainer.data.pictures import Picture
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.learning.loop import train
from textual_inversion.trainer.runs.run import open_run
from textual_inversion.trainer.runs.run_inputs import (
    find_alike,
    fingerprints,
    has_settings,
    is_learned_from,
    runs_of,
)
from textual_inversion.trainer.settings import Settings

PICTURES = [Picture(torch.tensor([0.8, 0.4, 0.3]).expand(64, 64, 3))]
OTHERS = [Picture(torch.tensor([0.1, 0.4, 0.3]).expand(64, 64, 3))]
SETTINGS = Settings(init_words="cat", steps=1, resolution=64, evaluations=0)


@pytest.fixture(scope="module")
def word() -> Embedding:
    return list(train(ToyModel(), PICTURES, SETTINGS))[-1].kept


def test_a_word_knows_what_it_was_learned_from(word: Embedding) -> None:
    assert is_learned_from(word, ToyModel(), SETTINGS, PICTURES, None)
    assert is_learned_from(word, ToyModel(), replace(SETTINGS, previews=2), PICTURES, None)
    assert not is_learned_from(word, ToyModel(), SETTINGS, OTHERS, None)
    assert not is_learned_from(word, ToyModel(), SETTINGS, PICTURES, word)
    # More steps would make another word, so that it is not taken for that one.
    for changed in (replace(SETTINGS, seed=1), replace(SETTINGS, steps=2)):
        assert not has_settings(word, changed)
    assert not has_settings(Embedding("bare", word.vectors), SETTINGS)


def test_runs_are_found_by_settings_alone_or_with_all_inputs(tmp_path: Path) -> None:
    marks = fingerprints(ToyModel(), PICTURES)
    for seed in (1, 2, 1):
        with open_run(tmp_path, replace(SETTINGS, seed=seed), marks) as run:
            run.end("finished")
    given = {"name": "my-word", "init_words": "cat", "steps": 1, "resolution": 64,
             "evaluations": 0, "learning_rate": "auto", "preset": "none"}  # fmt: skip
    found = [find_alike(tmp_path, Settings, given | {"seed": seed}) for seed in (1, 2, 3)]
    assert [run and run.id for run in found] == ["my-word_00003", "my-word_00002", None]
    # Some may be unknown, because they come through links.
    assert find_alike(tmp_path, Settings, {"name": "my-word"}).id == "my-word_00003"
    assert find_alike(tmp_path, Settings, {"seed": 1}) is None
    with pytest.raises(InputError):
        find_alike(tmp_path, Settings, {"name": "my word"})
    assert next(runs_of(tmp_path, replace(SETTINGS, seed=2), marks)).id == "my-word_00002"
    others = fingerprints(ToyModel(), OTHERS)
    assert next(runs_of(tmp_path, SETTINGS, others), None) is None


@pytest.mark.parametrize("noted", [{"name": "my-word", "steps": "many"}, {"schedule": "future"}])
def test_a_run_that_cannot_be_understood_hides_none(tmp_path: Path, noted: dict[str, str]) -> None:
    """It may be damaged, or of a later version."""
    with open_run(tmp_path, SETTINGS, fingerprints(ToyModel(), PICTURES)) as run:
        run.end("finished")
    newer = tmp_path / "my-word_00002"
    newer.mkdir()
    (newer / "settings.json").write_text(json.dumps({"settings": noted}))
    assert find_alike(tmp_path, Settings, {"name": "my-word"}).id == "my-word_00001"
