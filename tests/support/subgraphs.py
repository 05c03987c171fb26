"""Workflows without subgraphs: what is in one stands where it stood, as the page sends it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

INPUT, OUTPUT = -10, -20
"""What stands inside a subgraph for its own inputs and outputs."""

Node = dict[str, Any]
Links = dict[Any, list[Any]]


def without_subgraphs(workflow: Mapping[str, Any]) -> dict[str, Any]:
    """The same workflow, with nodes `A:B` for the node B inside the subgraph's node A.

    Values that a subgraph shows on its own node stand as `promoted`, name -> value, on the nodes
    inside that take them. Subgraphs within subgraphs are not followed.
    """
    workflow = copy.deepcopy(dict(workflow))
    definitions = {one["id"]: one for one in workflow.get("definitions", {}).get("subgraphs", [])}
    nodes: dict[Any, Node] = {node["id"]: node for node in workflow["nodes"]}
    links: Links = {link[0]: link for link in workflow["links"]}
    for node in [one for one in nodes.values() if one["type"] in definitions]:
        _open(node, copy.deepcopy(definitions[node["type"]]), nodes, links)
    return {**workflow, "nodes": list(nodes.values()), "links": list(links.values())}


def _open(node: Node, graph: Node, nodes: dict[Any, Node], links: Links) -> None:
    """Put the nodes of a subgraph, and links to them, into the place of its node."""
    del nodes[node["id"]]
    inside = {one["id"]: {**one, "id": f"{node['id']}:{one['id']}"} for one in graph["nodes"]}
    nodes.update({one["id"]: one for one in inside.values()})
    for one in inside.values():
        for socket in one["outputs"]:
            socket["links"] = []
    into = [links.pop(socket["link"], None) for socket in node["inputs"]]
    for link in filter(None, into):
        nodes[link[1]]["outputs"][link[2]]["links"].remove(link[0])
    shown = dict(zip(_shown(node), node["widgets_values"], strict=True))
    for link in graph["links"]:
        start, slot = inside.get(link["origin_id"]), link["origin_slot"]
        if link["target_id"] == OUTPUT:
            for number in node["outputs"][link["target_slot"]]["links"]:
                links[number][1:3] = [start["id"], slot]
                start["outputs"][slot]["links"].append(number)
            continue
        target = inside[link["target_id"]]
        socket = target["inputs"][link["target_slot"]]
        socket["link"] = None
        if start is None and (outer := into[slot]) is None:
            name = node["inputs"][slot]["name"]
            if name in shown:
                target.setdefault("promoted", {})[socket["name"]] = shown[name]
            continue
        if start is None:
            start, slot = nodes[outer[1]], outer[2]
        number = socket["link"] = f"{node['id']}:{link['id']}"
        links[number] = [number, start["id"], slot, target["id"], link["target_slot"], link["type"]]
        start["outputs"][slot]["links"].append(number)


def _shown(node: Node) -> list[str]:
    """The inputs that a subgraph's node shows as widgets, in the order of its values."""
    return [socket["name"] for socket in node["inputs"] if socket.get("widget")]
