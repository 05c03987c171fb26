"""The file of a checkpoint: a run between two steps, as safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from ..errors import InputError
from ..files.whole_files import write_whole
from ..learning.state import TrainingState, Tree

FORMAT = "textual-inversion-state-1"


def save_state(state: TrainingState, path: Path) -> None:
    """Write a checkpoint, in full or not at all: safetensors, with all but the tensors as JSON.

    Raises:
        InputError: the disk refuses.
    """
    tensors: dict[str, Tensor] = {}
    tree = _flatten({"step": state.step, **state.parts}, "", tensors)
    content = safetensors.torch.save(tensors, {"format": FORMAT, "state": json.dumps(tree)})
    write_whole(path, content)


def load_state(path: Path) -> TrainingState:
    """Read a checkpoint.

    Raises:
        InputError: not a checkpoint, or a damaged one.
    """
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            notes = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if notes.get("format") != FORMAT:
            raise ValueError("another format")
        parts = _unflatten(json.loads(notes["state"]), tensors)
        return TrainingState(int(parts.pop("step")), parts)
    except (OSError, safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"“{path.name}” is not a checkpoint of a training run, or is damaged: choose another, "
            "or start again without it."
        ) from error


def _flatten(tree: Tree, path: str, tensors: dict[str, Tensor]) -> Tree:
    """The tree as JSON, in which names stand for the tensors; those are added to `tensors`.

    Dictionaries become lists of pairs, because an optimizer's have numbers as keys.
    """
    if isinstance(tree, Tensor):
        tensors[path] = tree.contiguous()
        return {"tensor": path}
    if isinstance(tree, Mapping):
        pairs = [[key, _flatten(value, f"{path}.{key}".strip("."), tensors)]
                 for key, value in tree.items()]  # fmt: skip
        return {"dict": pairs}
    if isinstance(tree, list | tuple):
        values = [_flatten(value, f"{path}.{i}", tensors) for i, value in enumerate(tree)]
        return values if isinstance(tree, list) else {"tuple": values}
    return tree


def _unflatten(tree: Tree, tensors: Mapping[str, Tensor]) -> Tree:
    if isinstance(tree, list):
        return [_unflatten(value, tensors) for value in tree]
    if not isinstance(tree, dict):
        return tree
    ((kind, content),) = tree.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "tuple":
        return tuple(_unflatten(value, tensors) for value in content)
    return {key: _unflatten(value, tensors) for key, value in content}
