"""Aspect buckets: pictures of different shapes in one training set.

A batch can only hold pictures of one shape. So shapes are rounded to a few, and each batch is
drawn from those of one shape (the aspect ratio bucketing of NovelAI, as kohya's scripts do it).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .randomness import Stream, generator

NARROWEST = 0.5
"""Narrower pictures are cropped to this ratio of the sides."""


def bucket_size(height: int, width: int, resolution: int) -> tuple[int, int]:
    """The height and width in pixels for a picture of this shape.

    Both are multiples of 64, as U-Nets halve a picture several times (of less for small
    resolutions); the area is at most that of the square of `resolution`.
    """
    step = min(64, max(8, resolution // 64 * 8))
    wanted = max(NARROWEST, min(width / height, 1 / NARROWEST))
    heights = range(step, 2 * resolution + 1, step)
    sizes = [(tall, resolution**2 // tall // step * step) for tall in heights]
    fitting = [
        size for size in sizes if size[1] and NARROWEST <= size[1] / size[0] <= 1 / NARROWEST
    ]
    return min(fitting, key=lambda size: abs(size[1] / size[0] / wanted - 1))


def pictures_of_batch(
    buckets: Sequence[Sequence[int]], batch_size: int, seed: int, position: int
) -> list[int]:
    """The pictures of one batch, all of one bucket; seed and position decide all.

    Of every so many batches as there are pictures, each bucket gets as many as it has
    pictures. In a bucket, each picture comes once, in a new order, before any comes again.

    Args:
        buckets: the numbers of the pictures of each shape.
        batch_size: how many pictures are wanted.
        seed: of the run.
        position: of the batch, from 0.
    """
    owners = [number for number, bucket in enumerate(buckets) for _ in bucket]
    turn, index = divmod(position, len(owners))
    order = torch.randperm(len(owners), generator=generator(seed, Stream.BUCKETS, turn)).tolist()
    owner = owners[order[index]]
    bucket = buckets[owner]
    earlier = turn * len(bucket) + sum(owners[i] == owner for i in order[:index])
    first = earlier * batch_size
    return [
        bucket[_shuffled(place, seed, len(bucket))] for place in range(first, first + batch_size)
    ]


def _shuffled(place: int, seed: int, count: int) -> int:
    turn, index = divmod(place, count)
    return int(torch.randperm(count, generator=generator(seed, turn))[index])
