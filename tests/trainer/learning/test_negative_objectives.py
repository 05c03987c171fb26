"""Words for negative prompts: what is minimised, against diffusers and against known answers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from support.tiny_models import TinyParts
from support.toy_model import ToyModel
from textual_inversion.trainer.data.batches import Batch
from textual_inversion.trainer.data.checks import checks
from textual_inversion.trainer.data.pictures import Picture, as_unlike
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.embeddings.metadata import is_clearly_positive, is_negative
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.learning.chosen_objective import objective_of
from textual_inversion.trainer.learning.loop import Progress, train
from textual_inversion.trainer.learning.losses import batch_losses
from textual_inversion.trainer.learning.negative_objectives import (
    DEFECT_TEMPLATES,
    FromBadPictures,
    FromGoodPictures,
    Pair,
)
from textual_inversion.trainer.learning.objectives import Objective, TokenizedPrompts
from textual_inversion.trainer.methods import diffusion as objective
from textual_inversion.trainer.methods.guidance import guide
from textual_inversion.trainer.methods.sampler import sample
from textual_inversion.trainer.settings import NegativeSettings, RatingSettings, Settings

SCALE = 3.0
TASKS = {
    "bad": FromBadPictures(),
    "good": FromGoodPictures(SCALE, 0.0),
    "good, guidance kept": FromGoodPictures(SCALE, 1.0),
    "good, guidance half kept": FromGoodPictures(SCALE, 0.5),
    "pair": Pair(SCALE),
}
any_task = pytest.mark.parametrize("objective", TASKS.values(), ids=TASKS.keys())


def chosen(**changes: Any) -> NegativeSettings:
    defaults = {"steps": 5, "resolution": 64, "learning_rate": "0.05", "schedule": "cosine"}
    return NegativeSettings(**(defaults | changes))


def prompts_for(objective: Objective) -> list[str]:
    if isinstance(objective, FromGoodPictures):
        return ["a red photo", "a toy cat"]
    return ["a red photo, [name]", "a toy cat [name]"]


def batch(objective: Objective, masks: torch.Tensor | None = None) -> Batch:
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 2, 4, 8, 8, generator=generator)
    return Batch(latents, noise, torch.tensor([300, 700]), prompts_for(objective), masks)


def rows(parts: TinyParts, objective: Objective) -> dict[str, torch.Tensor]:
    return parts.vectors(2 * objective.words)


def expected_loss(parts: TinyParts, objective: Objective, drawn: Batch) -> torch.Tensor:
    """The formulas as they stand in the papers, on diffusers' own U-Net and scheduler."""
    from diffusers import DDPMScheduler

    model = parts.model()
    oracle = DDPMScheduler.from_config(parts.scheduler.config)
    noisy = oracle.add_noise(drawn.latents, drawn.noise, drawn.timesteps)
    first = second = rows(parts, objective)
    if objective.words == 2:
        first, second = objective.split(first)

    def unet(prompts: list[str], vectors: dict[str, torch.Tensor]) -> torch.Tensor:
        encoded = model.encode_prompts([model.tokenize(p, 2) for p in prompts], vectors)
        added = None
        if encoded.pooled is not None:
            time_ids = torch.tensor([[64.0, 64, 0, 0, 64, 64]]).repeat(2, 1)
            added = {"text_embeds": encoded.pooled, "time_ids": time_ids}
        return parts.unet(noisy, drawn.timesteps, encoded.states, added_cond_kwargs=added).sample

    positive = unet(list(drawn.prompts), first)
    prediction = positive
    if not isinstance(objective, FromBadPictures):
        negative = unet(["[name]", "[name]"], second)
        prediction = negative + SCALE * (positive - negative)
        if isinstance(objective, FromGoodPictures):
            empty = unet(["", ""], second)
            prediction = prediction - objective.keep * (SCALE - 1) * (positive - empty)
    is_v = oracle.config.prediction_type == "v_prediction"
    velocity = oracle.get_velocity(drawn.latents, drawn.noise, drawn.timesteps)
    return torch.nn.functional.mse_loss(prediction, velocity if is_v else drawn.noise)


@any_task
def test_loss_is_the_formula_on_diffusers_parts(
    any_family: TinyParts, objective: Objective
) -> None:
    model = any_family.model()
    tokenized = TokenizedPrompts(model, 2)
    with torch.no_grad():
        loss = batch_losses(
            model, batch(objective), tokenized, rows(any_family, objective), objective=objective
        ).mean()
        expected = expected_loss(any_family, objective, batch(objective))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


