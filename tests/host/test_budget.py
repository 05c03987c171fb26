"""How a step is fitted into memory."""

from __future__ import annotations

from types import ModuleType

import pytest

GB = 1 << 30


@pytest.mark.parametrize(
    ("sampling", "room", "batch_size", "wanted", "at_once", "checkpointing"),
    [
        (GB // 6, None, 4, False, 4, False),  # no GPU: as the settings say
        (GB // 6, None, 4, True, 4, True),
        (GB // 6, 16 * GB, 4, False, 4, False),  # all of it fits
        (GB // 6, 5 * GB, 4, False, 2, False),  # half of it at once
        (GB // 6, 5 * GB, 4, True, 4, True),
        (GB // 6, 3 * GB // 2, 4, False, 1, True),  # nothing fits plainly
        (GB // 6, GB // 2, 4, False, 1, True),  # too little: the host says so
        (GB // 6, -GB, 1, False, 1, True),
    ],
)
def test_plan(
    host_modules: ModuleType,
    sampling: int,
    room: int | None,
    batch_size: int,
    wanted: bool,
    at_once: int,
    checkpointing: bool,
) -> None:
    from textual_inversion.nodes.budget import plan

    found = plan(sampling, room, batch_size, wanted)
    assert (found.at_once, found.checkpointing) == (at_once, checkpointing)
    assert found.needed > 0
