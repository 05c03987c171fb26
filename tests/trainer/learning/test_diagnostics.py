"""What is told of a word while it is learned, on a model whose vocabulary is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.toy_model import WORDS, ToyModel
from textual_inversion.trainer.data.pictures import Picture
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.embeddings.inspection import EncoderReport, Lengths, Row
from textual_inversion.trainer.learning.diagnostics import Diagnostics, diagnose, remarks
from textual_inversion.trainer.learning.loop import train
from textual_inversion.trainer.learning.losses import Evaluation
from textual_inversion.trainer.runs.report import RunReport
from textual_inversion.trainer.settings import Settings

COLOUR = torch.tensor([0.8, 0.4, 0.3])


def run(**changes) -> list[Diagnostics]:
    defaults = {"init_words": "cat", "steps": 80, "resolution": 64, "learning_rate": "0.05",
                "schedule": "cosine", "averaging": "last quarter"}  # fmt: skip
    pictures = [Picture(COLOUR.expand(64, 64, 3))]
    chosen = Settings(**(defaults | {"evaluations": 16} | changes))
    return [p.diagnostics for p in train(ToyModel(), pictures, chosen) if p.diagnostics]


def at(
    step: int, evaluation: float, length: float = 1.0, likeness: float = 1.0, smoothed: float = 0.1
) -> Diagnostics:
    rows = [Row(0.4 * length, [("cat", 0.9)])]
    encoder = EncoderReport("clip_l", 4, rows, Lengths(0.4, 0.3, 0.4, 0.5))
    return Diagnostics(step, evaluation, smoothed, {}, [encoder], {"clip_l": likeness})


def test_a_word_is_compared_with_the_vocabulary_and_its_start() -> None:
    model = ToyModel()
    table = model.text_encoders[0].vocabulary
    cat, blue = table[[WORDS.index("cat")]], table[[WORDS.index("blue")]]
    told = diagnose(
        7, Evaluation([3.0, 1.0, 2.0], [0.9, 0.1, 0.2]), 0.5, Embedding("w", {"clip_l": 2 * blue}),
        {"clip_l": cat}, model.text_encoders,
    )  # fmt: skip
    assert told.encoders[0].rows[0].nearest[0] == ("blue", pytest.approx(1))
    expected = torch.nn.functional.cosine_similarity(blue, cat).item()
    assert told.likeness["clip_l"] == pytest.approx(expected, abs=1e-6)
    assert told.length == pytest.approx(2 * blue.norm().item() / table.norm(dim=1).mean().item())
    assert told.evaluation == 2
    assert told.bands == {"little noise": 1.5, "much noise": 3}
    assert "1.5000 with little noise, 3.0000 with much noise" in str(told)
    assert f"{expected:.2f} like the start" in told.line
    assert told.line.endswith("near blue")


def test_lengths_are_compared_with_words_as_the_encoder_reads_them() -> None:
    """Gemma multiplies the rows of its vocabulary, but not a vector in place of a word."""
    encoder = replace(ToyModel().text_encoders[0], scale=50.0)
    word = Embedding("w", {"clip_l": encoder.rows([0])})
    told = diagnose(1, Evaluation([1.0], [0.5]), 1.0, word, word.vectors, [encoder])
    lengths = encoder.vocabulary.norm(dim=1)
    assert told.length == pytest.approx((lengths[0] / lengths.mean()).item())


def test_a_run_is_told_at_its_evaluations() -> None:
    told = run()
    assert [one.step for one in told] == list(range(5, 81, 5))
    assert list(told[0].bands) == ["little noise", "some noise", "much noise"]
    assert told[-1].evaluation < told[0].evaluation
    assert told[0].likeness["clip_l"] > told[-1].likeness["clip_l"]
    assert run(evaluations=0) == []


def test_a_sound_run_needs_no_remark() -> None:
    falling = [at(10 * i, 1 / i, 1 + 0.02 * i, 1 - 0.02 * i) for i in range(1, 11)]
    assert remarks(falling) == {}
    assert remarks([]) == {}


def test_a_run_that_breaks_out_is_remarked_upon() -> None:
    told = run(learning_rate="0.05:60, 3:80")
    best = min(told, key=lambda one: one.evaluation)
    assert f"Since step {best.step} the word has become worse" in remarks(told)["worse"]
    assert remarks(told[:11]).keys() & {"worse", "long"} == set()


def test_memorising_is_told_from_mere_loss() -> None:
    fell = [at(10, 0.5), at(20, 0.4), at(30, 0.5, smoothed=0.05)]
    assert "while the training loss fell: it memorises" in remarks(fell)["worse"]
    rose = [*fell[:2], replace(fell[2], smoothed_loss=0.2)]
    assert "memorises" not in remarks(rose)["worse"]
    # A little of what was gained may go again.
    assert remarks([*fell[:2], at(30, 0.41)]) == {}


def test_a_long_word_is_remarked_upon() -> None:
    told = [at(10, 0.5, 1.2), at(20, 0.4, 6)]
    assert "The word is 6.0 times as long as a usual one" in remarks(told)["long"]
    # One that was long from the start was meant to be.
    assert remarks([at(10, 0.5, 6), at(20, 0.4, 7)]) == {}


def test_steps_that_bring_nothing_are_remarked_upon() -> None:
    settled = [at(10, 0.5), at(20, 0.4)]
    drifting = [at(10 * i, 0.4, 1.0, 1 - 0.1 * i) for i in range(3, 8)]
    assert "About 20 steps will do." in remarks([*settled, *drifting])["late"]
    growing = [at(10 * i, 0.4, 1 + 0.1 * i) for i in range(3, 8)]
    assert "About 20 steps will do." in remarks([*settled, *growing])["late"]
    # Steps that change nothing cost nothing.
    assert remarks([*settled, *(at(10 * i, 0.4) for i in range(3, 8))]) == {}


def test_what_a_run_takes_is_kept_up_to_date() -> None:
    """A run that ends by itself knows its end only later."""
    pictures = [Picture(COLOUR.expand(64, 64, 3))]
    report, said = RunReport([], torch.device("cpu")), []
    for progress in train(ToyModel(), pictures, Settings(init_words="cat", resolution=64)):
        said += report.take(progress)
    assert progress.step < 2000
    assert any(
        line.startswith(f"{progress.step} steps take about") for line in str(report).splitlines()
    )
    assert sum("steps take about" in line for line in said) == 1


def test_a_report_says_what_is_new_once_and_keeps_the_rest() -> None:
    pictures = [Picture(COLOUR.expand(64, 64, 3))]
    chosen = Settings(
        init_words="cat", steps=80, resolution=64, learning_rate="0.05:60, 3:80",
        averaging="last quarter",
    )  # fmt: skip
    report = RunReport(["A picture is blurred."], torch.device("cpu"))
    said = []
    for progress in train(ToyModel(), pictures, chosen):
        said += report.take(progress)
    assert sum("steps take about" in line for line in said) == 1
    assert sum("like the start" in line for line in said) == 20
    assert sum("has become worse" in line for line in said) == 1
    first, *signs = report.notes
    assert first == "A picture is blurred."
    assert any("has become worse" in sign for sign in signs)
    assert str(report).startswith("After step 80 the loss on the fixed batch is")
    lines = str(report).splitlines()
    assert set(report.notes) <= set(lines)
    (forecast,) = (line for line in lines if line.startswith("80 steps take about"))
    # What was told before the run is not told again by what was learned.
    assert set(report.learned.splitlines()) & {first, forecast} == set()
    assert set(signs) <= set(report.learned.splitlines())
