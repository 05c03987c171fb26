"""Which timesteps a run draws."""

from __future__ import annotations

import pytest
import torch
from support.toy_model import ToyModel
from textual_inversion.trainer.data.batches import draw_batch
from textual_inversion.trainer.data.pictures import Picture
from textual_inversion.trainer.data.training_set import encode
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.methods.timesteps import Timesteps, parse_timesteps
from textual_inversion.trainer.settings import Settings


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("text", "learn", "expected"),
    [
        ("all", "object", Timesteps(0, 1000)),
        ("window", "object", Timesteps(500, 900)),
        ("Window ", "style", Timesteps(300, 800)),
        ("400 - 800", "style", Timesteps(400, 800)),
        ("logit-normal", "object", Timesteps(logit_normal=True)),
    ],
)
def test_reading(text: str, learn: str, expected: Timesteps) -> None:
    assert parse_timesteps(text, learn) == expected


@pytest.mark.parametrize("text", ["", "some", "800-400", "500-500", "0-1001", "-5-10", "1-2-3"])
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"timesteps is “.*”: write all, window, logit-normal"):
        Settings(timesteps=text)


@pytest.mark.parametrize("length", [1000, 100])
def test_all_covers_the_schedule_evenly(length: int) -> None:
    drawn = torch.stack([Timesteps().draw(4, length, generator(i)) for i in range(5000)])
    counts = torch.bincount(drawn.flatten() * 10 // length, minlength=10)
    assert counts.shape == (10,)
    assert (counts - 2000).abs().max() < 150
    # Also each place of the batch alone: the order says nothing.
    assert (torch.bincount(drawn[:, 0] * 10 // length, minlength=10) - 500).abs().max() < 100


def test_no_timestep_lies_outside_the_window() -> None:
    drawn = torch.cat([Timesteps(500, 900).draw(8, 1000, generator(i)) for i in range(2000)])
    assert (drawn.min(), drawn.max()) == (500, 899)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_every_share_of_the_window_gives_one_sample(count: int) -> None:
    for seed in range(50):
        drawn = Timesteps(200, 1000).draw(count, 1000, generator(seed))
        assert sorted(((drawn - 200) * count // 800).tolist()) == list(range(count))


def test_logit_normal_has_the_distribution_of_its_name() -> None:
    source = Timesteps(logit_normal=True)
    drawn = torch.cat([source.draw(4, 1000, generator(i)) for i in range(5000)]).double()
    shares = (drawn + 0.5) / 1000
    logits = torch.logit(shares)
    assert logits.mean().item() == pytest.approx(0, abs=0.03)
    assert logits.std().item() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(("batch", "accumulate"), [(4, 1), (1, 4), (2, 2)])
def test_an_update_is_spread_evenly_however_it_is_split(batch: int, accumulate: int) -> None:
    model = ToyModel()
    settings = Settings(resolution=64, batch_size=batch, accumulate=accumulate)
    training_set = encode(model, [Picture(torch.rand(64, 64, 3))], settings)
    for update in range(5):
        positions = range(update * accumulate, (update + 1) * accumulate)
        parts = [draw_batch(training_set, model.schedule, settings, p).timesteps for p in positions]
        assert sorted((torch.cat(parts) * 4 // len(model.schedule)).tolist()) == [0, 1, 2, 3]


def test_noise_offset_shifts_whole_channels() -> None:
    model = ToyModel()
    pictures = [Picture(torch.rand(64, 64, 3))]
    plain, shifted = (
        draw_batch(encode(model, pictures, chosen), model.schedule, chosen, 3)
        for chosen in (
            Settings(resolution=64, batch_size=2, noise_offset=offset) for offset in (0.0, 0.1)
        )
    )
    difference = shifted.noise - plain.noise
    assert torch.equal(shifted.timesteps, plain.timesteps)
    torch.testing.assert_close(difference, difference[..., :1, :1].expand_as(difference))
    assert len(difference[..., 0, 0].unique()) == 6
    assert 0.02 < difference.std() < 0.3