@any_task
def test_gradient_is_that_of_finite_differences(
    any_family: TinyParts, objective: Objective
) -> None:
    parts = copy.deepcopy(any_family)
    for module in parts.modules():
        module.double()
    model, drawn = parts.model(), batch(objective)
    tokenized = TokenizedPrompts(model, 2)
    vectors = {k: v.double().requires_grad_() for k, v in rows(parts, objective).items()}

    def value(changed: dict[str, torch.Tensor]) -> torch.Tensor:
        return batch_losses(model, drawn, tokenized, changed, objective=objective).mean()

    value(vectors).backward()
    for key, trained in vectors.items():
        halves_of = trained.grad.chunk(objective.words)
        assert all(half.norm() > 0 for half in halves_of), "a word that learns nothing"
        direction, step = trained.grad / trained.grad.norm(), 1e-2
        with torch.no_grad():
            ahead = value({**vectors, key: trained + step * direction})
            behind = value({**vectors, key: trained - step * direction})
        slope = (ahead - behind) / (2 * step)
        assert slope.item() == pytest.approx(trained.grad.norm().item(), rel=5e-3)


@pytest.mark.parametrize(
    ("objective", "passes"),
    [
        (TASKS["bad"], [(2, True)]),
        # Captions need no gradient, and nothing that does not count is computed.
        (TASKS["good"], [(2, False), (2, True)]),
        (TASKS["good, guidance kept"], [(4, False), (2, True)]),
        (TASKS["pair"], [(2, True), (2, True)]),
    ],
)
def test_nothing_is_computed_for_nothing(
    sd1: TinyParts, objective: Objective, passes: list[Any]
) -> None:
    model, found = sd1.model(), []
    original = model.predict

    def watch(noisy, timesteps, conditioning):
        prediction = original(noisy, timesteps, conditioning)
        found.append((len(noisy), prediction.requires_grad))
        return prediction

    model.predict = watch  # type: ignore[method-assign]
    vectors = {k: v.requires_grad_() for k, v in rows(sd1, objective).items()}
    batch_losses(
        model, batch(objective), TokenizedPrompts(model, 2), vectors, objective=objective
    ).mean()
    assert found == passes


def run(model: Any, shown: list[Picture], settings: NegativeSettings, **more: Any):
    return list(train(model, shown, settings, **more))


@any_task
def test_learning_lowers_the_loss_of_a_fixed_batch(sd1: TinyParts, objective: Objective) -> None:
    model, drawn = sd1.model(), batch(objective)
    tokenized = TokenizedPrompts(model, 2)
    vectors = {k: v.requires_grad_() for k, v in rows(sd1, objective).items()}
    optimizer = torch.optim.Adam(vectors.values(), lr=0.02)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = batch_losses(model, drawn, tokenized, vectors, objective=objective).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)


# On the toy, a prompt means a colour: pictures in the colours of their captions are predicted
# without a mistake, unless the model adds one.

CAPTIONS = ("red", "blue", "a toy")
MISTAKE = torch.tensor([0.12, -0.1, 0.08])


def toy(mistaken: bool) -> ToyModel:
    return ToyModel(change=lambda colour: colour + MISTAKE if mistaken else colour)


def good_pictures() -> list[Picture]:
    colours = ToyModel().encode_prompts(CAPTIONS, {"clip_l": torch.zeros(1, 4)})
    return [
        Picture((colour / 2 + 0.5).expand(64, 64, 3), caption)
        for colour, caption in zip(colours, CAPTIONS, strict=True)
    ]


def guided_colour(model: ToyModel, prompt: str, word: Embedding | None) -> torch.Tensor:
    drawn = sample(
        model,
        prompt,
        word.vectors if word else {"clip_l": torch.zeros(1, 4)},
        latent_shape=(3, 8, 8),
        seed=1,
        guidance=2.0,
        negative="[name]" if word else "",
    )
    return drawn.mean((0, 1))


def negative_for(model: ToyModel, keep: float) -> Progress:
    settings = chosen(
        objective="good pictures", guidance=2.0, keep_guidance=keep, steps=200, batch_size=3,
        learning_rate="0.03", init_words="cat",
    )  # fmt: skip
    return run(model, good_pictures(), settings)[-1]


