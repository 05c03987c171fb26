"""Signal and noise of gradients, on gradients whose signal and noise are known."""

from __future__ import annotations

import math

import pytest
import torch
from textual_inversion.trainer.methods.signal import OUTLIER, GradientSignal, turning
from torch import Tensor

WIDTH = 64


def row(length: float = 0.4) -> Tensor:
    vector = torch.zeros(1, WIDTH)
    vector[0, 0] = length
    return vector.requires_grad_()


def follow(over_noise: float, steps: int, seed: int = 0, length: float = 0.4) -> GradientSignal:
    """What is found in gradients of a constant signal, 2 for each radian."""
    signal, rows = GradientSignal(), row(length)
    chance = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        noise = torch.randn(1, WIDTH, generator=chance)
        noise[0, 0] = 0
        gradient = 2 / over_noise * noise / noise.norm()
        gradient[0, 1] += 2
        rows.grad = gradient / length
        signal.update({"a": rows}, cut=True)
    return signal


@pytest.mark.parametrize("over_noise", [3.0, 1.0, 0.3, 0.1])
@pytest.mark.parametrize("seed", [0, 1])
def test_signal_over_noise_is_found_whatever_the_noise(over_noise: float, seed: int) -> None:
    found = follow(over_noise, 400, seed).over_noise
    assert found is not None
    assert over_noise / 1.4 < found < over_noise * 1.4


def test_noise_alone_has_hardly_a_signal() -> None:
    found = follow(1e-6, 400).over_noise
    assert found is None or found < 0.1


def test_a_pull_is_a_share_of_the_signal_and_not_of_the_noise() -> None:
    strengths = [
        float(follow(over_noise, 300).strength("a", row().detach()))
        for over_noise in (3.0, 1.0, 0.3)
    ]
    # 2 for each radian, which is 5 for each unit of a row as long as 0.4.
    assert strengths == pytest.approx([5.0] * 3, rel=0.25)


def test_rows_of_all_lengths_are_alike() -> None:
    short, long = (follow(0.5, 100, length=length).over_noise for length in (0.4, 40.0))
    assert short == pytest.approx(long)


def test_nothing_is_known_from_a_few_gradients() -> None:
    signal = follow(1.0, 5)
    assert signal.over_noise is None
    assert float(signal.strength("a", row().detach())) == 0
    assert follow(1.0, 12).over_noise is not None


def test_an_outlier_is_cut_and_only_if_asked() -> None:
    signal, rows = follow(1.0, 50), row()
    usual = 2 * math.sqrt(2) / 0.4
    for cut in (False, True):
        rows.grad = torch.zeros(1, WIDTH)
        rows.grad[0, 2] = 100 * usual
        signal.update({"a": rows}, cut=cut)
        size = float(rows.grad.norm())
        assert (size < 1.5 * OUTLIER * usual) == cut


def test_what_does_not_turn_a_row_is_no_signal() -> None:
    rows = torch.tensor([[3.0, 4.0]])
    assert turning(rows * 7, rows).abs().max() < 1e-5
    torch.testing.assert_close(
        turning(torch.tensor([[-4.0, 3.0]]), rows), torch.tensor([[-4.0, 3.0]])
    )


def test_it_goes_on_from_its_state() -> None:
    whole, first = follow(0.5, 40), follow(0.5, 40)
    second = GradientSignal()
    second.load_state_dict(first.state_dict())
    for one in (whole, second):
        rows = row()
        rows.grad = torch.ones(1, WIDTH)
        one.update({"a": rows}, cut=True)
    assert whole.over_noise == second.over_noise


def test_what_a_checkpoint_holds_goes_to_the_device_of_the_rows() -> None:
    """It is read on the CPU, and the rows may be on a GPU, for which “meta” stands in."""
    resumed, rows = GradientSignal(), row().detach().to("meta")
    resumed.load_state_dict(follow(0.5, 10).state_dict())
    rows.grad = torch.ones(1, WIDTH, device="meta")
    resumed.update({"a": rows}, cut=True)
    assert {part.device.type for part in resumed.state_dict()["a"].values()} == {"meta"}
