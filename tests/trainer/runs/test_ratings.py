"""Rated pictures in a folder: nothing is lost, and they are read back as pairs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.runs.ratings import (
    DISLIKED,
    LIKED,
    SKIPPED,
    WAITING,
    RatingFolder,
    pairs_in,
)


def picture(value: float) -> torch.Tensor:
    return torch.full((16, 24, 3), value)


def test_pictures_come_back_with_what_was_said(tmp_path: Path) -> None:
    folder = RatingFolder(tmp_path / "my taste")
    assert folder.all() == []
    cat = folder.add(picture(0.2), "a cat", seed=7, model="abc")
    dog = folder.add(picture(0.6), "a cat")
    other = folder.add(picture(0.9), "a dog")
    assert [one.rating for one in folder.all()] == [WAITING] * 3
    folder.rate(cat.key, LIKED)
    folder.rate(dog.key, DISLIKED)
    folder.rate(other.key, SKIPPED)
    folder.rate(cat.key, LIKED)  # Said before: nothing changes, its place among them neither.
    assert [(one.key, one.rating) for one in folder.all()] == [
        (cat.key, LIKED), (dog.key, DISLIKED), (other.key, SKIPPED),
    ]  # fmt: skip
    assert (folder.all()[0].seed, folder.all()[0].model) == (7, "abc")
    assert pairs_in(folder.all()) == 1
    liked, disliked = folder.pictures()
    assert (liked.caption, liked.unlike, disliked.unlike) == ("a cat", False, True)
    torch.testing.assert_close(liked.pixels.float() / 255, picture(0.2), atol=0.003, rtol=0)


def test_the_same_picture_is_there_once_and_keeps_its_rating(tmp_path: Path) -> None:
    folder = RatingFolder(tmp_path)
    key = folder.add(picture(0.2), "a cat").key
    folder.rate(key, LIKED)
    assert folder.add(picture(0.2), "a cat").rating == LIKED
    assert folder.add(picture(0.2), "a dog").key != key
    folder.rate(key, WAITING)
    assert sorted(one.rating for one in folder.all()) == [WAITING, WAITING]


def test_what_a_killed_process_leaves_harms_nothing(tmp_path: Path) -> None:
    """A picture without a rating file, a rating that is half there, and one of a lost picture."""
    folder = RatingFolder(tmp_path)
    keys = [folder.add(picture(i / 10), "a cat").key for i in range(4)]
    (tmp_path / f"{keys[0]}.json").unlink()
    (tmp_path / f"{keys[1]}.json").write_text('{"prompt": "a')
    (tmp_path / f"{keys[2]}.png").unlink()
    assert [one.key for one in folder.all()] == [keys[3]]
    assert folder.add(picture(0.0), "a cat").key == keys[0]
    assert len(folder.all()) == 2


def test_half_an_emoji_in_a_prompt_does_not_matter(tmp_path: Path) -> None:
    """Programs that cut texts leave one; JSON can say it, but no tokenizer and no file takes it."""
    folder = RatingFolder(tmp_path)
    key = folder.add(picture(0.5), "a cat").key
    said = (tmp_path / f"{key}.json").read_text()
    (tmp_path / f"{key}.json").write_text(said.replace("a cat", r"a cat \ud83d"))
    folder.rate(key, LIKED)
    assert [one.caption for one in folder.pictures()] == ["a cat ?"]


@pytest.mark.parametrize("key", ["../outside", "0" * 16, "", "0" * 1000])
def test_only_pictures_of_the_folder_are_rated(tmp_path: Path, key: str) -> None:
    (tmp_path / "outside.json").write_text("{}")
    folder = RatingFolder(tmp_path / "in")
    folder.add(picture(0.5), "a cat")
    with pytest.raises(InputError, match="have no picture"):
        folder.rate(key, LIKED)
    assert (tmp_path / "outside.json").read_text() == "{}"


def test_a_rating_is_one_of_three(tmp_path: Path) -> None:
    folder = RatingFolder(tmp_path)
    key = folder.add(picture(0.5), "a cat").key
    with pytest.raises(InputError, match="liked, disliked or skipped"):
        folder.rate(key, "loved")
    with pytest.raises(InputError, match="no rated pictures"):
        folder.pictures()