@pytest.mark.parametrize("prompt", [*CAPTIONS, "a photo of the cat"])
@pytest.mark.parametrize("mistaken", [False, True])
def test_mistakes_are_corrected_and_nothing_else_is_changed(mistaken: bool, prompt: str) -> None:
    """A negative from good pictures takes the model's mistake away, for other prompts too.

    A model without a mistake is guided as by an empty negative prompt.
    """
    model = toy(mistaken)
    word = negative_for(model, keep=1.0).last
    plain = guided_colour(model, prompt, None)
    expected = plain - MISTAKE / 2 * mistaken  # halved by the way from latents to pixels
    found = guided_colour(model, prompt, word)
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)


def test_without_keeping_guidance_it_is_weakened() -> None:
    """Why the default is to keep it: where predictions are right, the best negative is the caption.

    The negative ends between the captions, so that they are guided less than without it.
    """
    model = toy(mistaken=False)
    words = {keep: negative_for(model, keep).last for keep in (0.0, 1.0)}

    def strength(word: Embedding | None) -> float:
        """How far pictures of different captions are apart."""
        colours = torch.stack([guided_colour(model, c, word) for c in CAPTIONS])
        mean = colours.mean(0)
        own = torch.stack([p.pixels[0, 0] for p in good_pictures()]).mean(0)
        return (mean - own).norm().item()

    assert strength(words[0.0]) < 0.3 * strength(None)
    assert strength(words[1.0]) == pytest.approx(strength(None), rel=0.1)


def test_good_pictures_start_where_a_negative_changes_nothing(sd1: TinyParts) -> None:
    model, objective = sd1.model(), FromGoodPictures(SCALE, 1.0)

    def said(**changes: Any) -> torch.Tensor:
        started = objective.initial(model, chosen(num_vectors=3, **changes), None)
        return model.encode_prompts([model.tokenize("[name]", 3)], started).states

    empty = model.encode_prompts([model.tokenize("", 0)], {}).states
    torch.testing.assert_close(said(), empty)
    assert not torch.allclose(said(init_words="cat"), empty)


def test_the_vectors_stay_of_a_usual_length() -> None:
    """The mistake is bounded, and so is what learns it: nothing runs away in a long run."""
    for keep in (0.0, 1.0):
        progress = negative_for(toy(mistaken=True), keep)
        usual = ToyModel().text_encoders[0].vocabulary.norm(dim=1).max().item()
        assert progress.norms["clip_l"] < 1.5 * usual


def test_a_pair_draws_the_pictures_together() -> None:
    model, colour = ToyModel(), torch.tensor([0.7, 0.4, 0.3])
    settings = chosen(
        objective="pair", guidance=2.0, steps=250, batch_size=4, init_words="cat", num_vectors=2
    )
    word = run(model, [Picture(colour.expand(64, 64, 3))], settings)[-1].last
    words = objective_of(settings).hand_out(word)
    values = [model.encode_prompts(["[name]"], w.vectors)[0] for w in words]
    found = guide(*values, 2.0) / 2 + 0.5
    torch.testing.assert_close(found, colour, atol=0.03, rtol=0)
    assert (values[0] - values[1]).norm() > 0.1


def test_a_pair_comes_apart_into_two_words() -> None:
    settings = chosen(objective="pair", name="mug", num_vectors=3)
    joint = Embedding("mug", {"clip_l": torch.arange(24.0).view(6, 4)}, {"a": "b"})
    positive, negative = objective_of(settings).hand_out(joint)
    assert (positive.name, negative.name) == ("mug", "mug-neg")
    assert torch.equal(positive.vectors["clip_l"], joint.vectors["clip_l"][:3])
    assert torch.equal(negative.vectors["clip_l"], joint.vectors["clip_l"][3:])
    assert negative.metadata["modelspec.trigger_phrase"] == "mug-neg"
    assert is_negative("x", negative.metadata)
    assert not is_negative("x", positive.metadata)


@pytest.mark.parametrize(
    "settings", [chosen(objective="pair"), RatingSettings(word_for="both")], ids=["pair", "ratings"]
)
def test_a_pair_goes_on_from_a_word_of_unequal_parts(settings: Settings, sdxl: TinyParts) -> None:
    """Files may have fewer vectors for one encoder than for another."""
    model = sdxl.model()
    counts = dict(zip((e.key for e in model.text_encoders), (2, 4), strict=True))
    start = Embedding(
        "start", {e.key: torch.ones(counts[e.key], e.width) for e in model.text_encoders}
    )
    joint = Embedding("w", objective_of(settings).initial(model, settings, start))
    positive, negative = objective_of(settings).hand_out(joint)
    assert {key: len(rows) for key, rows in negative.vectors.items()} == counts
    for key, rows in start.vectors.items():
        assert torch.equal(positive.vectors[key], rows)


