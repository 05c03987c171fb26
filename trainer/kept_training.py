"""Training as the surfaces run it: the loop, with its run's folder and what is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from .embedding import Embedding
from .live import SAMPLE, SAVE, STOP
from .loop import Progress, train
from .model import FrozenModel
from .pictures import Picture
from .previews import preview
from .run_folder import LossRow
from .runs import Run
from .settings import Settings
from .team import ALONE, Team


def train_and_keep(
    run: Run,
    model: FrozenModel,
    pictures: Sequence[Picture],
    settings: Settings,
    start: Embedding | None = None,
    take_requests: Callable[[], frozenset[str]] = frozenset,
    team: Team = ALONE,
) -> Iterator[tuple[Progress, LossRow, frozenset[str]]]:
    """`loop.train`, from where the run was cut short, with all that is worth keeping written.

    Args:
        run: open, and left open.
        model: see `train`.
        pictures: see `train`.
        settings: see `train`; their `preview_every` and `save_every` count here.
        start: see `train`.
        take_requests: what of `live.ACTIONS` has been asked since the last call.
        team: see `train`; of several processes, this is the one that leads.

    Yields:
        after each step: the progress, its row of losses, and the requests that were met. With
        `live.STOP` among them it is the last.
    """
    for progress in train(model, pictures, settings, start, run.state, team=team):
        row = run.record(progress)
        asked = take_requests()
        due = settings.preview_every and progress.step % settings.preview_every == 0
        if due or SAMPLE in asked:
            run.add_preview(progress, preview(model, pictures, settings, progress.last))
        if SAVE in asked:
            run.save(progress)
        yield progress, row, asked
        if STOP in asked:
            break
    # A run may end before its last step, by request or because it has settled.
    run.save(progress)
