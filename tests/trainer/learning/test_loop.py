"""The loop, on a model whose right answer is known."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from support.toy_model import ToyModel
from textual_inversion.trainer.data.batches import draw_batch
from textual_inversion.trainer.data.pictures import Picture
from textual_inversion.trainer.data.training_set import encode
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.learning.diagnostics import is_evaluated
from textual_inversion.trainer.learning.loop import DivergedError, Progress, train
from textual_inversion.trainer.learning.losses import batch_losses
from textual_inversion.trainer.methods.sampler import sample
from textual_inversion.trainer.settings import Settings

COLOUR = torch.tensor([0.8, 0.4, 0.3])


def plain(colour: torch.Tensor = COLOUR, **options) -> Picture:
    return Picture(colour.expand(64, 64, 3), **options)


def settings(**changes) -> Settings:
    """Plain AdamW, whose steps can be told beforehand."""
    defaults = {"init_words": "cat", "steps": 30, "resolution": 64, "learning_rate": "0.05",
                "schedule": "cosine", "optimizer": "adamw", "pull": 0.0, "averaging": "none",
                "batch_size": 1}  # fmt: skip
    return Settings(**(defaults | changes))


def last(model: ToyModel, pictures: list[Picture], chosen: Settings, **options) -> Progress:
    *_, progress = train(model, pictures, chosen, **options)
    return progress


def colour_of(model: ToyModel, word: Embedding, steps: int = 10) -> torch.Tensor:
    """The colour that the model draws for the word."""
    prompt = "a photo of [name]"
    drawn = sample(model, prompt, word.vectors, latent_shape=(3, 8, 8), seed=1, steps=steps,
                   guidance=1)  # fmt: skip
    return drawn.mean((0, 1))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "flow"])
def test_the_word_becomes_what_the_pictures_show(kind) -> None:
    model = ToyModel(kind)
    run = list(train(model, [plain()], settings(steps=150, batch_size=4)))
    assert run[-1].loss < 0.01 * run[0].loss
    torch.testing.assert_close(colour_of(model, run[-1].last), COLOUR, atol=0.02, rtol=0)


def test_progress_tells_what_happened() -> None:
    run = list(train(ToyModel(), [plain()], settings(steps=3, num_vectors=2)))
    assert [progress.step for progress in run] == [1, 2, 3]
    assert run[0].learning_rate == 0.05 > run[1].learning_rate > run[2].learning_rate
    assert run[0].smoothed_loss == run[0].loss
    assert run[2].last.vectors["clip_l"].shape == (2, 4)
    assert run[2].norms["clip_l"] == pytest.approx(
        run[2].last.vectors["clip_l"].norm(dim=1).mean().item()
    )
    assert str(run[0]).startswith("step 1/3 · loss ")
    notes = run[1].last.metadata
    assert notes["textual_inversion.steps"] == "2"
    assert notes["modelspec.architecture"] == "toy"
    assert json.loads(notes["textual_inversion.settings"])["init_words"] == "cat"


def test_same_seed_same_word_and_another_seed_another() -> None:
    pictures = [plain(), plain(1 - COLOUR)]
    words = [last(ToyModel(), pictures, settings(seed=seed)).last for seed in (5, 5, 6)]
    assert words[0].fingerprint == words[1].fingerprint != words[2].fingerprint


def test_largest_seed() -> None:
    last(ToyModel(), [plain()], settings(seed=2**53 - 1, steps=1))


def test_every_step_has_draws_of_its_own() -> None:
    losses = {progress.loss for progress in train(ToyModel(), [plain()], settings(steps=10))}
    assert len(losses) == 10


def test_each_picture_comes_once_before_any_comes_again() -> None:
    model = ToyModel()
    pictures = [plain(caption=f"{word} [name]") for word in ("red", "blue", "toy")]
    last(model, pictures, settings(steps=6, batch_size=2, evaluations=0))
    turns = [model.encoded_prompts[i : i + 3] for i in range(0, 12, 3)]
    assert all(len(set(turn)) == 3 for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1


def test_a_batch_may_be_larger_than_the_set() -> None:
    assert last(ToyModel(), [plain()], settings(steps=2, batch_size=5)).step == 2


def test_templates_are_drawn_anew() -> None:
    model = ToyModel()
    last(model, [plain()], settings(steps=30))
    assert len(set(model.encoded_prompts)) > 10


def test_accumulated_gradient_is_the_mean_over_batches() -> None:
    model, chosen = ToyModel(), settings(accumulate=2, steps=1, clip_gradient=0.0)
    pictures = [plain(), plain(1 - COLOUR)]
    vectors = {"clip_l": model.text_encoders[0].vocabulary[[5]].clone().requires_grad_()}
    training_set = encode(model, pictures, chosen)
    tokenized = {prompt: prompt for prompts in training_set.prompts for prompt in prompts}
    for position in range(2):
        (
            batch_losses(
                model,
                draw_batch(training_set, model.schedule, chosen, position),
                tokenized,
                vectors,
            )
            / 2
        ).backward()
    torch.optim.AdamW(vectors.values(), lr=0.05, weight_decay=0).step()
    learned = last(model, pictures, chosen).last.vectors["clip_l"]
    torch.testing.assert_close(learned, vectors["clip_l"].detach())


def test_only_what_the_mask_shows_is_learned() -> None:
    pixels = COLOUR.expand(64, 64, 3).clone()
    pixels[:, 32:] = 1 - COLOUR
    mask = torch.zeros(64, 64)
    mask[:, :32] = 1
    model = ToyModel()
    word = last(model, [Picture(pixels, mask=mask)], settings(steps=150, batch_size=4)).last
    torch.testing.assert_close(colour_of(model, word), COLOUR, atol=0.02, rtol=0)


def test_mirrored_pictures_are_drawn_too() -> None:
    class Watching(ToyModel):
        def predict(self, noisy, timesteps, conditioning):
            seen.append(noisy[0, 0].mean(0).diff().mean().sign().item())
            return super().predict(noisy, timesteps, conditioning)

    seen: list[float] = []
    ramp = torch.linspace(0, 1, 64)[None, :, None].expand(64, 64, 3)
    angles = torch.full((10,), 0.05)
    model = Watching()
    model.schedule = type(model.schedule)(angles.cos(), angles.sin())
    last(model, [Picture(ramp)], settings(steps=20, flip=True))
    assert set(seen) == {-1.0, 1.0}
    seen.clear()
    last(model, [Picture(ramp)], settings(steps=20))
    assert set(seen) == {1.0}


def test_starting_from_an_embedding_goes_on_from_it() -> None:
    model = ToyModel()
    first = last(model, [plain()], settings(steps=150, num_vectors=2)).last
    again = next(train(model, [plain()], settings(learning_rate="1e-9"), start=first)).last
    torch.testing.assert_close(again.vectors["clip_l"], first.vectors["clip_l"])


def test_embedding_of_another_width_is_refused() -> None:
    start = Embedding("old", {"clip_l": torch.rand(1, 768)})
    with pytest.raises(InputError, match=r"768 wide \(it is for Stable Diffusion 1\).* reads 4"):
        next(train(ToyModel(), [plain()], settings(), start=start))


def test_closing_the_run_keeps_what_was_learned() -> None:
    run = train(ToyModel(), [plain()], settings(steps=1000))
    for progress in run:
        if progress.step == 5:
            break
    run.close()
    assert progress.last.metadata["textual_inversion.steps"] == "5"
    assert torch.isfinite(progress.last.vectors["clip_l"]).all()


def test_vectors_handed_out_do_not_change_later() -> None:
    run = train(ToyModel(), [plain()], settings())
    first = next(run).last
    before = first.fingerprint
    list(run)
    assert first.fingerprint == before


def failing_at(step: int) -> ToyModel:
    """A model that gives NaN from a step on."""
    calls = []

    def change(colour: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return colour * (torch.nan if len(calls) >= step else 1)

    return ToyModel(change=change)


def test_nan_stops_the_run_and_keeps_the_last_word_with_a_sound_loss() -> None:
    run = []
    with pytest.raises(DivergedError, match=r"no longer a number at step 4; .*Lower the") as raised:
        run.extend(train(failing_at(4), [plain()], settings(evaluations=0)))
    assert raised.value.last_good is not None
    # The loss of the word after step 3 is the one that was no number.
    assert raised.value.last_good.metadata["textual_inversion.steps"] == "2"


def test_nan_at_once_leaves_nothing_to_keep() -> None:
    with pytest.raises(DivergedError, match="there is nothing to keep") as raised:
        list(train(failing_at(1), [plain()], settings()))
    assert raised.value.last_good is None


def test_exploding_vectors_stop_the_run() -> None:
    class Explosive(ToyModel):
        def encode_prompts(self, prompts, vectors):
            return vectors["clip_l"][:, :3].expand(len(prompts), -1).square().exp()

    with pytest.raises(DivergedError):
        list(train(Explosive(), [plain()], settings(learning_rate="1000")))


class Half(ToyModel):
    """A network whose inner values are half precision; `weight` scales its gradient there."""

    def __init__(self, weight: float, compute_dtype: torch.dtype = torch.float16) -> None:
        def change(colour: torch.Tensor) -> torch.Tensor:
            return colour.detach() + (colour - colour.detach()).half().float() * weight

        super().__init__(compute_dtype=compute_dtype, change=change)


def test_half_precision_needs_and_gets_loss_scaling() -> None:
    start = ToyModel().text_encoders[0].vocabulary[[5]]
    chosen = settings(steps=5)
    unscaled = last(Half(1e-9, torch.float32), [plain()], chosen).last.vectors["clip_l"]
    assert torch.equal(unscaled, start)
    scaled = last(Half(1e-9), [plain()], chosen).last.vectors["clip_l"]
    assert not torch.equal(scaled, start)


@pytest.mark.parametrize("changes", [{}, {"schedule": "anytime", "pull": 0.1}])
def test_step_that_overflows_is_skipped_and_the_scale_lowered(changes: dict[str, object]) -> None:
    start = ToyModel().text_encoders[0].vocabulary[[5]]
    run = list(train(Half(200.0), [plain()], settings(**changes)))
    assert torch.equal(run[0].last.vectors["clip_l"], start)
    assert not torch.equal(run[-1].last.vectors["clip_l"], start)


def test_half_precision_that_always_overflows_is_reported() -> None:
    with pytest.raises(DivergedError, match="use a model in bf16 or fp32"):
        list(train(Half(1e30), [plain()], settings()))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "flow"])
def test_sampler_draws_what_the_model_means(kind) -> None:
    model = ToyModel(kind)
    word = {"clip_l": torch.tensor([[0.3, -0.2, 0.1, 0.4]])}
    prompt = "a photo of [name]"
    x0 = model.encode_prompts([prompt], word)
    expected = model.decode_latents(x0[..., None, None].expand(1, 3, 8, 8))[0]
    drawn = sample(model, prompt, word, latent_shape=(3, 8, 8), seed=0, steps=7, guidance=1)
    torch.testing.assert_close(drawn, expected, atol=1e-4, rtol=0)


def test_guidance_goes_away_from_the_negative_prompt() -> None:
    model = ToyModel()
    word = {"clip_l": torch.tensor([[0.3, -0.2, 0.1, 0.4]])}
    wanted, unwanted = model.encode_prompts(["[name]", ""], word)
    drawn = sample(model, "[name]", word, latent_shape=(3, 8, 8), seed=0, guidance=1.5)
    expected = (unwanted + 1.5 * (wanted - unwanted)) / 2 + 0.5
    torch.testing.assert_close(drawn[0, 0], expected.clamp(0, 1), atol=1e-4, rtol=0)


def test_the_evaluation_falls_where_the_loss_is_noise() -> None:
    """Measured evenly over the run and at its end, on the same samples each time."""
    chosen = settings(steps=100, evaluations=10, batch_size=3)
    run = list(train(ToyModel(), [plain()], chosen))
    measured = {p.step: p.evaluation for p in run if p.evaluation is not None}
    assert list(measured) == list(range(10, 101, 10))
    values = list(measured.values())
    assert values[-1] < 0.1 * values[0]
    # How the fixed batch is split changes nothing but rounding.
    other = [p.evaluation for p in train(ToyModel(), [plain()], settings(steps=1, batch_size=8))]
    same = [p.evaluation for p in train(ToyModel(), [plain()], settings(steps=1, batch_size=8))]
    assert other == same


def test_a_run_with_a_length_is_evaluated_at_most_twice_as_often_as_asked() -> None:
    for steps in (10, 39, 59, 2000):
        chosen = settings(steps=steps, evaluations=20)
        measured = [step for step in range(1, steps + 1) if is_evaluated(step, chosen)]
        assert min(steps, 20) <= len(measured) <= 40
        assert measured[-1] == steps


def test_a_run_without_a_length_is_evaluated_ever_less_often_and_cheaply() -> None:
    chosen = anytime(evaluations=20)
    measured = [step for step in range(1, 2001) if is_evaluated(step, chosen)]
    gaps = [later - one for one, later in itertools.pairwise(measured)][1:-1]
    assert gaps[0] == 25
    assert all(wider >= gap - 1 for gap, wider in itertools.pairwise(gaps))
    assert gaps[-1] > 3 * gaps[0]
    # An evaluation costs about as much as a step.
    for end in (75, 400, 2000):
        assert sum(step <= end for step in measured) < 0.07 * end
    assert not any(is_evaluated(step, anytime(evaluations=0)) for step in range(1, 2001))


def test_the_best_word_is_kept_if_asked_for() -> None:
    """With a rate that rises out of bounds, the best is found before the end."""
    rates = "0.05:60, 3:80"
    runs = {
        keep: list(train(ToyModel(), [plain()], settings(steps=80, learning_rate=rates, keep=keep)))
        for keep in ("best", "last")
    }
    measured = {p.step: p.evaluation for p in runs["best"] if p.evaluation is not None}
    best_step = min(measured, key=measured.__getitem__)
    assert best_step < 80
    best, last_one = runs["best"][-1], runs["last"][-1]
    assert torch.equal(
        best.kept.vectors["clip_l"], runs["best"][best_step - 1].last.vectors["clip_l"]
    )
    assert torch.equal(last_one.kept.vectors["clip_l"], last_one.last.vectors["clip_l"])
    assert not torch.equal(best.kept.vectors["clip_l"], last_one.kept.vectors["clip_l"])


def test_without_evaluations_the_last_word_is_the_best() -> None:
    run = last(ToyModel(), [plain()], settings(steps=5, evaluations=0))
    assert run.evaluation is None
    assert run.best is run.last
    with pytest.raises(InputError, match="evaluations is 0"):
        settings(evaluations=0, keep="best")


def anytime(**changes) -> Settings:
    return settings(
        **{"schedule": "anytime", "optimizer": "sphere", "learning_rate": "auto", "pull": 0.1,
           "averaging": "last half", "steps": 2000, "batch_size": 4, "evaluations": 0} | changes
    )  # fmt: skip


class Noisy(ToyModel):
    """A model whose gradient has noise in it, of a size of its own."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self._size, self._chance = size, torch.Generator().manual_seed(0)

    def encode_prompts(self, prompts, vectors):
        rows = vectors["clip_l"]
        if rows.requires_grad:
            rows = rows.clone()
            rows.register_hook(
                lambda g: g + self._size * torch.randn(g.shape, generator=self._chance)
            )
        return super().encode_prompts(prompts, {"clip_l": rows})


