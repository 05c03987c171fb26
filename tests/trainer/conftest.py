"""Fixtures of the trainer's own tests; none of them needs a host, a GPU or the internet."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from support.tiny_models import TinyParts, tiny

# The command line sets these too, but here the libraries may have been loaded before.
os.environ["DIFFUSERS_VERBOSITY"] = os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

# With models this small, threads only wait for each other.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> TinyParts:
    return tiny("sd1", tmp_path_factory.mktemp("sd1"))


@pytest.fixture(scope="session")
def sd2(tmp_path_factory: pytest.TempPathFactory) -> TinyParts:
    return tiny("sd2-v", tmp_path_factory.mktemp("sd2"), small_vae=True)


@pytest.fixture(scope="session")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> TinyParts:
    return tiny("sdxl", tmp_path_factory.mktemp("sdxl"))


@pytest.fixture(scope="session", params=["sd1", "sd2-v", "sdxl"])
def any_family(request: pytest.FixtureRequest, sd1, sd2, sdxl) -> TinyParts:
    return {"sd1": sd1, "sd2-v": sd2, "sdxl": sdxl}[request.param]


@pytest.fixture(scope="session")
def saved_sd1(sd1: TinyParts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "tiny-sd1"
    sd1.pipeline().save_pretrained(folder)
    return folder
