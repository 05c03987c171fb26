"""Guidance, and how much contrast it leaves."""

from __future__ import annotations

import pytest
import torch
from support.toy_model import ToyModel
from textual_inversion.trainer.methods.guidance import guide, rescaled
from textual_inversion.trainer.methods.sampler import sample


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_rescaling_takes_contrast_off_each_picture_by_itself(share: float) -> None:
    chance = torch.Generator().manual_seed(0)
    positive, negative = torch.randn(2, 3, 4, 8, 8, generator=chance)
    guided = guide(positive, negative, 5.0)
    found = rescaled(guided, positive, share)
    for made, whole, plain in zip(found, guided, positive, strict=True):
        # The same but for its size, which is as far from that of the plain prediction as asked.
        torch.testing.assert_close(made / made.std(), whole / whole.std())
        assert made.std() == pytest.approx(float(share * plain.std() + (1 - share) * whole.std()))


def test_a_picture_is_drawn_with_the_models_own_guidance() -> None:
    drawn = []
    for own, asked in ((1.2, None), (2.0, 1.2), (2.0, None)):
        model = ToyModel()
        model.guidance = own
        word = {"clip_l": 0.1 * model.text_encoders[0].rows([3])}
        drawn.append(
            sample(model, "[name]", word, latent_shape=(3, 8, 8), seed=0, guidance=asked, steps=4)
        )
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
