"""Choices from a list that come from another node: the host's Switch fits every input."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from support.client import Host
from support.graph import Graph, Link, Node
from support.results import Result
from textual_inversion.demo.model import host_text_config, load_tokenizer

WIDTH = host_text_config(load_tokenizer())["hidden_size"]


def put(host: Host, name: str, value: float) -> str:
    path = host.embeddings / f"{name}.safetensors"
    save_file({"emb_params": torch.full((1, WIDTH), value)}, path)
    return path.name


def linked(graph: Graph, text: str) -> Link:
    either = graph.add("PrimitiveString", value=text)[0]
    return graph.add("ComfySwitchNode", switch=True, on_false=either, on_true=either)[0]


def inspected(graph: Graph, word: Link) -> Node:
    return graph.add("TextualInversionInspect", embedding=word)


def applied(graph: Graph, kind: str, file: str) -> Node:
    clip = graph.add("TextualInversionDemoModel")[1]
    node = graph.add(
        f"TextualInversionApply{kind}", clip=clip, text="[name]", strength=1.0,
        file=linked(graph, file),
    )  # fmt: skip
    graph.add("PreviewAny", source=node[0])
    return node


def loaded(graph: Graph, file: str) -> Node:
    node = graph.add("TextualInversionLoad", file=linked(graph, file))
    inspected(graph, node[0])
    return node


@pytest.mark.parametrize("kind", ["Load", "Apply", "ApplyNegative"])
def test_a_file_is_read_again_only_when_it_has_changed(host: Host, kind: str, name: str) -> None:
    graph = Graph()
    file = put(host, name, 0.1)
    node = loaded(graph, file) if kind == "Load" else applied(graph, kind[5:], file)

    def runs() -> bool:
        result: Result = host.run(graph)
        return result.ran(node)

    assert [runs(), runs()] == [True, False]
    put(host, name, 0.2)
    assert [runs(), runs()] == [True, False]


def test_a_step_of_a_run(host: Host, name: str) -> None:
    folder = host.server.base / "output" / "textual_inversion" / f"{name}_00001"
    (folder / "words").mkdir(parents=True)
    (folder / "settings.json").write_text(json.dumps({"settings": {"name": name}}))

    def keep(step: int) -> None:
        path = folder / f"words/step-{step:06d}.safetensors"
        save_file({"emb_params": torch.full((1, WIDTH), step / 10)}, path)

    keep(1)
    graph = Graph()
    node = graph.add("TextualInversionChoose", run=linked(graph, folder.name), step=0)
    inspected(graph, node[0])
    assert host.run(graph).ran(node)
    assert not host.run(graph).ran(node)
    keep(2)
    assert host.run(graph).ran(node)