def test_a_run_ends_by_itself_and_later_where_gradients_are_noisy() -> None:
    ends = []
    for size in (0.0, 3.0):
        final = last(Noisy(size), [plain()], anytime())
        assert final.step == final.steps == final.end[0] == final.end[1] < 2000
        assert not final.cut_off
        ends.append(final.step)
    assert ends[1] > 1.5 * ends[0]


def test_more_patience_goes_on_longer_the_same_way() -> None:
    fast, thorough = (
        list(train(Noisy(2.0), [plain()], anytime(patience=name))) for name in ("fast", "thorough")
    )
    assert len(fast) < len(thorough)
    same = thorough[len(fast) - 1].last.vectors["clip_l"]
    assert torch.equal(fast[-1].last.vectors["clip_l"], same)


def test_the_limit_says_that_it_cut_the_run_off() -> None:
    assert last(ToyModel(), [plain()], anytime(steps=10)).cut_off
    # Not where so many steps were asked for.
    assert not last(ToyModel(), [plain()], anytime(steps=10, patience="none")).cut_off
    assert not last(ToyModel(), [plain()], settings(steps=10)).cut_off


def test_a_word_is_the_same_at_any_limit() -> None:
    short, long = (
        list(train(ToyModel(), [plain()], anytime(steps=n, patience="none"))) for n in (12, 30)
    )
    assert torch.equal(short[-1].last.vectors["clip_l"], long[11].last.vectors["clip_l"])


