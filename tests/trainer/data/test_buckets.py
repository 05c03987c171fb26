"""Shapes of pictures, and batches of one shape."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual_inversion.trainer.data.buckets import bucket_size, pictures_of_batch


@pytest.mark.parametrize(
    ("shape", "resolution", "size"),
    [
        ((512, 512), 512, (512, 512)),
        ((3000, 4000), 512, (448, 576)),
        ((4000, 3000), 512, (576, 448)),
        ((1080, 1920), 1024, (768, 1344)),
        ((100, 99), 768, (768, 768)),
        ((64, 128), 64, (48, 80)),
    ],
)
def test_common_shapes(shape, resolution: int, size) -> None:
    assert bucket_size(*shape, resolution) == size


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(8, 256).map(lambda n: n * 8))
def test_any_picture_finds_its_bucket(height: int, width: int, resolution: int) -> None:
    tall, wide = bucket_size(height, width, resolution)
    step = 64 if resolution >= 512 else 8
    assert tall % step == wide % step == 0
    assert 0.6 * resolution**2 < tall * wide <= resolution**2
    assert 0.5 <= tall / wide <= 2
    wanted = min(2, max(0.5, width / height))
    assert 0.75 < wide / tall / wanted < 1.34


def test_batches_of_one_bucket_show_each_picture_once_before_any_again() -> None:
    drawn = [i for n in range(10) for i in pictures_of_batch([[0, 1, 2, 3, 4]], 2, 3, n)]
    for turn in range(4):
        assert sorted(drawn[5 * turn : 5 * turn + 5]) == [0, 1, 2, 3, 4]
    assert len({tuple(drawn[5 * turn : 5 * turn + 5]) for turn in range(4)}) > 1


def test_buckets_are_drawn_as_often_as_they_have_pictures() -> None:
    buckets = [[0, 2, 3], [1], [4, 5]]
    batches = [pictures_of_batch(buckets, 4, 7, n) for n in range(12)]
    for batch in batches:
        assert any(set(batch) <= set(bucket) for bucket in buckets)
    assert Counter(i for batch in batches for i in batch) == dict.fromkeys(range(6), 8)
