"""The loss of each picture, beside torch's own arithmetic."""

from __future__ import annotations

import torch
from textual_inversion.trainer.learning.losses import squared_errors


def draw(batch: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(batch, 4, 8, 8, generator=generator)
    noise = torch.randn(batch, 4, 8, 8, generator=generator)
    return latents, noise, torch.tensor([0, 1, 250, 700, 999])[:batch]


def test_loss_is_the_mean_squared_error() -> None:
    prediction, wanted, _ = draw()
    expected = (prediction - wanted).square().mean((1, 2, 3))
    torch.testing.assert_close(squared_errors(prediction, wanted), expected)
    everywhere = torch.ones(5, 1, 8, 8)
    torch.testing.assert_close(squared_errors(prediction, wanted, everywhere), expected)


def test_masked_places_do_not_count() -> None:
    prediction, wanted, _ = draw(2)
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, :, :4] = 1
    mask[1, :, 0, 0] = 0.5
    expected = torch.stack(
        [
            (prediction - wanted)[0, :, :4].square().mean(),
            (prediction - wanted)[1, :, 0, 0].square().mean(),
        ]
    )
    torch.testing.assert_close(squared_errors(prediction, wanted, mask), expected)
    elsewhere = prediction + (1 - mask.sign()) * 100
    torch.testing.assert_close(squared_errors(elsewhere, wanted, mask), expected)


def test_weights_scale_each_picture() -> None:
    prediction, wanted, _ = draw(2)
    plain, weights = squared_errors(prediction, wanted), torch.tensor([3.0, 0.5])
    weighted = squared_errors(prediction, wanted, weights=weights)
    torch.testing.assert_close(weighted, plain * weights)