def test_no_step_turns_by_more_than_twice_the_rate() -> None:
    class Jumping(ToyModel):
        """One gradient in ten is a hundred times as large."""

        calls = 0

        def encode_prompts(self, prompts, vectors):
            rows = vectors["clip_l"].clone()
            if rows.requires_grad:
                Jumping.calls += 1
                size = 100.0 if Jumping.calls % 10 == 0 else 1.0
                rows.register_hook(lambda g: g * size)
            return super().encode_prompts(prompts, {"clip_l": rows})

    chosen = anytime(steps=60, patience="none", averaging="none", clip_gradient=0.0)
    run = list(train(Jumping(), [plain()], chosen))
    for before, after in itertools.pairwise(run):
        one, other = (p.last.vectors["clip_l"] for p in (before, after))
        turned = torch.nn.functional.cosine_similarity(one, other).clamp(-1, 1).acos()
        assert turned <= 2 * after.learning_rate + 1e-3


def test_pictures_told_apart_give_the_word_that_they_give_together() -> None:
    """Measured weights, as long as none of them differs."""
    words = [
        last(ToyModel(), [plain()], settings(steps=9, batch_size=4, weighting=weighting)).last
        for weighting in ("none", "measured")
    ]
    torch.testing.assert_close(words[0].vectors["clip_l"], words[1].vectors["clip_l"])
