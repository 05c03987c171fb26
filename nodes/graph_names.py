"""Which nodes of a graph would write words of the same name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from ..trainer.embeddings.names import new_name, same_name
from ..trainer.errors import InputError
from ..trainer.settings import PAIR_SUFFIX
from .inputs import TRAINING_NODES

_SAVE = "TextualInversionSave"


def check_alone(hidden: Any, names: Sequence[str]) -> None:
    """Refuse where another node of the graph would write a word of one of these names.

    Names that come through links are not known before their nodes have run.

    Args:
        hidden: the node's, with the graph as the host got it.
        names: of the words that it will write.

    Raises:
        InputError: another one would; the sentence says which.
    """
    own = str(hidden.unique_id)
    for number, node in (hidden.prompt or {}).items():
        for name in _written(node, own) if number != own else ():
            if any(same_name(name, mine) for mine in names):
                title = node.get("_meta", {}).get("title", node.get("class_type"))
                raise InputError(
                    f"The name “{name}” is also used by the node “{title}” ({number}), and both "
                    "would write the same file: give each a name of its own."
                )


def _written(node: Mapping[str, Any], own: str) -> Iterator[str]:
    """The names of the words that a node writes, unless it writes what `own` has learned."""
    inputs, kind = node.get("inputs", {}), node.get("class_type")
    name = inputs.get("name")
    if not isinstance(name, str) or not name.strip():
        return
    trains = kind in TRAINING_NODES and inputs.get("save", True) is True
    saves = kind == _SAVE and (inputs.get("embedding") or [own])[0] != own
    if trains or saves:
        with suppress(InputError):  # A name that cannot be one is refused there.
            yield new_name(name)
            if (trains and inputs.get("objective") == "pair") or inputs.get("word_for") == "both":
                yield f"{new_name(name)}{PAIR_SUFFIX}"