@pytest.mark.parametrize("objective_", ["bad pictures", "good pictures", "pair"])
def test_the_notes_say_which_word_is_a_negative(objective_: str) -> None:
    caption = "red" if objective_ == "good pictures" else None
    settings = chosen(objective=objective_, steps=1)
    shown = [Picture(torch.rand(64, 64, 3), caption)]
    *positive, negative = objective_of(settings).hand_out(run(ToyModel(), shown, settings)[-1].last)
    assert negative.metadata["modelspec.is_negative_embedding"] == "true"
    assert len(positive) == (objective_ == "pair")
    assert all(is_clearly_positive(word.name, word.metadata) for word in positive)


def test_bad_pictures_have_prompts_for_defects() -> None:
    model = ToyModel()
    shown = [Picture(torch.rand(64, 64, 3), caption) for caption in (None, "red", "blue, [name]")]
    run(model, shown, chosen(steps=30, evaluations=0))
    seen = set(model.encoded_prompts)
    own = {"red, [name]", "blue, [name]"}
    assert own < seen <= own | set(DEFECT_TEMPLATES)


@pytest.mark.parametrize(
    ("objective_", "warned"), [("bad pictures", True), ("good pictures", False), ("pair", True)]
)
def test_checks_know_which_captions_need_the_word(objective_: str, warned: bool) -> None:
    shown = [Picture(torch.rand(64, 64, 3), "a red toy")]
    settings = chosen(objective=objective_)
    found = checks(shown, settings, prompts=objective_of(settings).prompts)
    assert any("Captions without the word" in sentence for sentence in found) == warned


@pytest.mark.parametrize(
    ("caption", "message"),
    [
        (None, "needs a caption for each"),
        ("  ", "needs a caption for each"),
        ("a my-negative cat", "contains the word that is to be a negative"),
        ("a [name] cat", "contains the word that is to be a negative"),
    ],
)
def test_captions_that_good_pictures_cannot_have(caption: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(
            ToyModel(), [Picture(torch.rand(64, 64, 3), caption)], chosen(objective="good pictures")
        )


def test_pictures_of_something_else_say_nothing_to_a_word_from_good_ones() -> None:
    pictures = [Picture(torch.rand(64, 64, 3), "red"), as_unlike(Picture(torch.rand(64, 64, 3)))]
    with pytest.raises(InputError, match="unlike_images cannot be used with the objective"):
        run(ToyModel(), pictures, chosen(objective="good pictures"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "ugly"}, "objective is “ugly”: choose one of bad pictures"),
        ({"guidance": 1.0}, "guidance is 1.0: it must be at least 1.1"),
        ({"keep_guidance": 2.0}, "keep_guidance is 2.0: it must be at most 1.0"),
        ({"objective": "pair", "name": "n" * 95}, "too long for a pair"),
    ],
)
def test_settings_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        chosen(**changes)


def test_guidance_is_linear_in_what_the_network_predicts() -> None:
    """Why the same formula serves epsilon, v and flow: it gives the same guided picture."""
    generator = torch.Generator().manual_seed(3)
    x0s, noise = torch.randn(2, 1, 4, 8, 8, generator=generator), torch.randn(1, 4, 8, 8)
    alpha, sigma = torch.tensor(0.8), torch.tensor(0.6)
    noisy = objective.add_noise(torch.randn(1, 4, 8, 8), noise, alpha, sigma)
    found = []
    for kind in ("epsilon", "v_prediction"):
        predictions = []
        for x0 in x0s:
            claimed = (noisy - alpha * x0) / sigma
            predictions.append(objective.target(kind, x0, claimed, alpha, sigma))
        guided = guide(predictions[0], predictions[1], SCALE)
        found.append(objective.split_prediction(kind, noisy, guided, alpha, sigma)[0])
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("weighting", ["none", "measured"])
@pytest.mark.parametrize("objective", ["bad pictures", "good pictures", "pair"])
def test_it_ends_by_itself(objective: str, weighting: str) -> None:
    colour = torch.tensor([0.8, 0.4, 0.3]).expand(64, 64, 3)
    shown = [Picture(colour, "a red toy"), Picture(colour * 0.7, "a blue toy")]
    settings = NegativeSettings(
        objective=objective, weighting=weighting, init_words="cat", num_vectors=2, resolution=64,
        evaluations=0,
    )  # fmt: skip
    *_, progress = train(ToyModel(), shown, settings)
    assert 40 <= progress.step < 1000
    assert not progress.cut_off
