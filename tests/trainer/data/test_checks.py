"""What is said of pictures, captions and prompts before the first step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from support.paths import ROOT
from textual_inversion.trainer.data.checks import checks, expectation, sharpness
from textual_inversion.trainer.data.picture_folder import read_folder
from textual_inversion.trainer.data.pictures import Picture, fit
from textual_inversion.trainer.learning.negative_objectives import FromGoodPictures
from textual_inversion.trainer.model import TextEncoder
from textual_inversion.trainer.settings import Settings

PHOTOS = ROOT.parent / "shared" / "data" / "photos"
CLIP = TextEncoder("clip_l", torch.zeros(9, 4), lambda text: [1] * len(text.split()))


def scene(seed: int, height: int = 128, width: int = 128, cell: int = 8) -> torch.Tensor:
    """A sharp picture of random tiles."""
    generator = torch.Generator().manual_seed(seed)
    tiles = torch.rand(1, 3, -(-height // cell), -(-width // cell), generator=generator)
    return F.interpolate(tiles, scale_factor=cell)[0, :, :height, :width].movedim(0, -1)


def picture(seed: int, caption: str | None = None, **options) -> Picture:
    return Picture(scene(seed), caption, source=f"{seed}.png", **options)


def look(pictures: list[Picture], encoders=(CLIP,), **changes) -> list[str]:
    return checks(pictures, Settings(**({"resolution": 128} | changes)), encoders)


def test_nothing_to_say() -> None:
    assert look([picture(0), picture(1, "a [name] on grass")]) == []
    assert look([]) == []


def test_captions_without_the_word() -> None:
    captions = ["red", "a [name]", "blue", None, "a my-word", "green", "grey"]
    (said,) = look([picture(i, caption) for i, caption in enumerate(captions)])
    assert said.startswith("Captions without the word: 0.png, 2.png, 5.png and 1 more.")
    assert "the first as “a photo of a [name], red”" in said


def test_templates_say_where_the_word_is() -> None:
    captioned = [picture(0, "red")]
    assert look(captioned, templates="a [name], [filewords]") == []
    (said,) = look([*captioned, picture(1)], templates="a [name], [filewords]")
    assert said.startswith("Pictures for which no template gives a prompt with the word: 1.png.")


def test_captions_of_a_task_that_wants_no_word_in_them() -> None:
    """A negative that is learned from good pictures leaves their captions as they are."""
    objective = FromGoodPictures(guidance=3.0, keep=1.0)
    good = [picture(0, "a red house"), picture(1, "a very long " * 40)]
    (said,) = checks(good, Settings(resolution=128), [CLIP], prompts=objective.prompts)
    assert said.startswith("Prompts longer than the 75 tokens")


def test_prompts_longer_than_the_window() -> None:
    pictures = [picture(i, "[name]" + " very" * i) for i in (73, 74, 80)]
    (said,) = look(pictures, num_vectors=2)
    assert "75 tokens" in said
    assert ": 74.png (76 tokens), 80.png (82 tokens)." in said
    assert look(pictures, encoders=[TextEncoder("t5xxl", CLIP.vocabulary, CLIP.token_ids)]) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p,
        lambda p: p.flip(1),
        lambda p: p.rot90(1, (0, 1)),
        lambda p: p.rot90(3, (0, 1)).flip(0),
        lambda p: (p + 0.02 * torch.randn(p.shape)).clamp(0, 1),
        lambda p: torch.cat([p, torch.ones_like(p[..., :1])], dim=-1),
        lambda p: F.interpolate(p.movedim(-1, 0)[None], 256)[0].movedim(0, -1),
    ],
)
def test_doubles(change) -> None:
    double = Picture(change(scene(0)), source="double.png")
    (said,) = look([picture(0), picture(1), double])
    same = "The same picture, or nearly, perhaps turned or mirrored: 0.png = double.png"
    assert said.startswith(same)


def test_similar_pictures_are_no_doubles() -> None:
    """The same thing in another place on the same ground."""
    pictures = []
    for i in range(3):
        pixels = 0.5 + 0.02 * torch.rand(128, 128, 3)
        pixels[20 : 20 + 32, 10 + 30 * i : 42 + 30 * i] = scene(0, 32, 32)
        pictures.append(Picture(pixels))
    assert look(pictures) == []


def test_pictures_smaller_than_the_resolution() -> None:
    small = Picture(scene(0, 90, 300), source="small.png")
    (said,) = look([small, picture(1)])
    assert said.startswith("Smaller than the resolution of 128: small.png (300 x 90).")
    # In its own shape it is large enough.
    assert look([small], buckets=True) == []


def test_blurred_pictures() -> None:
    soft = F.interpolate(scene(0, 512, 512, 64).movedim(-1, 0)[None], 64, mode="area")
    soft = F.interpolate(soft, 512, mode="bicubic")[0].movedim(0, -1).clamp(0, 1)
    (said,) = look([Picture(soft, source="soft.png"), Picture(scene(1, 512, 512))], resolution=512)
    assert said.startswith("Blurred at the resolution of 512: soft.png.")


def test_what_has_no_details_is_not_called_blurred() -> None:
    ground = torch.linspace(0.3, 0.7, 128).expand(128, 128)[..., None].repeat(1, 1, 3)
    assert look([Picture(torch.full((128, 128, 3), 0.3)), Picture(ground)]) == []


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the photos are not at hand")
def test_real_photos_are_sharp_until_they_are_blurred() -> None:
    folder: Path
    for folder in sorted(PHOTOS.iterdir()):
        pictures = read_folder(folder).pictures
        assert look(pictures, resolution=512) == []
        pixels, _ = fit(pictures[0], (512, 512))
        soft = pixels.movedim(-1, 0)
        for _ in range(2):
            soft = F.avg_pool2d(F.pad(soft, (3,) * 4, "replicate"), 7, 1)
        assert sharpness(soft.movedim(0, -1)) < 0.6 * sharpness(pixels)
        (said,) = look([Picture(soft.movedim(0, -1))], resolution=512)
        assert said.startswith("Blurred")


def test_masks_that_leave_little() -> None:
    mask = torch.zeros(128, 128)
    mask[:16, :16] = 1
    (said,) = look([picture(0, mask=mask), picture(1, mask=torch.ones(128, 128))])
    assert said.startswith("Masks that leave little of the picture to learn from: 0.png (1.6%).")


@pytest.mark.parametrize(
    ("seconds", "sentence"),
    [
        ((0.7, 0.7), "1000 steps take about a second."),
        ((40.2, 40.2), "1000 steps take about 40 seconds."),
        ((1200.0, 1200.0), "1000 steps take about 20 minutes."),
    ],
)
def test_the_time_a_run_takes(seconds: tuple[float, float], sentence: str) -> None:
    assert expectation(seconds, (1000, 1000), torch.device("cpu")) == sentence


def test_the_time_of_a_run_without_a_length_is_a_range() -> None:
    told = expectation((8.0, 400.0), (40, 2000), torch.device("cpu"))
    assert told == "40 to 2000 steps take about 8 seconds to 7 minutes."
