"""What running a graph gave, put together from the server's messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .graph import Node


class InvalidGraphError(Exception):
    """The server refused a graph before running it; `node_errors` is its own answer."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self.error: dict[str, Any] = dict(answer.get("error") or {})
        self.node_errors: dict[str, Any] = dict(answer.get("node_errors") or {})
        lines = [" ".join(str(self.error.get(key, "")) for key in ("message", "details")).strip()]
        for node_id, entry in self.node_errors.items():
            lines += [
                f"{entry.get('class_type')} ({node_id}): {error.get('message')}: "
                f"{error.get('details')}"
                for error in entry.get("errors", ())
            ]
        super().__init__("\n".join(lines))


@dataclass(frozen=True)
class ExecutionError:
    """An exception inside a node."""

    node_id: str
    node_type: str
    exception_type: str
    message: str
    traceback: str


class GraphFailedError(Exception):
    """A graph did not end well; `result` has what came until then."""

    def __init__(self, result: Result) -> None:
        self.result = result
        error = result.error
        super().__init__(
            f"{error.node_type} ({error.node_id}): {error.exception_type}: {error.message}\n"
            f"{error.traceback}"
            if error
            else f"The graph ended as '{result.status}'."
        )


@dataclass(frozen=True)
class Progress:
    """One step of a node's progress bar."""

    node_id: str
    value: float
    maximum: float


@dataclass(frozen=True)
class ProgressText:
    """A text that a node showed about its progress."""

    node_id: str
    text: str


@dataclass
class Result:
    """One run of a graph.

    `status` is "success", "error" or "interrupted". `outputs` is what nodes gave to be shown,
    by node id; nodes answered from the cache are in it too. `executed` are the ids of nodes
    that ran, `cached` of those that did not have to. `previews` are encoded pictures.
    """

    prompt_id: str
    status: str = "running"
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)
    texts: list[ProgressText] = field(default_factory=list)
    previews: list[bytes] = field(default_factory=list)
    error: ExecutionError | None = None
    seconds: float = 0.0

    def __getitem__(self, node: Node | str) -> dict[str, Any]:
        """What one node gave to be shown."""
        return self.outputs[node if isinstance(node, str) else node.id]

    def ran(self, node: Node | str) -> bool:
        """Whether a node ran, rather than being answered from the cache."""
        return (node if isinstance(node, str) else node.id) in self.executed

    def check(self) -> Result:
        """Raise unless the graph ended well."""
        if self.status != "success":
            raise GraphFailedError(self)
        return self

    def take(self, kind: str, data: Mapping[str, Any]) -> bool:
        """Take in one message of the server; True when it was the last."""
        if kind == "executing":
            node = data.get("node")
            if node is None:
                return True
            if node not in self.executed:
                self.executed.append(node)
        elif kind == "execution_cached":
            self.cached = [str(node) for node in data["nodes"]]
        elif kind == "executed":
            self.outputs[str(data["node"])] = data.get("output") or {}
        elif kind == "progress":
            self.progress.append(
                Progress(str(data.get("node")), float(data["value"]), float(data["max"]))
            )
        elif kind == "execution_success":
            self.status = "success"
        elif kind == "execution_interrupted":
            self.status = "interrupted"
        elif kind == "execution_error":
            self.status = "error"
            self.error = ExecutionError(
                node_id=str(data.get("node_id")),
                node_type=str(data.get("node_type")),
                exception_type=str(data.get("exception_type")),
                message=str(data.get("exception_message")).strip(),
                traceback="".join(data.get("traceback") or ()),
            )
        return False
