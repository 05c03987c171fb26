"""From pictures, masks and captions as users have them to what a step draws from."""

from __future__ import annotations

import pytest
import torch
from support.toy_model import ToyModel
from textual_inversion.trainer.data.batches import draw_batch, evaluation_batches
from textual_inversion.trainer.data.pictures import Picture, fit
from textual_inversion.trainer.data.training_set import encode
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.prompts import TEMPLATES
from textual_inversion.trainer.settings import Settings


def test_no_pictures() -> None:
    with pytest.raises(InputError, match="no pictures to learn from"):
        encode(ToyModel(), [], Settings())


@pytest.mark.parametrize("size", [(40, 100), (100, 40), (64, 64), (7, 5), (1, 90)])
def test_middle_of_the_picture_fills_the_square(size: tuple[int, int]) -> None:
    square, mask = fit(Picture(torch.rand(*size, 3)), (64, 64))
    assert square.shape == (64, 64, 3)
    assert 0 <= square.min() <= square.max() <= 1
    assert mask is None


def test_crop_is_central() -> None:
    pixels = torch.zeros(64, 128, 3)
    pixels[:, 32:96] = 1
    assert fit(Picture(pixels), (64, 64))[0].min() == 1


def transparent_red() -> Picture:
    """Opaque red on the left, transparent green on the right."""
    pixels = torch.zeros(64, 64, 4)
    pixels[:, :32] = torch.tensor([1.0, 0, 0, 1])
    pixels[:, 32:] = torch.tensor([0.0, 1, 0, 0])
    return Picture(pixels)


def test_transparent_parts_become_white() -> None:
    square, mask = fit(transparent_red(), (64, 64))
    assert square[0, 0].tolist() == [1, 0, 0]
    assert square[0, 63].tolist() == [1, 1, 1]
    assert mask is None


def test_opacity_as_mask() -> None:
    _, mask = fit(transparent_red(), (64, 64), "mask")
    assert mask[:, :32].min() == 1
    assert mask[:, 32:].max() == 0


def test_opacity_narrows_a_given_mask() -> None:
    given = torch.zeros(64, 64)
    given[:32] = 1
    picture = transparent_red()
    _, mask = fit(Picture(picture.pixels, mask=given), (64, 64), "mask")
    assert mask[:32, :32].min() == 1
    assert mask.sum() == 32 * 32


def test_mask_of_another_size_is_scaled() -> None:
    mask = torch.zeros(8, 8)
    mask[:, 4:] = 1
    _, fitted = fit(Picture(torch.rand(64, 64, 3), mask=mask), (64, 64))
    assert fitted.shape == (64, 64)
    assert fitted[:, 40:].min() == 1
    assert fitted[:, :24].max() == 0


def test_empty_mask_is_refused() -> None:
    with pytest.raises(InputError, match=r"The mask of b\.png is empty"):
        fit(Picture(torch.rand(8, 8, 3), mask=torch.zeros(8, 8), source="b.png"), (64, 64))


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 2), (0, 8, 3), (1, 8, 8, 3)])
def test_tensor_that_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="pictures must be"):
        fit(Picture(torch.rand(shape)), (64, 64))


def test_each_picture_has_its_prompts() -> None:
    pictures = [Picture(torch.rand(64, 64, 3)), Picture(torch.rand(64, 64, 3), "red my-word")]
    training_set = encode(ToyModel(), pictures, Settings(resolution=64, learn="style"))
    assert training_set.prompts == [list(TEMPLATES["style"]), ["red [name]"]]
    for (view,) in training_set.pictures:
        assert view.latents.shape == (3, 8, 8)
        assert view.mask is None


