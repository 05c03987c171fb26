"""Each way of learning, on real networks: it learns, repeats itself and can be resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.tiny_models import TinyParts, pictures
from support.toy_model import ToyModel
from textual_inversion.trainer.data.training_set import Picture
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.learning.initial import initial_vectors, prepared
from textual_inversion.trainer.learning.loop import Progress, train
from textual_inversion.trainer.methods.averaging import AVERAGINGS
from textual_inversion.trainer.runs.checkpoints import load_state, save_state
from textual_inversion.trainer.settings import Settings

METHODS = {
    "plain": {},
    "window": {"timesteps": "window"},
    "logit-normal": {"timesteps": "logit-normal"},
    "min-snr": {"weighting": "min-snr"},
    "debiased": {"weighting": "debiased"},
    "offset": {"noise_offset": 0.05},
    "renorm": {"renorm": True},
    "sphere": {"optimizer": "sphere", "learning_rate": "0.1"},
    "sphere, pull": {"optimizer": "sphere", "learning_rate": "0.1", "pull": 0.1},
    "sphere, averaged": {
        "optimizer": "sphere", "learning_rate": "0.1", "averaging": "last quarter",
    },
    "averaged": {"averaging": "last quarter"},
    "ema": {"averaging": "ema"},
    "cross": {"initialization": "cross", "learning_rate": "0.05"},
    "captions": {"initialization": "captions", "init_words": ""},
    "progressive": {"progressive": True, "num_vectors": 3},
    "context": {"context": 0.001},
    "prodigy": {"optimizer": "prodigy", "learning_rate": "1"},
    "schedule-free": {"optimizer": "schedule-free", "schedule": "constant"},
    "anytime": {
        "schedule": "anytime", "optimizer": "sphere", "learning_rate": "auto", "pull": 0.1,
        "averaging": "last half",
    },
    "measured": {"weighting": "measured"},
}  # fmt: skip
PACKAGES = {"prodigy": "prodigyopt", "schedule-free": "schedulefree"}


def settings(method: str, **changes) -> Settings:
    if method in PACKAGES:
        pytest.importorskip(PACKAGES[method])
    defaults = {"init_words": "cat", "resolution": 64, "learning_rate": "0.05", "batch_size": 2,
                "schedule": "cosine", "optimizer": "adamw", "pull": 0.0,
                "averaging": "none"}  # fmt: skip
    return Settings(**(defaults | METHODS[method] | changes))


def captioned() -> list[Picture]:
    captions = ("a red photo of [name]", "[name] and a red cat")
    return [Picture(one.pixels, caption) for one, caption in zip(pictures(), captions, strict=True)]


def values(run: list[Progress]) -> list[tuple]:
    return [(p.step, p.loss, p.evaluation, p.last.fingerprint, p.kept.fingerprint) for p in run]


@pytest.mark.parametrize("method", METHODS)
def test_it_lowers_the_loss_on_the_fixed_batch(method: str, sd1: TinyParts) -> None:
    run = list(train(sd1.model(), captioned(), settings(method, steps=12, evaluations=12)))
    measured = [p.evaluation for p in run if p.evaluation is not None]
    assert measured[-1] < measured[0]
    assert torch.isfinite(run[-1].last.vectors["clip_l"]).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_is_the_same_to_the_bit(method: str, sd1: TinyParts, tmp_path: Path) -> None:
    chosen = settings(method, steps=5, batch_size=1, accumulate=2, evaluations=2)
    whole = list(train(sd1.model(), captioned(), chosen))
    save_state(whole[2].state, tmp_path / "state.safetensors")
    state = load_state(tmp_path / "state.safetensors")
    rest = list(train(sd1.model(), captioned(), chosen, resume=state))
    assert values(rest) == values(whole[3:])


@pytest.mark.parametrize("changes", [{"optimizer": "sphere"}, {"renorm": True}])
@pytest.mark.parametrize("averaging", AVERAGINGS)
def test_a_word_of_fixed_length_is_as_long_as_others(
    changes: dict, averaging: str, any_family: TinyParts
) -> None:
    model = any_family.model()
    chosen = Settings(
        init_words="cat", num_vectors=2, resolution=64, steps=8, averaging=averaging,
        learning_rate="0.1", **changes,
    )  # fmt: skip
    for progress in train(model, pictures(), chosen):
        for encoder in model.text_encoders:
            rows = progress.last.vectors[encoder.key]
            usual = encoder.vocabulary.norm(dim=1).mean().expand(2)
            torch.testing.assert_close(rows.norm(dim=1), usual, rtol=1e-4, atol=0)


def test_a_word_to_go_on_from_keeps_its_length(sd1: TinyParts) -> None:
    chosen = settings("sphere", steps=2)
    start = next(train(sd1.model(), pictures(), chosen)).last
    long = Embedding("long", {"clip_l": start.vectors["clip_l"] * 7})
    *_, last = train(sd1.model(), pictures(), chosen, start=long)
    length = long.vectors["clip_l"].norm()
    torch.testing.assert_close(last.last.vectors["clip_l"].norm(), length, rtol=1e-4, atol=0)


def test_cross_starts_from_what_the_encoders_say(any_family: TinyParts) -> None:
    model = any_family.model()
    plain = initial_vectors(model.text_encoders, "cat toy", 2)
    started = prepared(model, Settings(initialization="cross", optimizer="adamw"), plain)
    states = model.encode_prompts([model.tokenize("cat toy", 0)], {}).states[0]
    # Behind the start token stand the two words.
    joined = torch.cat([started[e.key] for e in model.text_encoders], dim=1)
    torch.testing.assert_close(joined, states[1:3])
    assert all(not torch.allclose(started[key], plain[key]) for key in plain)


def test_the_fittest_words_of_the_captions_are_where_learning_starts() -> None:
    model = ToyModel()
    red = model.text_encoders[0].vocabulary[[model.token_ids("red")[0]]]
    colour = model.encode_prompts(["[name]"], {"clip_l": red})[0]
    pixels = ((colour + 1) / 2).expand(64, 64, 3)
    captions = ["a toy cat, red, [name]", "a blue photo of [name]"]
    shown = [Picture(pixels, caption) for caption in captions]
    chosen = Settings(
        initialization="captions", init_words="blue", resolution=64, learning_rate="1e-9",
        optimizer="adamw", steps=1,
    )  # fmt: skip
    (only,) = train(model, shown, chosen)
    torch.testing.assert_close(only.last.vectors["clip_l"], red)
    with pytest.raises(InputError, match="the captions have no common word"):
        next(train(model, [Picture(pixels)], chosen))


def test_progressive_vectors_come_one_by_one(sd1: TinyParts) -> None:
    chosen = settings("progressive", steps=20, num_vectors=4, evaluations=0)
    run = list(train(sd1.model(), captioned(), chosen))
    counts = [p.last.num_vectors for p in run]
    assert (counts[0], counts[-1]) == (1, 4)
    assert counts == sorted(counts)
    assert 8 <= counts.index(4) <= 11
    start = initial_vectors(sd1.model().text_encoders, "cat", 4)["clip_l"]
    first_with_two = counts.index(2)
    assert not torch.equal(run[first_with_two].last.vectors["clip_l"][1], start[1])


def test_a_run_that_has_settled_ends_early() -> None:
    model, shown = ToyModel(), [Picture(torch.tensor([0.8, 0.4, 0.3]).expand(64, 64, 3))]
    chosen = Settings(
        init_words="cat", steps=600, evaluations=100, resolution=64, learning_rate="0.05",
        batch_size=4, stop_early=True, schedule="cosine",
    )  # fmt: skip
    run = list(train(model, shown, chosen))
    assert 60 <= len(run) < 500
    assert run[-1].step == run[-1].steps == len(run)
    measured = [p.evaluation for p in run if p.evaluation is not None]
    assert measured[-1] < 0.05 * measured[0]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"initialization": "cross", "renorm": True}, "starts from long vectors"),
        ({"initialization": "cross", "optimizer": "sphere"}, "starts from long vectors"),
        ({"stop_early": True, "evaluations": 0}, "it would never stop"),
    ],
)
def test_settings_that_exclude_each_other(changes: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Settings(**changes)
