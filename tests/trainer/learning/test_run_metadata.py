"""What files say about how they were made: enough to do it again, and nothing personal."""

from __future__ import annotations

import getpass
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.paths import ROOT
from support.tiny_models import TinyParts
from support.toy_model import ToyModel
from textual_inversion.trainer.cli.main import main
from textual_inversion.trainer.data.pictures import Picture, pictures_fingerprint
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.embeddings.metadata import network_fingerprint
from textual_inversion.trainer.files.reading import read_embedding
from textual_inversion.trainer.files.thumbnails import thumbnail_in, with_thumbnail
from textual_inversion.trainer.learning.loop import train
from textual_inversion.trainer.settings import Settings
from textual_inversion.trainer.version import VERSION

PICTURE = Picture(torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(0)), "a [name]")


def notes(settings: Settings, picture: Picture = PICTURE, start: Embedding | None = None):
    *_, progress = train(ToyModel(), [picture], settings, start)
    return progress.last.metadata


def test_all_that_a_rerun_needs() -> None:
    chosen = Settings(
        name="w", init_words="toy cat", steps=2, resolution=64, seed=7, timesteps="window"
    )
    start = Embedding("older", {"clip_l": torch.ones(1, 4)})
    found = notes(chosen, start=start)
    assert Settings(**json.loads(found["textual_inversion.settings"])) == chosen
    assert found["modelspec.sai_model_spec"] == "1.0.1"
    assert found["modelspec.trigger_phrase"] == "w"
    assert found["modelspec.resolution"] == "64x64"
    assert found["modelspec.timestep_range"] == "500,900"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", found["modelspec.date"])
    assert found["textual_inversion.steps"] == "2"
    assert float(found["textual_inversion.loss"]) > 0
    assert found["textual_inversion.version"] == VERSION
    assert found["textual_inversion.torch"] == torch.__version__
    assert found["textual_inversion.pictures_hash"] == pictures_fingerprint([PICTURE])
    assert found["textual_inversion.start_from"] == f"older, {start.fingerprint}"
    again = {**notes(chosen, start=start), "modelspec.date": found["modelspec.date"]}
    assert again == found


def test_the_version_is_that_of_the_package() -> None:
    assert f'\nversion = "{VERSION}"\n' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "changed",
    [
        {"caption": "the [name]"},
        {"caption": None},
        {"mask": torch.ones(64, 64)},
        {"pixels": PICTURE.pixels.flip(0)},
    ],
)
def test_other_data_has_another_fingerprint(changed) -> None:
    assert pictures_fingerprint([replace(PICTURE, **changed)]) != pictures_fingerprint([PICTURE])


def test_the_same_pictures_have_the_same_fingerprint() -> None:
    """Whether they were read as bytes or as a host gives them, and wherever they lie."""
    read = torch.from_numpy((PICTURE.pixels * 255).round().byte().numpy()) / 255
    other = replace(PICTURE, pixels=read, caption=" a [name]\n", source="/home/me/cat.jpg")
    assert pictures_fingerprint([other]) == pictures_fingerprint([PICTURE])


def test_fingerprints_of_networks() -> None:
    """Neither names nor data type count where the values are the same; every weight does."""
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(n, 3, generator=generator).half() for n in (1, 50, 1000)]
    plain = network_fingerprint(weights)
    assert network_fingerprint([w.float() for w in reversed(weights)]) == plain
    for i in range(3):
        tuned = [w + 1e-2 if n == i else w for n, w in enumerate(weights)]
        assert network_fingerprint(tuned) != plain


def test_thumbnail() -> None:
    word = with_thumbnail(Embedding("w", {"clip_l": torch.ones(1, 4)}, {"a": "b"}), PICTURE.pixels)
    assert word.metadata["a"] == "b"
    content = thumbnail_in(word.metadata)
    assert content is not None
    assert content.startswith(b"\xff\xd8")


def test_a_file_of_the_command_line_tells_nothing_personal(
    saved_sd1: Path, sd1: TinyParts, tmp_path: Path
) -> None:
    private = tmp_path / "home" / "erika-mustermann" / "photos"
    private.mkdir(parents=True)
    Image.new("RGB", (64, 64), "red").save(private / "erika at home.png")
    (private / "erika at home.txt").write_text("a photo of [name] by Erika")
    model = tmp_path / "home" / "erika-mustermann" / "some-model"
    model.symlink_to(saved_sd1)
    command = ["train", "--model", model, "--images", private, "--output", private.parent,
               "--name", "w", "--steps", "1", "--resolution", "64", "--previews", "1"]  # fmt: skip
    assert main(list(map(str, command))) == 0
    found = read_embedding(private.parent / "w.safetensors").metadata
    assert found["modelspec.thumbnail"].startswith("data:image/jpeg;base64,")
    # Where types of media and models are named, there is a slash that is no path's.
    plain = "\n".join(
        f"{key}: {value}"
        for key, value in found.items()
        if key not in ("modelspec.thumbnail", "modelspec.architecture")
    )
    assert not re.search(rf"erika|[/\\]|\b{getpass.getuser()}\b", plain, re.IGNORECASE)
    assert found["sd_checkpoint_name"] == "some-model"
    assert found["textual_inversion.model"] == sd1.model().description["textual_inversion.model"]
