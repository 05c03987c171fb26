"""A run that was stopped goes on as if it had never been."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.toy_model import ToyModel
from textual_inversion.trainer.data.pictures import Picture
from textual_inversion.trainer.diffusers_model.model import DiffusersModel
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.learning.loop import Progress, train
from textual_inversion.trainer.learning.state import TrainingState
from textual_inversion.trainer.runs.checkpoints import load_state, save_state
from textual_inversion.trainer.settings import Settings

COLOURS = torch.tensor([[0.8, 0.4, 0.3], [0.2, 0.6, 0.3], [0.1, 0.4, 0.9]])
PICTURES = [Picture(colour.expand(64, 64, 3)) for colour in COLOURS]


def settings(**changes) -> Settings:
    defaults = {"init_words": "cat", "steps": 24, "resolution": 64, "learning_rate": "0.05",
                "patience": "none"}  # fmt: skip
    return Settings(**(defaults | changes))


def run(
    chosen: Settings, dtype: torch.dtype = torch.float32, resume: TrainingState | None = None
) -> list[Progress]:
    return list(train(ToyModel(compute_dtype=dtype), PICTURES, chosen, resume=resume))


def values(progress: Progress) -> tuple:
    return (
        progress.step, progress.loss, progress.smoothed_loss, progress.evaluation,
        progress.learning_rate, progress.last.fingerprint, progress.best.fingerprint,
        progress.kept.fingerprint, progress.estimate,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "dtype"),
    [
        ({}, torch.float32),
        ({"num_vectors": 3, "batch_size": 2, "accumulate": 2, "flip": True}, torch.float32),
        ({"learning_rate": "0.05:5, 2:24", "keep": "best"}, torch.float32),
        ({"evaluations": 0}, torch.float32),
        ({"schedule": "cosine", "averaging": "last quarter"}, torch.float32),
        ({}, torch.float16),
    ],
)
@pytest.mark.parametrize("stop", [1, 7, 23])
def test_a_resumed_run_is_the_same_to_the_bit(
    changes: dict, dtype: torch.dtype, stop: int, tmp_path: Path
) -> None:
    chosen = settings(**changes)
    whole = run(chosen, dtype)
    save_state(whole[stop - 1].state, tmp_path / "state.safetensors")
    rest = run(chosen, dtype, load_state(tmp_path / "state.safetensors"))
    assert [values(p) for p in rest] == [values(p) for p in whole[stop:]]
    assert rest[0].seconds > whole[stop - 1].seconds


def test_a_state_does_not_change_later() -> None:
    chosen = settings()
    steps = train(ToyModel(), PICTURES, chosen)
    early = next(steps).state
    whole = [next(steps), *steps]
    assert [values(p) for p in run(chosen, resume=early)] == [values(p) for p in whole]
    # Nor does going on change it.
    assert [values(p) for p in run(chosen, resume=early)] == [values(p) for p in whole]


def test_a_finished_run_is_not_silently_left_alone() -> None:
    state = run(settings())[-1].state
    with pytest.raises(InputError, match="has made all of its 24 steps"):
        run(settings(), resume=state)


@pytest.mark.parametrize(
    ("changes", "dtype"), [({"num_vectors": 2}, torch.float32), ({}, torch.float16)]
)
def test_the_state_of_another_run_is_refused(changes: dict, dtype: torch.dtype) -> None:
    state = run(settings(steps=3))[1].state
    with pytest.raises(InputError, match="from a run with other settings"):
        run(settings(**changes), dtype, state)


def test_a_damaged_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_state(run(settings(steps=2))[0].state, path)
    content = path.read_bytes()
    for length in itertools.chain(range(0, len(content), 97), [len(content) - 1]):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match="is not a checkpoint"):
            load_state(path)
    save_file({"emb_params": torch.zeros(1, 768)}, path)
    with pytest.raises(InputError, match="is not a checkpoint"):
        load_state(path)
    with pytest.raises(InputError, match="is not a checkpoint"):
        load_state(tmp_path / "absent.safetensors")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_run_goes_on_on_a_gpu(saved_sd1: Path, tmp_path: Path) -> None:
    """All that a checkpoint holds is read on the CPU."""
    model, chosen = DiffusersModel.from_pretrained(saved_sd1, "cuda"), settings(steps=4)
    whole = list(train(model, PICTURES, chosen))
    save_state(whole[1].state, tmp_path / "state.safetensors")
    state = load_state(tmp_path / "state.safetensors")
    *_, last = train(model, PICTURES, chosen, resume=state)
    torch.testing.assert_close(last.last.vectors, whole[-1].last.vectors, rtol=1e-3, atol=1e-4)
