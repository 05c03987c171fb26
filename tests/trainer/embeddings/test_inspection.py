"""What is told of a word, as values, as text and as a picture; and which words are negative."""

from __future__ import annotations

import pytest
import torch
from support.toy_model import WORDS, ToyModel
from textual_inversion.trainer.embeddings.drawing import WIDTH, draw_embedding
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.embeddings.inspection import inspect, readable_notes
from textual_inversion.trainer.embeddings.metadata import NEGATIVE, is_clearly_positive, is_negative
from textual_inversion.trainer.model import TextEncoder

TABLE = ToyModel().text_encoders[0].vocabulary
VOCABULARY = TextEncoder("clip_l", TABLE, ToyModel().token_ids, word=lambda i: f"{WORDS[i]}\n")


def test_lengths_and_nearest_words() -> None:
    word = Embedding("w", {"clip_l": torch.stack([3 * TABLE[5], TABLE[6] + 0.01])})
    (encoder,) = inspect(word, [VOCABULARY]).encoders
    assert [row.nearest[0][0] for row in encoder.rows] == ["cat", "red"]
    assert encoder.rows[0].nearest[0][1] == pytest.approx(1)
    cosines = [c for _, c in encoder.rows[0].nearest]
    assert len(cosines) == 5
    assert cosines == sorted(cosines, reverse=True)
    assert encoder.rows[0].length == pytest.approx(3 * float(TABLE[5].norm()))
    assert encoder.usual is not None
    lengths = TABLE.norm(dim=1)
    assert encoder.usual.mean == pytest.approx(float(lengths.mean()))
    assert encoder.usual.middle == pytest.approx(float(lengths.quantile(0.5)))
    assert encoder.usual.low <= encoder.usual.middle <= encoder.usual.high


def test_tokens_that_nobody_can_read_are_left_out() -> None:
    """Half a character, a control character, and a word that stands there twice."""
    texts = ["cat", "\N{REPLACEMENT CHARACTER}", "\x1b ", "cat ", "dog", "red", "on", "the", "a"]
    vocabulary = TextEncoder(
        "clip_l", torch.eye(len(texts)), ToyModel().token_ids, word=texts.__getitem__
    )
    word = Embedding("w", {"clip_l": torch.linspace(2, 1, len(texts))[None]})
    (row,) = inspect(word, [vocabulary]).encoders[0].rows
    assert [near for near, _ in row.nearest] == ["cat", "dog", "red", "on", "the"]


def test_half_precision_and_another_label() -> None:
    """The host keeps vocabularies in 16 bits, and files label tensors as they like."""
    vocabulary = TextEncoder("clip_q", TABLE.half(), VOCABULARY.token_ids, word=VOCABULARY.word)
    report = inspect(Embedding("w", {"clip_l": TABLE[[2]]}), [vocabulary])
    assert report.encoders[0].rows[0].nearest[0][0] == "of"


def test_text_is_for_people() -> None:
    notes = {
        "modelspec.is_negative_embedding": "true",
        "modelspec.thumbnail": "data:image/png;base64," + "A" * 4000,
        "textual_inversion.settings": '{"steps": 5, "init_words": "", "name": "w"}',
        "evil\x1b[2J": "two\nlines\x1b[31m",
        "long": "x" * 1000,
    }
    text = str(inspect(Embedding("w", {"clip_l": torch.ones(2, 768)}, notes)))
    assert text.startswith("w: for Stable Diffusion 1, for negative prompts\n")
    assert "clip_l: 2 vectors, 768 wide" in text
    assert "settings: steps: 5, name: w" in text
    assert "thumbnail: a picture of 3 kB" in text
    assert "evil [2J: two lines [31m" in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) < 320


def test_notes_of_any_kind_can_be_read() -> None:
    for value in ("", "[" * 5000, "null", "NaN", "{}", "5"):
        readable_notes({"a": value})


@pytest.mark.parametrize(
    ("widths", "family", "partly"),
    [
        ({"clip_l": 768}, "Stable Diffusion 1",
         ["SDXL", "Stable Diffusion 3", "Flux.1", "HiDream"]),
        ({"clip_h": 1024}, "Stable Diffusion 2", []),
        ({"clip_l": 32}, "a model with a clip_l encoder 32 wide", []),
        ({"clip_l": 768, "clip_g": 1280}, "SDXL",
         ["Stable Diffusion 1", "Stable Diffusion 3", "Flux.1", "HiDream"]),
        ({"clip_l": 768, "clip_g": 1280, "t5xxl": 4096, "llama": 4096}, "HiDream", []),
    ],
)  # fmt: skip
def test_families(widths: dict[str, int], family: str, partly: list[str]) -> None:
    report = inspect(Embedding("w", {k: torch.ones(1, w) for k, w in widths.items()}))
    assert (report.family, list(report.partly)) == (family, partly)


def test_what_is_unusual_is_remarked() -> None:
    word = Embedding("w", {"clip_h": torch.zeros(1, 1024)})
    text = str(inspect(word, [VOCABULARY]))
    assert "does not fit the given text encoder: that reads vectors 4 (clip_l) wide" in text
    assert "all zero" in text


def test_the_portrait_shows_signs_and_lengths() -> None:
    rows = torch.cat([torch.ones(1, 4), -torch.ones(1, 4)])
    word = Embedding("w", {"clip_l": rows, "clip_g": torch.zeros(100, 1280)})
    picture = draw_embedding(word, inspect(word, [VOCABULARY]))
    assert picture.shape[1:] == (WIDTH, 3)
    assert picture.dtype == torch.float32
    assert 0 <= float(picture.min()) < float(picture.max()) <= 1
    first, second = (picture[y, 300] for y in (35, 57))
    assert first[0] > first[2], "red for what is above zero"
    assert second[0] < second[2], "blue for what is below"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, True) for name in (
            "EasyNegative", "badhandv4", "bad-hands-5", "bad_prompt_version2", "negative_hand-neg",
            "unaestheticXLv31", "verybadimagenegative_v1.3", "ng_deepnegative_v1_75t", "BadDream",
            "CyberRealisticNeg", "neg_Colorizer768-neutral", "some/folder/FastNegativeV2",
            "UnrealisticDream", "bad_artist", "bad-picture-chill-75v", "boring_e621_v4",
        )),
        *((name, False) for name in (
            "badger", "badge-style", "negev-desert", "my-dog", "negatives/my-dog", "vinegar",
            "sinbad", "hands",
        )),
    ],
)  # fmt: skip
def test_negatives_are_known_by_name(name: str, expected: bool) -> None:
    assert is_negative(name, {}) == expected


def test_notes_go_before_names() -> None:
    trained = {"textual_inversion.settings": "{}"}
    assert not is_negative("EasyNegative", {NEGATIVE: "false"})
    assert is_negative("dog", {NEGATIVE: "True"})
    assert is_clearly_positive("dog", trained)
    assert is_clearly_positive("dog", {NEGATIVE: "false"})
    assert not is_clearly_positive("dog", {})
    assert not is_clearly_positive("bad-hands-of-mine", trained)
    assert not is_clearly_positive("dog", {**trained, NEGATIVE: "true"})
