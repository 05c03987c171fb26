"""Words from liked and disliked pictures: the formula, its gradient, and what is learned."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.tiny_models import TinyParts
from support.toy_model import ToyModel
from textual_inversion.trainer.data.batches import Batch
from textual_inversion.trainer.data.pairs import compared
from textual_inversion.trainer.data.pictures import Picture, as_unlike
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.learning.chosen_objective import objective_of
from textual_inversion.trainer.learning.comparison_objectives import Comparison
from textual_inversion.trainer.learning.comparisons import comparison
from textual_inversion.trainer.learning.diagnostics import remarks
from textual_inversion.trainer.learning.loop import Progress, train
from textual_inversion.trainer.learning.objectives import TokenizedPrompts
from textual_inversion.trainer.methods.diffusion import target
from textual_inversion.trainer.settings import WORD_FOR, RatingSettings

SCALE = 3.0
PROMPTS = ("a red photo", "a toy cat")
any_place = pytest.mark.parametrize("word_for", WORD_FOR)


def objective(word_for: str) -> Comparison:
    return objective_of(RatingSettings(word_for=word_for, guidance=SCALE))


def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 2, 4, 8, 8, generator=generator)
    noise = torch.randn(2, 4, 8, 8, generator=generator)
    return Batch(latents, noise, torch.tensor([300, 700]), PROMPTS, None)


def by_hand(parts: TinyParts, word_for: str, rows: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Margin and movement of the liked picture, one pair after the other."""
    model, drawn, found = parts.model(), batch(), []
    words = 2 if word_for == "both" else 1
    word, negative = ({k: v.chunk(words)[i] for k, v in rows.items()} for i in (0, -1))

    def guided(positive: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return other + SCALE * (positive - other)

    for number, prompt in enumerate(PROMPTS):
        errors, moves = [], []
        for latents in drawn.latents[number]:
            timestep = drawn.timesteps[number : number + 1]
            alpha, sigma = model.schedule.at(timestep, latents[None])
            noise = drawn.noise[number][None]
            noisy = alpha * latents + sigma * noise
            wanted = target(model.parameterization, latents[None], noise, alpha, sigma)

            def said(text: str, vectors: Any, noisy: Any = noisy, at: Any = timestep) -> Any:
                encoded = model.encode_prompts([model.tokenize(text, 2)], vectors)
                return model.predict(noisy, at, encoded)

            plain, empty = said(prompt, word), said("", word)
            described = said(f"{prompt}, [name]", word)
            if word_for == "negative prompt":
                added = guided(plain, said("[name]", word)) - guided(plain, empty)
            elif word_for == "both":
                added = guided(described, said("[name]", negative)) - guided(plain, empty)
            else:
                added = described - plain
            errors.append([(one - wanted).square().mean() for one in (plain + added, plain)])
            moves.append(added.square().mean())
        (liked, liked_before), (disliked, disliked_before) = errors
        unit = (liked_before + disliked_before) / 2
        margin = ((liked - liked_before) - (disliked - disliked_before)) / unit
        if word_for == "described negative":
            margin = -margin
        found.append(torch.stack([margin, moves[0] / unit]))
    return found


@any_place
def test_a_comparison_is_the_formula(any_family: TinyParts, word_for: str) -> None:
    chosen = objective(word_for)
    rows, model = any_family.vectors(2 * chosen.words), any_family.model()
    with torch.no_grad():
        margin, moved = comparison(model, batch(), TokenizedPrompts(model, 2), rows, chosen)
        expected = torch.stack(by_hand(any_family, word_for, rows))
    torch.testing.assert_close(torch.stack([margin, moved], 1), expected, rtol=1e-3, atol=1e-5)


@any_place
def test_gradient_is_that_of_finite_differences(any_family: TinyParts, word_for: str) -> None:
    parts, chosen = copy.deepcopy(any_family), objective(word_for)
    for module in parts.modules():
        module.double()
    model = parts.model()
    tokenized = TokenizedPrompts(model, 2)
    start = parts.vectors(2 * chosen.words)
    vectors = {k: v.double().requires_grad_() for k, v in start.items()}

    def value(changed: dict[str, torch.Tensor]) -> torch.Tensor:
        margin, moved = comparison(model, batch(), tokenized, changed, chosen)
        return (F.softplus(3 * margin) + moved).mean()

    value(vectors).backward()
    for key, trained in vectors.items():
        assert all(half.norm() > 0 for half in trained.grad.chunk(chosen.words))
        direction, step = trained.grad / trained.grad.norm(), 3e-2
        with torch.no_grad():
            ahead = value({**vectors, key: trained + step * direction})
            behind = value({**vectors, key: trained - step * direction})
        slope = (ahead - behind) / (2 * step)
        assert slope.item() == pytest.approx(trained.grad.norm().item(), rel=1e-2)


def test_a_word_for_negative_prompts_starts_where_nothing_changes(sd1: TinyParts) -> None:
    chosen, model = objective("negative prompt"), sd1.model()
    rows = chosen.initial(model, RatingSettings(num_vectors=2), None)
    with torch.no_grad():
        margin, moved = comparison(model, batch(), TokenizedPrompts(model, 2), rows, chosen)
    assert margin.abs().max() < 1e-4
    assert moved.max() < 1e-8


def test_a_word_learned_for_less_guidance_does_more_when_drawn_with_more(sd1: TinyParts) -> None:
    """Why training takes less guidance than drawing: what the word adds grows with s - 1."""
    model, rows = sd1.model(), sd1.vectors(2)
    with torch.no_grad():
        learned, drawn = (
            comparison(
                model,
                batch(),
                TokenizedPrompts(model, 2),
                rows,
                objective_of(RatingSettings(guidance=guidance)),
            )[1].sqrt()
            for guidance in (2.5, 4.0)
        )
    torch.testing.assert_close(drawn, 2 * learned, rtol=1e-3, atol=0.0)


# On the toy, a prompt means a colour. Liked pictures are a little redder than what their prompts
# mean, disliked ones as much less red; a shift that is nothing to taste differs from pair to pair.


def rated(count: int, taste: float = 0.15) -> list[Picture]:
    words = ("red", "blue", "a toy", "the cat")
    colours = ToyModel().encode_prompts(words, {"clip_l": torch.zeros(1, 4)})
    generator = torch.Generator().manual_seed(1)
    sides: dict[float, list[Picture]] = {1.0: [], -1.0: []}
    for number in range(count):
        for sign, pictures in sides.items():
            shift = sign * torch.tensor([taste, 0.0, 0.0])
            shift = shift + 0.05 * torch.randn(3, generator=generator)
            colour = (colours[number % 4] + shift) / 2 + 0.5
            pictures.append(Picture(colour.clamp(0, 1).expand(64, 64, 3), words[number % 4]))
    return [*sides[1.0], *map(as_unlike, sides[-1.0])]


def run(pictures: list[Picture], **changes: Any) -> list[Progress]:
    usual: dict[str, Any] = {
        "resolution": 64, "optimizer": "adamw", "learning_rate": "0.01", "preference": 0.3,
    }  # fmt: skip
    nothing = Embedding("w", {"clip_l": torch.zeros(1, 4)})
    return list(train(ToyModel(), pictures, RatingSettings(**(usual | changes)), nothing))


@any_place
@pytest.mark.parametrize("continued", [False, True])
def test_every_word_has_as_many_vectors_as_are_asked_for(word_for: str, continued: bool) -> None:
    """The first begins with the words or the embedding that are given, and with nothing else."""
    model, start = ToyModel(), Embedding("start", {"clip_l": torch.ones(2, 4)})
    chosen = RatingSettings(word_for=word_for, num_vectors=2, init_words="red cat")
    found = objective_of(chosen)
    rows = found.initial(model, chosen, start if continued else None)
    first, *others = found.hand_out(Embedding("word", rows))
    encoder = model.text_encoders[0]
    wanted = start.vectors["clip_l"] if continued else encoder.rows(encoder.token_ids("red cat"))
    directions = [F.normalize(one, dim=1) for one in (first.vectors["clip_l"], wanted)]
    torch.testing.assert_close(*directions)
    assert [word.num_vectors for word in others] == [2] * (found.words - 1)


@pytest.mark.parametrize("word_for", [one for one in WORD_FOR if one != "both"])
def test_what_is_liked_is_learned(word_for: str) -> None:
    steps = run(rated(24), word_for=word_for, leeway=100.0)
    last = next(one for one in reversed(steps) if one.evaluation is not None)
    assert last.ranked == 1
    assert last.evaluation < 0.25
    assert steps[-1].step == 150


def test_a_run_ends_when_held_out_pairs_are_ranked_worse() -> None:
    """Those that are held out are of the opposite taste."""
    pictures = rated(24)
    settings = RatingSettings()
    for pair in compared(pictures, settings.name, settings.seed).held_out:
        one, other = pictures[pair.liked], pictures[pair.disliked]
        pictures[pair.liked] = replace(one, pixels=other.pixels)
        pictures[pair.disliked] = replace(other, pixels=one.pixels)
    steps = run(pictures, word_for="prompt", leeway=100.0, learning_rate="0.001")
    assert steps[-1].step < 150
    assert steps[-1].diagnostics is not None
    assert "no better than chance" in remarks([steps[-1].diagnostics])["chance"]


def test_no_taste_is_not_told_from_chance() -> None:
    steps = run(rated(24, taste=0.0), word_for="prompt", leeway=100.0)
    assert min(one.evaluation for one in steps if one.evaluation) > 0.35


def test_leeway_bounds_how_far_liked_pictures_move() -> None:
    bold, held = (
        run(rated(24), word_for="prompt", steps=60, leeway=leeway)[-1] for leeway in (100.0, 0.01)
    )
    moved = [one.last.vectors["clip_l"].norm() for one in (bold, held)]
    assert moved[1] < moved[0] / 2


def test_a_run_goes_on_as_if_it_had_never_stopped() -> None:
    pictures, settings = rated(12), RatingSettings(num_vectors=1, resolution=64, steps=6)
    whole = list(train(ToyModel(), pictures, settings))
    rest = list(train(ToyModel(), pictures, settings, resume=whole[2].state))
    assert rest[-1].last.fingerprint == whole[-1].last.fingerprint


def test_settings_that_comparisons_have_no_use_for_are_refused() -> None:
    with pytest.raises(InputError, match="buckets cannot be used with ratings"):
        RatingSettings(buckets=True)
