"""Pictures of what a word does not mean."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.toy_model import ToyModel
from textual_inversion.trainer.data.batches import draw_batch
from textual_inversion.trainer.data.pictures import Picture, as_unlike, meant, pictures_fingerprint
from textual_inversion.trainer.data.randomness import generator
from textual_inversion.trainer.data.training_set import encode
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.learning.loop import train
from textual_inversion.trainer.learning.losses import batch_losses, unlike_losses
from textual_inversion.trainer.learning.objectives import TokenizedPrompts
from textual_inversion.trainer.methods.measured_weights import EQUAL, MEASURED
from textual_inversion.trainer.settings import Settings

THING, PLACE = torch.tensor([0.8, 0.4, 0.3]), torch.tensor([0.2, 0.5, 0.8])


def plain(colour: torch.Tensor) -> Picture:
    return Picture(colour.expand(64, 64, 3))


def settings(**changes) -> Settings:
    chosen = {"init_words": "cat", "steps": 120, "resolution": 64, "learning_rate": "0.05"}
    chosen |= {"schedule": "cosine"}
    return Settings(**(chosen | {"batch_size": 4, "evaluations": 1} | changes))


def learned(pictures: list[Picture], **changes) -> Embedding:
    *_, progress = train(ToyModel(), pictures, settings(**changes))
    return progress.last


def misfit(word: Embedding, colour: torch.Tensor) -> float:
    """How badly the word predicts pictures of a colour."""
    model, chosen = ToyModel(), settings()
    batch = draw_batch(encode(model, [plain(colour)], chosen), model.schedule, chosen, 0)
    return batch_losses(model, batch, TokenizedPrompts(model, 1), word.vectors).mean().item()


def test_what_the_others_show_is_not_learned() -> None:
    """Half of the pictures show the place alone, as a word that takes in a background sees it."""
    both = [plain(THING), plain(PLACE)]
    began = Embedding("cat", {"clip_l": ToyModel().text_encoders[0].vocabulary[[5]]})
    without, with_it = learned(both), learned([*both, as_unlike(plain(PLACE))], unlike_weight=3.0)
    assert misfit(without, PLACE) < 0.7 * misfit(began, PLACE)
    assert misfit(with_it, PLACE) > 0.9 * misfit(began, PLACE)
    assert misfit(with_it, THING) < misfit(began, THING)


def test_what_the_word_does_not_fit_changes_nothing() -> None:
    """Only fitting better than at the start is punished."""
    model, chosen = ToyModel(), settings()
    anchors = {"clip_l": model.text_encoders[0].vocabulary[[5]]}
    batch = draw_batch(encode(model, [plain(PLACE)], chosen), model.schedule, chosen, 0)
    tokens = TokenizedPrompts(model, 1)
    random = torch.randn(20, 1, 4, generator=generator(0, 0))
    better = 0
    for rows in random:
        vectors = {"clip_l": rows}
        found = unlike_losses(model, batch, tokens, vectors, anchors)
        gained = batch_losses(model, batch, tokens, anchors) - batch_losses(
            model, batch, tokens, vectors
        )
        torch.testing.assert_close(found, gained.clamp_min(0))
        better += bool((found > 0).any())
    assert 0 < better < 20
    assert not unlike_losses(model, batch, tokens, anchors, anchors).any()


@pytest.mark.parametrize("change", [{"unlike_weight": 0.0}, {}])
def test_without_weight_or_pictures_nothing_changes(change) -> None:
    pictures = [plain(THING)] + [as_unlike(plain(PLACE))] * bool(change)
    torch.testing.assert_close(
        learned(pictures, **change).vectors, learned([plain(THING)]).vectors, atol=0, rtol=0
    )


def test_a_run_with_other_unlike_pictures_is_another_run() -> None:
    one, other = plain(THING), plain(PLACE)
    assert meant([one, as_unlike(other)]) == [one]
    prints = {
        pictures_fingerprint(pictures)
        for pictures in ([one], [one, other], [one, as_unlike(other)], [one, as_unlike(one)])
    }
    assert len(prints) == 4
    assert replace(as_unlike(other), unlike=False, source=other.source) == other


def test_they_count_by_measured_weights_too() -> None:
    """Until the first pictures have been seen, these are all equal."""
    pictures = [plain(THING), as_unlike(plain(PLACE))]
    equal, measured = (
        learned(pictures, steps=EQUAL // 4, weighting=weighting) for weighting in ("none", MEASURED)
    )
    torch.testing.assert_close(equal.vectors, measured.vectors)
    on = learned(pictures, steps=EQUAL // 2, weighting=MEASURED)
    assert not torch.equal(
        on.vectors["clip_l"], learned(pictures, steps=EQUAL // 2).vectors["clip_l"]
    )
