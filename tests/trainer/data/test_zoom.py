"""Nearer and farther pictures."""

from __future__ import annotations

import torch
from textual_inversion.trainer.data.pictures import Picture
from textual_inversion.trainer.data.zoom import farther, nearer


def ramp(height: int, width: int) -> torch.Tensor:
    """A picture whose red grows to the right and whose green grows downwards."""
    red = torch.linspace(0, 1, width).expand(height, width)
    green = torch.linspace(0, 1, height)[:, None].expand(height, width)
    return torch.stack([red, green, torch.zeros(height, width)], dim=-1)


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_nearer_shows_the_middle_larger() -> None:
    pixels, mask = nearer(Picture(ramp(200, 200)), (64, 64), chance())
    assert pixels.shape == (64, 64, 3)
    assert mask is None
    shown = pixels[32, -1, 0] - pixels[32, 0, 0]
    assert 0.55 < shown < 0.8
    torch.testing.assert_close(pixels.mean((0, 1)), torch.tensor([0.5, 0.5, 0]), atol=0.02, rtol=0)


def test_nearer_keeps_the_shape_of_the_result() -> None:
    """A tall result is cut out of a wide picture without stretching it."""
    pixels, _ = nearer(Picture(ramp(200, 400)), (96, 48), chance())
    down = (pixels[-1, 0, 1] - pixels[0, 0, 1]) * 200 / 96
    right = (pixels[0, -1, 0] - pixels[0, 0, 0]) * 400 / 48
    torch.testing.assert_close(down, right, atol=0, rtol=0.05)


def test_nearer_goes_to_what_the_mask_shows() -> None:
    mask = torch.zeros(200, 200)
    mask[150:, 150:] = 1
    pixels, fitted = nearer(Picture(ramp(200, 200), mask=mask), (64, 64), chance())
    assert pixels[-1, -1, :2].min() > 0.95
    assert fitted.mean() > 0.0625


def test_nearer_than_anything_the_mask_shows() -> None:
    mask = torch.zeros(200, 200)
    mask[[0, 0, -1, -1], [0, -1, 0, -1]] = 1
    assert nearer(Picture(ramp(200, 200), mask=mask), (64, 64), chance()) is None


def test_farther_shows_all_of_it_smaller() -> None:
    for seed in range(5):
        pixels, mask = farther(Picture(ramp(200, 200)), (64, 96), chance(seed))
        assert pixels.shape == (64, 96, 3)
        rows, columns = mask.amax(1).nonzero().flatten(), mask.amax(0).nonzero().flatten()
        assert 0.5 <= len(rows) / 64 <= 0.75
        assert mask.sum() == len(rows) * len(columns)
        # On the grid of the latents, so that none of them shows the ground.
        assert rows[0] % 8 == columns[0] % 8 == len(rows) % 8 == len(columns) % 8 == 0
        shown = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert shown[..., 0].max() - shown[..., 0].min() > 0.9


def test_farther_keeps_a_mask() -> None:
    half = torch.zeros(64, 64)
    half[:, :32] = 1
    _, whole = farther(Picture(ramp(64, 64)), (64, 64), chance(1))
    _, mask = farther(Picture(ramp(64, 64), mask=half), (64, 64), chance(1))
    torch.testing.assert_close(mask.sum() / whole.sum(), torch.tensor(0.5), atol=0.02, rtol=0)