def test_mirrored_pictures_and_masks() -> None:
    mask = torch.zeros(64, 64)
    mask[:, :32] = 1
    pictures = [Picture(torch.rand(64, 64, 3), mask=mask), Picture(torch.rand(64, 64, 3))]
    chosen = Settings(resolution=64, flip=True, batch_size=2)
    training_set = encode(ToyModel(), pictures, chosen)
    for plain, mirrored in training_set.pictures:
        torch.testing.assert_close(mirrored.latents, plain.latents.flip(-1))
        assert plain.weight == mirrored.weight
    plain, mirrored = training_set.pictures[0]
    assert plain.mask[0, 0].tolist() == [1] * 4 + [0] * 4
    assert mirrored.mask[0, 0].tolist() == [0] * 4 + [1] * 4
    # In one batch with it, a picture without a mask is learned from everywhere.
    batch = draw_batch(training_set, ToyModel().schedule, chosen, 0)
    assert sorted(mask.mean().item() for mask in batch.masks) == [0.5, 1]


def test_zoomed_pictures_say_so() -> None:
    """Half of the samples are zoomed; nearer ones have no mask, farther ones always."""
    chosen = Settings(resolution=64, zoom=0.5, templates="a [name]", batch_size=8)
    training_set = encode(ToyModel(), [Picture(torch.rand(90, 70, 3))], chosen)
    batches = [draw_batch(training_set, ToyModel().schedule, chosen, i) for i in range(40)]
    prompts = [prompt for batch in batches for prompt in batch.prompts]
    counts = {prompt: prompts.count(prompt) / len(prompts) for prompt in set(prompts)}
    assert counts == {
        "a [name]": pytest.approx(0.5, abs=0.1),
        "a [name], a close-up": pytest.approx(0.25, abs=0.1),
        "a [name], seen from afar": pytest.approx(0.25, abs=0.1),
    }
    for view in training_set.pictures[0]:
        assert (view.mask is not None) == ("afar" in view.prompts[0])
    assert not torch.equal(training_set.pictures[0][1].latents, training_set.pictures[0][3].latents)


def test_the_fixed_batch_shows_pictures_as_they_are() -> None:
    chosen = Settings(resolution=64, batch_size=1, zoom=1, flip=True, templates="a [name]")
    training_set = encode(ToyModel(), [Picture(torch.rand(64, 64, 3))], chosen)
    for batch in evaluation_batches(training_set, ToyModel().schedule, chosen):
        torch.testing.assert_close(batch.latents[0], training_set.pictures[0][0].latents)
        assert batch.prompts == ["a [name]"]


def test_pictures_of_all_shapes_are_learned_from() -> None:
    """No batch mixes shapes, and none needs to."""
    sizes = [(64, 64), (64, 128), (128, 64), (200, 300), (100, 1000)]
    pictures = [Picture(torch.rand(*size, 3)) for size in sizes]
    chosen = Settings(resolution=64, buckets=True, batch_size=3)
    training_set = encode(ToyModel(), pictures, chosen)
    shapes = [tuple(views[0].latents.shape[1:]) for views in training_set.pictures]
    assert len(set(shapes)) > 2
    drawn = [draw_batch(training_set, ToyModel().schedule, chosen, i) for i in range(5)]
    assert {tuple(batch.latents.shape[2:]) for batch in drawn} == set(shapes)
    fixed = evaluation_batches(training_set, ToyModel().schedule, chosen)
    assert sum(len(batch.timesteps) for batch in fixed) == 8
    assert len({int(t) for batch in fixed for t in batch.timesteps}) == 8


def test_a_batch_depends_on_seed_and_position_alone() -> None:
    pictures = [Picture(torch.rand(64, 64 + 40 * i, 3), "red, [name], blue") for i in range(3)]
    chosen = Settings(
        resolution=64, buckets=True, zoom=0.5, flip=True, shuffle_tags=True, drop_tags=0.5, seed=5
    )
    first, second = (encode(ToyModel(), pictures, chosen) for _ in range(2))
    for position in (7, 0, 3):
        one, other = (
            draw_batch(training_set, ToyModel().schedule, chosen, position)
            for training_set in (first, second)
        )
        assert one.prompts == other.prompts
        assert torch.equal(one.latents, other.latents)
        assert torch.equal(one.noise, other.noise)
