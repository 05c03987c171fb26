"""Workflows as the page saves them, checked against what the server says about its nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .subgraphs import without_subgraphs

Definition = Mapping[str, Any]
Workflow = Mapping[str, Any]

NOTES = frozenset({"Note", "MarkdownNote"})
"""Nodes that only the page knows."""

LEFT_TO_CHOOSE = frozenset({"CheckpointLoaderSimple", "LoadImage"})
"""Nodes with a file of the user's: a template leaves it empty, which the page opens without an
error, and refuses to run."""

WIDGETS = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})
AUTOGROW = "COMFY_AUTOGROW_V3"


class WorkflowError(Exception):
    """A workflow that does not fit the server's nodes, or itself."""


def to_api(workflow: Workflow, definitions: Mapping[str, Definition]) -> dict[str, Any]:
    """What the page sends for a workflow when its user presses Run.

    Raises:
        WorkflowError: an unknown node or input, a link that its ends know nothing of, a value too
            many or too few, or one that the node does not offer.
    """
    workflow = without_subgraphs(workflow)
    nodes = {node["id"]: node for node in workflow["nodes"] if node["type"] not in NOTES}
    for node in nodes.values():
        if node["type"] not in definitions:
            raise WorkflowError(f"There is no node {node['type']}.")
    links = {link[0]: link for link in workflow["links"]}
    for link in links.values():
        _check_link(link, nodes, definitions)
    return {
        str(node["id"]): {
            "class_type": node["type"],
            "inputs": {
                **_values(node, definitions[node["type"]]),
                **{
                    socket["name"]: [str(links[socket["link"]][1]), links[socket["link"]][2]]
                    for socket in node["inputs"]
                    if socket["link"] is not None
                },
            },
        }
        for node in nodes.values()
    }


def inputs_of(definition: Definition) -> Iterator[tuple[str, Any, Mapping[str, Any], bool]]:
    """Name, type, options of each input, and whether it is required; a list is a choice."""
    for group in ("required", "optional"):
        for name, (kind, *options) in definition["input"].get(group, {}).items():
            yield name, kind, options[0] if options else {}, group == "required"


def _is_widget(kind: Any, options: Mapping[str, Any]) -> bool:
    return (isinstance(kind, list) or kind in WIDGETS) and not options.get("forceInput")


def _values(node: Mapping[str, Any], definition: Definition) -> dict[str, Any]:
    """The values of a node's widgets by name; the page saves them as a bare list."""
    rest = list(node.get("widgets_values") or [])
    values = {}
    where = f"{node['type']} ({node['id']})"
    linked = {socket["name"] for socket in node["inputs"] if socket["link"] is not None}
    for name, kind, options, required in inputs_of(definition):
        if not _is_widget(kind, options):
            grows = kind == AUTOGROW and any(used.startswith(f"{name}.") for used in linked)
            if required and name not in linked and not grows:
                raise WorkflowError(f"{where} has nothing at its input {name}.")
            continue
        if not rest:
            raise WorkflowError(f"{where} has no value for {name}.")
        saved = rest.pop(0)
        values[name] = node.get("promoted", {}).get(name, saved)
        if values[name] != "" or node["type"] not in LEFT_TO_CHOOSE:
            _check_value(f"{where}.{name}", values[name], kind, options)
        # Widgets that the page adds behind one of the node's own.
        if options.get("control_after_generate"):
            control = rest.pop(0)
            if control not in ("fixed", "increment", "decrement", "randomize"):
                raise WorkflowError(f"{where} has “{control}” behind {name}.")
        if options.get("image_upload"):
            rest.pop(0)
    if rest:
        raise WorkflowError(f"{where} has values left over: {rest}.")
    return values


def _check_value(where: str, value: Any, kind: Any, options: Mapping[str, Any]) -> None:
    choices = kind if isinstance(kind, list) else options.get("options")
    if choices is not None:
        valid = value in choices
    elif kind == "BOOLEAN":
        valid = isinstance(value, bool)
    elif kind == "STRING":
        valid = isinstance(value, str)
    else:
        number = int if kind == "INT" else (int, float)
        valid = (
            isinstance(value, number)
            and not isinstance(value, bool)
            and options.get("min", value) <= value <= options.get("max", value)
        )
    if not valid:
        raise WorkflowError(f"{where} is {value!r}, which the node does not take.")


def _check_link(
    link: list[Any], nodes: Mapping[int, Any], definitions: Mapping[str, Definition]
) -> None:
    number, source, output, target, entry, kind = link
    try:
        outgoing = nodes[source]["outputs"][output]
        incoming = nodes[target]["inputs"][entry]
        offered = definitions[nodes[source]["type"]]["output"][output]
    except LookupError as error:
        raise WorkflowError(f"Link {number} has an end that is not there.") from error
    if number not in (outgoing["links"] or []) or incoming["link"] != number:
        raise WorkflowError(f"The ends of link {number} do not know of it.")
    wanted = _wanted(definitions[nodes[target]["type"]], incoming["name"])
    if offered != kind or not (wanted == "*" or kind in wanted.split(",")):
        raise WorkflowError(f"Link {number} leads {offered} as {kind} into {wanted}.")


def _wanted(definition: Definition, name: str) -> str:
    """The type that an input takes; `a.b` is the input `b` of the group `a` that grows."""
    for known, kind, options, _ in inputs_of(definition):
        if known == name:
            return "COMBO" if isinstance(kind, list) else str(kind)
        if kind == AUTOGROW and name.startswith(f"{known}."):
            template = options["template"]
            ((member, _options),) = template["input"]["required"].values()
            if name.removeprefix(f"{known}.{template['prefix']}").isdigit():
                return str(member)
    raise WorkflowError(f"{definition['name']} has no input {name}.")
