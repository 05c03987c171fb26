"""The learning rate: numbers, cosine and A1111's lists."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.methods.learning_rate import LARGEST_RATE, parse_learning_rate


def test_constant_rate() -> None:
    rate = parse_learning_rate("5e-3", "constant", 10)
    assert [rate(0), rate(9)] == [0.005, 0.005]


def test_cosine_falls_from_the_rate_to_nearly_zero() -> None:
    rate = parse_learning_rate("0.01", "cosine", 100)
    rates = [rate(step) for step in range(100)]
    assert rates[0] == 0.01
    assert rates[50] == pytest.approx(0.005)
    assert 0 < rates[99] < 1e-5
    assert rates == sorted(rates, reverse=True)


def test_list_counts_steps_from_one() -> None:
    rate = parse_learning_rate("0.005:100, 1e-3:1000", "cosine", 2000)
    assert [rate(0), rate(99), rate(100), rate(999), rate(1999)] == [0.005, 0.005, 1e-3, 1e-3, 1e-3]


def test_last_pair_may_leave_out_its_step() -> None:
    rate = parse_learning_rate("0.1:2, 0.2", "constant", 5)
    assert [rate(step) for step in range(4)] == [0.1, 0.1, 0.2, 0.2]


@pytest.mark.parametrize(
    "text", ["", ",", "fast", "0", "-1", "nan", "inf", "1e30", "0.1:x", "0.1, 0.2:5", "0.1:2:3"]
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"cannot be read: give auto, one number above 0"):
        parse_learning_rate(text, "constant", 5)


@pytest.mark.parametrize("text", ["0.1:5, 0.2:5", "0.1:5, 0.2:4", "0.1:0", "0.1:-3"])
def test_steps_that_do_not_increase_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="must increase"):
        parse_learning_rate(text, "constant", 5)


@given(
    st.lists(
        st.tuples(st.floats(1e-8, 1e3), st.integers(1, 10_000)),
        min_size=1,
        unique_by=lambda pair: pair[1],
    ),
    st.integers(0, 12_000),
)
def test_every_list_holds_each_rate_up_to_its_step(pairs, step: int) -> None:
    pairs = sorted(pairs, key=lambda pair: pair[1])
    rate = parse_learning_rate(", ".join(f"{r!r}:{end}" for r, end in pairs), "cosine", 10)
    expected = next((r for r, end in pairs if step < end), pairs[-1][0])
    assert rate(step) == expected


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_in_one_sentence(text: str) -> None:
    try:
        rate = parse_learning_rate(text, "constant", 10)(0)
    except InputError:
        return
    assert 0 < rate <= LARGEST_RATE
