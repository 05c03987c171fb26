"""Whatever fails beside the learning: it is told, the run goes on, and no word is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.toy_model import ToyModel
from textual_inversion.trainer.data.pictures import Picture
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.files.reading import read_embedding
from textual_inversion.trainer.files.writing import write_embedding
from textual_inversion.trainer.learning.loop import Progress
from textual_inversion.trainer.runs.live import SAVE
from textual_inversion.trainer.runs.report import RunReport
from textual_inversion.trainer.runs.run import Run, open_run
from textual_inversion.trainer.runs.run_folder import FINISHED, LossRow
from textual_inversion.trainer.runs.run_inputs import fingerprints
from textual_inversion.trainer.runs.training import Destination, Trained, train_and_save
from textual_inversion.trainer.settings import Settings

PICTURES = [Picture(torch.tensor([0.8, 0.4, 0.3]).expand(64, 64, 3))]
SETTINGS = Settings(
    init_words="cat", steps=6, resolution=64, learning_rate="0.05", save_every=2, preview_every=3,
    previews=0,
)  # fmt: skip


class Watched:
    """A display that does something to the disk at a step."""

    def __init__(self, at: int = 0, do: Callable[[], object] = lambda: None) -> None:
        self._at, self._do = at, do
        self.requests: frozenset[str] = frozenset()
        self.steps: list[int] = []
        self.report: RunReport | None = None

    def begin(self, report: RunReport, step: int) -> None:
        self.report = report

    def say(self, text: str) -> None:
        pass

    def show(self, progress: Progress, row: LossRow, news: Sequence[str]) -> None:
        self.steps.append(progress.step)
        if progress.step == self._at:
            self._do()

    def take_requests(self) -> frozenset[str]:
        return self.requests

    def told(self, text: str) -> int:
        return sum(text in note for note in self.report.notes)


def into(folder: Path) -> Destination:
    def write(word: Embedding, overwrite: bool) -> None:
        write_embedding(word, folder / f"{word.name}.safetensors", overwrite=overwrite)

    return Destination(write)


def start(parent: Path, settings: Settings = SETTINGS) -> Run:
    return open_run(parent, settings, fingerprints(ToyModel(), PICTURES))


def go(
    display: Watched, destination: Destination, run: Run | None = None, settings=SETTINGS
) -> Trained:
    return train_and_save(
        ToyModel(), PICTURES, settings, display, destination, run=run
    )  # fmt: skip


def undisturbed(tmp_path: Path) -> Embedding:
    (tmp_path / "undisturbed").mkdir()
    return go(Watched(), into(tmp_path / "undisturbed")).words[0]


def test_the_runs_folder_is_deleted_in_the_middle(tmp_path: Path) -> None:
    with start(tmp_path / "runs") as run:
        display = Watched(3, lambda: shutil.rmtree(run.folder.path))
        trained = go(display, into(tmp_path), run)
    assert display.steps == [1, 2, 3, 4, 5, 6]
    assert display.told("A checkpoint was not written, but the run continues") == 1
    assert display.told("A picture of a step was not drawn") == 1
    assert trained.unsaved == ""
    saved = read_embedding(tmp_path / "my-word.safetensors")
    assert saved.fingerprint == undisturbed(tmp_path).fingerprint


def test_under_which_names_words_are_kept_is_noted(tmp_path: Path) -> None:
    """Of one that was asked for, of a finished one, and of one that was cut short."""
    with start(tmp_path / "runs") as run:
        display = Watched(3, lambda: told.append(run.folder.status()["kept"]))
        told: list[object] = []
        display.requests = frozenset({SAVE})
        go(display, into(tmp_path), run)
    assert told == [["my-word-3"]]
    assert run.folder.status()["kept"] == ["my-word"]

    def cancel() -> None:
        raise KeyboardInterrupt

    settings = replace(SETTINGS, seed=5)
    with pytest.raises(KeyboardInterrupt), start(tmp_path / "runs", settings) as run:
        go(Watched(3, cancel), into(tmp_path), run, settings)
    assert run.folder.status()["kept"] == ["my-word-interrupted"]


def test_the_last_picture_of_a_run_is_that_of_its_word(tmp_path: Path) -> None:
    settings = replace(SETTINGS, preview_every=0, previews=1)
    with start(tmp_path / "runs", settings) as run:
        go(Watched(), into(tmp_path), run, settings)
    assert run.folder.previews() == [6]
    assert run.folder.stills() == ["picture"]


@pytest.mark.parametrize(("steps", "count"), [(30, 2), (61, 4)])
def test_vectors_that_have_not_come_in_yet_are_told_of(
    steps: int, count: int, tmp_path: Path
) -> None:
    settings = replace(
        SETTINGS, num_vectors=4, progressive=True, steps=steps, learning_rate="auto",
        schedule="anytime", patience="none", evaluations=0,
        preview_every=0,
    )  # fmt: skip
    with start(tmp_path / "runs", settings) as run:
        trained = go(Watched(), into(tmp_path), run, settings)
    assert trained.words[0].num_vectors == count
    told = trained.report.learned, str(trained.report), run.folder.status()["message"]
    for text in told:
        assert ("The word has 2 of the 4 vectors: progressive adds" in text) == (count == 2)


def test_a_disk_that_is_full_for_a_while(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))

    def clear() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    class Filling(Watched):
        def show(self, progress: Progress, row: LossRow, news: Sequence[str]) -> None:
            super().show(progress, row, news)
            {1: fill, 5: clear}.get(progress.step, lambda: None)()

    display = Filling()
    try:
        with start(tmp_path / "runs") as run:
            trained = go(display, into(tmp_path), run)
    finally:
        clear()
    assert display.steps == [1, 2, 3, 4, 5, 6]
    assert display.told("A checkpoint was not written, but the run continues") == 1
    assert display.told("The losses were not written, but the run continues") == 1
    assert trained.unsaved == ""
    saved = read_embedding(tmp_path / "my-word.safetensors")
    assert saved.fingerprint == undisturbed(tmp_path).fingerprint
    assert run.folder.status()["status"] == FINISHED
    assert [row.step for row in run.folder.losses()] == [1, 2, 3, 4, 5, 6]
    assert run.folder.checkpoints() == [6]


def test_a_word_that_cannot_be_saved_now(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with start(tmp_path / "runs") as run:
        display = Watched()
        display.requests = frozenset({SAVE})
        trained = go(display, into(missing), run)
        folder = run.folder
    assert display.steps == [1, 2, 3, 4, 5, 6]
    assert display.told("The word of step 2 was not saved, but the run continues") == 1
    assert folder.status()["status"] == FINISHED
    # Nor could it be saved at the end: it is where the sentence says.
    assert str(folder.path) in trained.unsaved
    kept = read_embedding(folder.path / "my-word.safetensors")
    assert kept.fingerprint == trained.words[0].fingerprint == undisturbed(tmp_path).fingerprint


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_word_of_a_step_replaces_another_only_if_asked_to(
    overwrite: bool, tmp_path: Path
) -> None:
    other = Embedding("my-word-3", {"clip_l": torch.ones(1, 4)})
    path = tmp_path / "my-word-3.safetensors"
    write_embedding(other, path)
    display = Watched(2, lambda: setattr(display, "requests", frozenset({SAVE})))
    go(display, replace(into(tmp_path), overwrite=overwrite))
    assert display.told("The word of step 3 was not saved, but the run continues") == (
        not overwrite
    )
    assert (read_embedding(path).fingerprint == other.fingerprint) == (not overwrite)
    assert (tmp_path / "my-word-4.safetensors").exists()


def test_a_name_that_is_taken_in_the_meantime(tmp_path: Path) -> None:
    other = Embedding("my-word", {"clip_l": torch.ones(1, 4)})
    display = Watched(6, lambda: write_embedding(other, tmp_path / "my-word.safetensors"))
    trained = go(display, into(tmp_path))
    assert "“my-word.safetensors” already exists" in trained.unsaved
    assert "saved as “my-word-interrupted”" in trained.unsaved
    assert read_embedding(tmp_path / "my-word.safetensors").fingerprint == other.fingerprint
    kept = read_embedding(tmp_path / "my-word-interrupted.safetensors", "my-word")
    assert kept.fingerprint == trained.words[0].fingerprint


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_last_resort(interrupted: bool, tmp_path: Path) -> None:
    """No run, no folder to write into; also where the user ends it."""

    def interrupt() -> None:
        if interrupted:
            raise KeyboardInterrupt

    destination = replace(into(tmp_path / "missing"), last_resort=tmp_path / "last")
    display = Watched(6, interrupt)
    try:
        trained = go(display, destination)
        assert str(tmp_path / "last") in trained.unsaved
    except KeyboardInterrupt:
        assert interrupted
    kept = read_embedding(tmp_path / "last" / "my-word.safetensors")
    assert kept.fingerprint == undisturbed(tmp_path).fingerprint


def test_a_picture_that_cannot_be_drawn(tmp_path: Path) -> None:
    """As where the memory that was enough for training is not for the VAE."""

    class Small(ToyModel):
        def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    settings = replace(SETTINGS, previews=2)
    display = Watched()
    with open_run(tmp_path, settings, fingerprints(Small(), PICTURES)) as run:
        trained = train_and_save(Small(), PICTURES, settings, display, into(tmp_path), run=run)
    assert display.told("A picture of a step was not drawn, but the run continues") == 1
    assert display.told("The preview was not drawn") == 1
    assert read_embedding(tmp_path / "my-word.safetensors").fingerprint == (
        trained.words[0].fingerprint
    )
    assert run.folder.words() == [2, 4, 6]


def test_bad_input_still_ends_a_run(tmp_path: Path) -> None:
    settings = replace(SETTINGS, encoders="t5xxl")
    with pytest.raises(InputError, match="has no text encoder “t5xxl”"):
        go(Watched(), into(tmp_path), settings=settings)


def test_tensorboard_that_breaks_ends_nothing(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with start(tmp_path / "runs") as run:

        def breaks() -> None:
            run._events._writer.close()
            run._events._writer.file_writer = None
            run._events._writer.add_scalar = None

        trained = go(Watched(2, breaks), into(tmp_path), run)
    assert run.folder.checkpoints() == [4, 6]
    assert trained.words[0].fingerprint == undisturbed(tmp_path).fingerprint
