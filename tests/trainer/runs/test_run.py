"""Runs are kept in folders, survive whatever ends them, and go on from there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.paths import ROOT
from support.toy_model import ToyModel
from textual_inversion.trainer.data.pictures import Picture
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.errors import InputError
from textual_inversion.trainer.learning.loop import Progress
from textual_inversion.trainer.learning.state import TrainingState
from textual_inversion.trainer.runs import run as runs_module
from textual_inversion.trainer.runs.checkpoints import load_state, save_state
from textual_inversion.trainer.runs.live import SAMPLE, SAVE, STOP, LiveRun, describe, thinned
from textual_inversion.trainer.runs.run import Run, open_run
from textual_inversion.trainer.runs.run_folder import LossRow, RunFolder, find_run, list_runs
from textual_inversion.trainer.runs.run_inputs import fingerprints
from textual_inversion.trainer.runs.training import train_and_keep
from textual_inversion.trainer.settings import Settings

PICTURES = [Picture(torch.tensor([0.8, 0.4, 0.3]).expand(64, 64, 3))]
SETTINGS = Settings(
    init_words="cat", steps=12, resolution=64, learning_rate="0.05", save_every=5, preview_every=4
)


def start(parent: Path, settings: Settings = SETTINGS, pictures=PICTURES) -> Run:
    return open_run(parent, settings, fingerprints(ToyModel(), pictures))


def go(run: Run, settings: Settings = SETTINGS, requests=frozenset, until: int = 0) -> list:
    """Train until a step, at which the user cancels; what came until then."""
    seen = []
    try:
        with run:
            for progress, *_ in train_and_keep(
                run, ToyModel(), PICTURES, settings, take_requests=requests
            ):
                seen.append((progress.step, progress.loss, progress.last.fingerprint))
                if progress.step == until:
                    raise KeyboardInterrupt
            run.end("finished")
    except KeyboardInterrupt:
        pass
    return seen


def test_what_a_run_leaves(tmp_path: Path) -> None:
    seen = go(start(tmp_path))
    (folder,) = list_runs(tmp_path)
    assert folder.id == "my-word_00001"
    assert folder.checkpoints() == [10, 12]
    assert folder.previews() == [4, 8, 12]
    assert folder.stills() == ["picture", "before"]
    assert folder.words() == [4, 5, 8, 10, 12]
    assert [(r.step, r.loss) for r in folder.losses()] == [(s, x) for s, x, _ in seen]
    assert folder.word().fingerprint == seen[-1][2]
    assert folder.word(5).fingerprint == seen[4][2]
    assert folder.word(5).name == "my-word"
    with Image.open(folder.preview_file(4)) as picture:
        assert picture.size == (64, 64)
    noted = json.loads(folder.settings_file.read_text())
    assert noted["settings"]["steps"] == 12
    assert noted["fingerprint"]["pictures"]
    status = json.loads(folder.status_file.read_text())
    assert (status["status"], status["step"], status["steps"]) == ("finished", 12, 12)
    with pytest.raises(InputError, match=r"no word of step 6: choose one of 4, 5, 8, 10, 12"):
        folder.word(6)


def test_a_cancelled_run_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = go(start(tmp_path / "whole"))
    first = go(start(tmp_path), until=7)
    (folder,) = list_runs(tmp_path)
    assert folder.status()["status"] == "interrupted"
    rest = go(start(tmp_path))
    assert [*first, *rest] == whole
    assert len(list_runs(tmp_path)) == 1
    assert [r.step for r in folder.losses()] == list(range(1, 13))


def test_a_finished_run_is_made_again(tmp_path: Path) -> None:
    first, second = go(start(tmp_path)), go(start(tmp_path))
    assert first == second
    assert {r.id for r in list_runs(tmp_path)} == {"my-word_00001", "my-word_00002"}


@pytest.mark.parametrize(
    ("settings", "pictures"),
    [
        (replace(SETTINGS, seed=1), PICTURES),
        (SETTINGS, [replace(PICTURES[0], pixels=PICTURES[0].pixels * 0.9)]),
        (SETTINGS, [replace(PICTURES[0], caption="a [name]")]),
        (SETTINGS, [replace(PICTURES[0], mask=torch.ones(64, 64))]),
        (SETTINGS, PICTURES * 2),
    ],
)
def test_other_inputs_start_anew(tmp_path: Path, settings: Settings, pictures: list) -> None:
    go(start(tmp_path), until=7)
    with start(tmp_path, settings, pictures) as run:
        assert run.state is None
        assert run.folder.id == "my-word_00002"
    # The first one can still be gone on with.
    with start(tmp_path) as run:
        assert run.folder.id == "my-word_00001"
        assert run.state is not None


def test_another_model_or_start_is_another_run() -> None:
    word = Embedding("other", {"clip_l": torch.ones(1, 4)})
    marks = [
        fingerprints(ToyModel(), PICTURES),
        fingerprints(ToyModel("flow"), PICTURES),
        fingerprints(ToyModel(), PICTURES, word),
    ]
    assert len({json.dumps(mark) for mark in marks}) == 3
    assert marks[0] == fingerprints(ToyModel(), PICTURES)


def test_how_often_to_save_changes_nothing_about_the_run(tmp_path: Path) -> None:
    go(start(tmp_path), until=7)
    with start(tmp_path, replace(SETTINGS, save_every=2, preview_every=0, previews=0)) as run:
        assert run.state is not None
        assert run.state.step == 7


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    whole = go(start(tmp_path / "whole"))
    go(start(tmp_path), until=11)
    (folder,) = list_runs(tmp_path)
    assert folder.checkpoints() == [10, 11]
    folder.checkpoint_file(11).write_bytes(b"nothing")
    assert go(start(tmp_path)) == whole[10:]


def test_a_run_from_before_a_setting_goes_on(tmp_path: Path) -> None:
    """What only says how much memory may be taken changes nothing about what is learned."""
    go(start(tmp_path), until=7)
    (folder,) = list_runs(tmp_path)
    file = folder.settings_file
    noted = json.loads(file.read_text(encoding="utf-8"))
    assert noted["settings"].pop("memory") == "auto"
    file.write_text(json.dumps(noted), encoding="utf-8")
    again = start(tmp_path, replace(SETTINGS, memory="6"))
    assert again.folder.path == folder.path
    assert again.state is not None
    assert again.state.step == 7


def test_on_request(tmp_path: Path) -> None:
    """A picture now, the word now, and stop."""
    wishes = iter([set(), {SAMPLE}, {SAVE}, set(), set(), {STOP}])
    quiet = replace(SETTINGS, preview_every=0, save_every=100)
    run = start(tmp_path, quiet)
    assert len(go(run, quiet, lambda: frozenset(next(wishes)))) == 6
    assert run.folder.previews() == [2]
    assert run.folder.words() == [2, 3, 6]
    assert run.folder.checkpoints() == [3, 6]


def test_an_error_is_noted_and_nothing_is_lost(tmp_path: Path) -> None:
    def fail(step: int) -> None:
        if step == 3:
            raise RuntimeError("out of memory")

    run = start(tmp_path)
    with suppress(RuntimeError), run:
        for progress, *_ in train_and_keep(run, ToyModel(), PICTURES, SETTINGS):
            fail(progress.step)
    assert run.folder.status()["message"] == "out of memory"
    assert run.folder.checkpoints() == [3]


def test_what_lies_beside_the_runs_stays(tmp_path: Path) -> None:
    """Any folder can be chosen for them, also one in which other programs write."""
    with start(tmp_path) as run:
        pass
    name = ".table.csv.01234567.tmp"
    (tmp_path / "others").mkdir()
    ours, theirs = run.folder.path / "words" / name, tmp_path / "others" / name
    for path in (ours, theirs):
        path.touch()
    with start(tmp_path, replace(SETTINGS, seed=9)):
        pass
    assert (ours.exists(), theirs.exists()) == (False, True)


def test_what_is_no_text_is_noted_all_the_same(tmp_path: Path) -> None:
    """Errors name files, and names of files can be any bytes."""
    name = os.fsdecode(b"caf\xe9.png")
    with start(tmp_path) as run:
        run.end("stopped", name)
    assert run.folder.status()["message"] == name


def test_words_are_thinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_module, "KEPT_WORDS", 6)
    often = replace(SETTINGS, save_every=1, preview_every=1)
    run = start(tmp_path, often)
    go(run, often)
    assert run.folder.words() == run.folder.previews()
    assert 3 <= len(run.folder.words()) <= 6
    assert run.folder.words()[-1] == 12


def test_killed_while_writing_anything(tmp_path: Path) -> None:
    """Killed before, within and after everything that is done to the folder."""
    code = (
        "from support.package import hide_repository_root, use_checkout;"
        "hide_repository_root(); use_checkout();"
        "from support.killed_runs import main; from pathlib import Path; import sys;"
        "main(Path(sys.argv[1]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(tmp_path)]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    answer = json.loads(output.stdout)
    assert answer["failures"] == []
    assert answer["deaths"] > 100


@pytest.mark.parametrize("name", ["..", "../x_00001", "/etc", "a/b_00001", "", "link_00001", "x"])
def test_nothing_outside_the_runs_is_found(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "x_00001"
    outside.mkdir()
    parent = tmp_path / "runs"
    parent.mkdir()
    (parent / "link_00001").symlink_to(outside, target_is_directory=True)
    for attempt in (name, str(outside)):
        with pytest.raises(InputError, match="There is no training run"):
            find_run(parent, attempt)
    assert list_runs(parent) == []


def test_what_others_see(tmp_path: Path) -> None:
    run = start(tmp_path)
    live = LiveRun(run.folder, 12, {"node": "5"})
    with run:
        for progress, row, _ in train_and_keep(run, ToyModel(), PICTURES, SETTINGS):
            live.add(row, progress)
            if progress.step == 9:
                break
        seen = describe(run.folder, live, after=6)
    assert [row[0] for row in seen["rows"]] == [7, 8, 9]
    assert (seen["status"], seen["step"], seen["steps"]) == ("running", 9, 12)
    assert seen["seconds_left"] > 0
    assert seen["owner"] == {"node": "5"}
    assert seen["previews"] == [4, 8]
    # Once the process is gone, the folder alone tells the same but for what has ended.
    later = describe(run.folder, after=6)
    assert later["rows"] == seen["rows"]
    assert (later["status"], later["seconds_left"]) == ("interrupted", None)
    json.dumps([seen, later], allow_nan=False)


def test_many_rows_are_thinned() -> None:
    rows = [LossRow(i, 1.0, 1.0, 0.5 if i % 999 == 0 else None, 0.1, 1.0) for i in range(1, 30_001)]
    some = thinned(rows)
    assert 1500 < len(some) < 2500
    assert some[-1].step == 30_000
    assert sum(row.evaluation is not None for row in some) == 30


def test_a_torn_loss_file_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.loss_file.write_text(
        "step,loss,smoothed_loss,evaluation,learning_rate,seconds\n"
        "1,0.5,0.5,,0.1,0.2\nx,y\n\n2,0.4,0.45,0.3,0.1,0.4\n3,0.3,0.4,,0.1,0."
    )
    assert [(r.step, r.evaluation) for r in folder.losses()] == [(1, None), (2, 0.3)]
    assert RunFolder(tmp_path / "absent").losses() == []


def test_tensorboard(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    go(start(tmp_path), until=7)
    go(start(tmp_path))
    (folder,) = list_runs(tmp_path)
    log = events.EventAccumulator(str(folder.path / "tensorboard")).Reload()
    assert [e.step for e in log.Scalars("loss/step")] == list(range(1, 13))
    assert [e.step for e in log.Images("preview")] == [4, 8, 12]


def anytime(**changes) -> Settings:
    return replace(
        SETTINGS, schedule="anytime", optimizer="sphere", learning_rate="0.08", **changes
    )


def noted(run: Run, settings: Settings) -> list[Progress]:
    seen = []
    with run:
        for progress, *_ in train_and_keep(run, ToyModel(), PICTURES, settings):
            seen.append(progress)
        run.end("finished")
    return seen


def test_a_run_that_the_limit_cut_off_goes_on_with_a_higher_one(tmp_path: Path) -> None:
    low, high = anytime(steps=6), anytime(steps=9)
    assert len(noted(start(tmp_path, low), low)) == 6
    with start(tmp_path, low) as again:
        assert again.state is None
        assert again.folder.id == "my-word_00002"
    shutil.rmtree(again.folder.path)
    run = start(tmp_path, high)
    assert run.folder.id == "my-word_00001"
    rest = noted(run, high)
    assert [one.step for one in rest] == [7, 8, 9]
    # The same as in one go.
    whole = noted(start(tmp_path / "other", high), high)
    assert [one.last.fingerprint for one in rest] == [one.last.fingerprint for one in whole[6:]]


def test_a_run_of_a_version_without_a_setting_goes_on(tmp_path: Path) -> None:
    chosen = replace(SETTINGS, schedule="cosine", averaging="last quarter")
    go(start(tmp_path, chosen), chosen, until=5)
    (folder,) = list_runs(tmp_path)
    content = json.loads(folder.settings_file.read_text(encoding="utf-8"))
    del content["settings"]["patience"]
    folder.settings_file.write_text(json.dumps(content), encoding="utf-8")
    # Its checkpoint knows nothing of what is measured now, on which a cosine does not depend.
    state = load_state(folder.checkpoint_file(5))
    kept = {k: v for k, v in state.parts.items() if k not in ("signal", "walk", "settling")}
    save_state(TrainingState(5, kept), folder.checkpoint_file(5))
    again = start(tmp_path, chosen)
    assert again.folder.id == folder.id
    rest = go(again, chosen)
    assert rest == go(start(tmp_path / "whole", chosen), chosen)[5:]


def test_losses_of_a_version_with_fewer_columns_are_read(tmp_path: Path) -> None:
    go(start(tmp_path))
    (folder,) = list_runs(tmp_path)
    rows = folder.losses()
    assert rows[-1].share is not None
    lines = folder.loss_file.read_text(encoding="utf-8").splitlines()
    old = "".join(",".join(line.split(",")[:6]) + "\n" for line in lines)
    folder.loss_file.write_text(old, encoding="utf-8")
    assert [(r.step, r.loss, r.share) for r in folder.losses()] == [
        (r.step, r.loss, None) for r in rows
    ]
