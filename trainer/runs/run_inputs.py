"""What decides what a run learns, and so which runs and words are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..data.pictures import Picture, pictures_fingerprint
from ..embeddings.embedding import Embedding
from ..learning.run_metadata import run_metadata
from ..methods.learning_rate import is_anytime
from ..model import FrozenModel
from ..settings import Settings
from .run_folder import RunFolder, numbered

NOT_IN_THE_RESULT = frozenset({"previews", "preview_every", "save_every", "memory"})
"""Settings that change nothing about what is learned, so that a run goes on with others."""

LIMITS = frozenset({"steps", "patience"})
"""Settings that only say when a run ends that has no length of its own."""

_SETTINGS = "textual_inversion.settings"
_INPUTS = (
    "textual_inversion.model",
    "textual_inversion.pictures_hash",
    "textual_inversion.start_from",
    "modelspec.encoder_layer",
)
"""Notes of a word that say what it was learned from, see `run_metadata`."""


def fingerprints(
    model: FrozenModel, pictures: Sequence[Picture], start: Embedding | None = None
) -> dict[str, str]:
    """SHA-256 of everything beside the settings that a run depends on.

    Returns:
        `model`: its description, noise schedule and vocabularies; `pictures`: pixels, captions
        and masks in their order; `start`: the embedding that it goes on from, or nothing.
    """
    digest = hashlib.sha256(json.dumps(dict(model.description), sort_keys=True).encode())
    # Some vocabularies take gigabytes: a part of the rows tells two of them apart as well.
    tables = [encoder.vocabulary[::61] for encoder in model.text_encoders]
    for tensor in (model.schedule.alphas, *tables):
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return {
        "model": digest.hexdigest(),
        "pictures": pictures_fingerprint(pictures),
        "start": start.fingerprint if start else "",
    }


def deciding(settings: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that decide what is learned in a step; those of old runs lack some."""
    whole = {**usual, **settings}
    # A run without a length is the same with any limit, up to there.
    endless = is_anytime(str(whole["schedule"]), str(whole["learning_rate"]))
    left_out = NOT_IN_THE_RESULT | (LIMITS if endless else frozenset())
    return {name: value for name, value in whole.items() if name not in left_out}


def inputs_of(folder: RunFolder, usual: Mapping[str, Any]) -> dict[str, Any]:
    """What decides about a run, by its folder; {} where that does not say."""
    noted = folder.settings()
    settings = noted.get("settings")
    if not isinstance(settings, dict):
        return {}
    kept = deciding(settings, usual)
    return {"settings": kept, "fingerprint": noted.get("fingerprint")}


def has_settings(word: Embedding, settings: Settings) -> bool:
    """Whether a word was learned with the same settings, limits included, as its notes tell."""
    with suppress(KeyError, ValueError, TypeError, RecursionError):
        noted = json.loads(word.metadata[_SETTINGS])
        given = asdict(settings)
        whole = {**asdict(type(settings)()), **noted}
        return all(whole[name] == given[name] for name in given.keys() - NOT_IN_THE_RESULT)
    return False


def is_learned_from(
    word: Embedding,
    model: FrozenModel,
    settings: Settings,
    pictures: Sequence[Picture],
    start: Embedding | None,
) -> bool:
    """Whether a word was learned by a run with the same inputs, as its notes tell."""
    inputs = run_metadata(model, settings, pictures, start)
    same = all(word.metadata.get(note) == inputs.get(note) for note in _INPUTS)
    return same and has_settings(word, settings)


def inputs_of_run(settings: Settings, fingerprint: Mapping[str, str]) -> dict[str, Any]:
    """What decides about a run with these settings; see `inputs_of`."""
    usual = asdict(type(settings)())
    return {"settings": deciding(asdict(settings), usual), "fingerprint": dict(fingerprint)}


def runs_of(
    parent: Path, settings: Settings, fingerprint: Mapping[str, str]
) -> Iterator[RunFolder]:
    """The runs with the same inputs, the newest first.

    Args:
        parent: the folder of all runs.
        settings: of the run.
        fingerprint: from `fingerprints`.
    """
    usual = asdict(type(settings)())
    inputs = inputs_of_run(settings, fingerprint)
    for run in _newest_first(parent, settings.name):
        if inputs_of(run, usual) == inputs:
            yield run


def find_alike(parent: Path, kind: type[Settings], given: Mapping[str, Any]) -> RunFolder | None:
    """The newest run that was given some settings, whatever its model and pictures.

    Args:
        parent: the folder of all runs.
        kind: of its settings.
        given: some of them, by name. Without that of the word nothing is found.

    Raises:
        InputError: no run can have such settings.
    """
    usual = asdict(kind())
    known = {name: value for name, value in given.items() if name in usual}
    runs = _newest_first(parent, kind(**known).name) if "name" in known else []
    # A linked folder is none of the runs that are listed.
    own = (run for run in runs if not run.path.is_symlink())
    return next((run for run in own if _has_run(run, kind, known)), None)


def _has_run(run: RunFolder, kind: type[Settings], known: Mapping[str, Any]) -> bool:
    """Whether a run was given some settings, as its folder tells."""
    usual = asdict(kind())
    noted = run.settings().get("settings")
    if not isinstance(noted, dict):
        return False
    noted = {name: value for name, value in noted.items() if name in usual}
    # A folder can be damaged, or of a later version.
    with suppress(ValueError, TypeError, AttributeError, RecursionError):
        given = asdict(kind(**{**noted, **known}))
        return deciding(noted, usual) == deciding(given, usual)
    return False


def _newest_first(parent: Path, name: str) -> list[RunFolder]:
    runs = numbered(parent, name)
    return [RunFolder(runs[number]) for number in sorted(runs, reverse=True)]
