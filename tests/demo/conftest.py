"""Fixtures for the demo's tests: the shipped weights, loaded once."""

from __future__ import annotations

import pytest
import torch

# With models this small, threads only wait for each other.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny():
    pytest.importorskip("diffusers")
    from textual_inversion.demo.model import load_model

    return load_model()
