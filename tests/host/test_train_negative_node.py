"""Train Negative Embedding in a real server: from pictures to a picture drawn with the negative."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from support.client import Host
from support.graph import Graph, Node, sample
from support.results import GraphFailedError
from support.training import batch, checkpoint, photos, train_negative


@pytest.fixture(scope="module")
def names(host: Host) -> list[str]:
    return photos(host, count=2)


@pytest.fixture(scope="module")
def sd1(host: Host, sd1_checkpoint: Path) -> str:
    return host.add_checkpoint(sd1_checkpoint)


def notes(host: Host, name: str) -> dict[str, str]:
    with safe_open(host.embeddings / f"{name}.safetensors", framework="pt") as file:
        return dict(file.metadata())


def draw(host: Host, graph: Graph, loaded: Node, **more) -> np.ndarray:
    saved = sample(graph, loaded[0], loaded[1], loaded[2], size=64, **more)
    return host.fetch_image(host.run(graph, timeout=900)[saved]["images"][0])


def captions(graph: Graph, text: str) -> Node:
    return graph.add("StringConcatenate", string_a=text, string_b="", delimiter="")


@pytest.mark.parametrize("objective", ["bad pictures", "good pictures"])
def test_train_list_and_use(host: Host, sd1: str, names: list[str], objective: str) -> None:
    """The same picture by socket, by file and by the stock encoder; another without it."""
    word = f"a-{objective.split()[0]}-negative"
    graph = Graph()
    loaded = checkpoint(graph, sd1)
    changes = {}
    if objective == "good pictures":
        changes["captions"] = captions(graph, "a photo of a duck")[0]
    trained = train_negative(
        graph, loaded, batch(graph, names), name=word, objective=objective, previews=1,
        evaluations=1, guidance=13.0, **changes,
    )  # fmt: skip
    applied = graph.add(
        "TextualInversionApplyNegative",
        clip=loaded[1], embedding=trained[0], text="blurry", strength=1.0,
    )  # fmt: skip
    graph.add("SaveImage", images=trained[2], filename_prefix="preview")
    shown = graph.add("PreviewAny", source=trained[5])
    saved = sample(graph, loaded[0], loaded[1], loaded[2], size=64, negative=applied[0])
    result = host.run(graph, timeout=900)
    by_socket = host.fetch_image(result[saved]["images"][0])
    (report,) = result[shown]["text"]
    assert "like the start (cosine)" in report
    # Bad pictures are learned from without guidance.
    assert ("this word is trained for 13" in report) is (objective == "good pictures")

    assert notes(host, word)["modelspec.is_negative_embedding"] == "true"
    offered = host.object_info("TextualInversionApplyNegative")["input"]["optional"]["file"][1]
    assert f"{word}.safetensors" in offered["options"]

    graph = Graph()
    loaded = checkpoint(graph, sd1)
    by_file = graph.add(
        "TextualInversionApplyNegative",
        clip=loaded[1], text="blurry", strength=1.0, file=f"{word}.safetensors",
    )  # fmt: skip
    np.testing.assert_array_equal(draw(host, graph, loaded, negative=by_file[0]), by_socket)
    graph = Graph()
    stock = draw(host, graph, checkpoint(graph, sd1), negative=f"embedding:{word}, blurry")
    np.testing.assert_array_equal(stock, by_socket)
    graph = Graph()
    without = draw(host, graph, checkpoint(graph, sd1), negative="blurry")
    assert np.abs(without.astype(int) - stock).max() > 0


def test_a_pair_is_two_words_for_two_prompts(host: Host, sd1: str, names: list[str]) -> None:
    graph = Graph()
    loaded = checkpoint(graph, sd1)
    trained = train_negative(
        graph, loaded, batch(graph, names), name="duo", objective="pair", steps=2, evaluations=1
    )
    positive = graph.add(
        "TextualInversionApply",
        clip=loaded[1], embedding=trained[4], text="a photo of [name]", strength=1.0,
    )  # fmt: skip
    negative = graph.add(
        "TextualInversionApplyNegative",
        clip=loaded[1], embedding=trained[0], text="", strength=1.0,
    )  # fmt: skip
    ours = draw(host, graph, loaded, text=positive[0], negative=negative[0])
    graph = Graph()
    stock = draw(
        host, graph, checkpoint(graph, sd1),
        text="a photo of embedding:duo", negative="embedding:duo-neg",
    )  # fmt: skip
    np.testing.assert_array_equal(ours, stock)
    told = [notes(host, name)["modelspec.is_negative_embedding"] for name in ("duo", "duo-neg")]
    assert told == ["false", "true"]

    for taken in ("duo", "duo-neg"):
        (host.embeddings / f"{taken}.safetensors").rename(host.embeddings / "elsewhere.safetensors")
        graph = Graph()
        train_negative(
            graph, checkpoint(graph, sd1), batch(graph, names), name="duo", objective="pair",
            overwrite=False, seed=99,
        )  # fmt: skip
        with pytest.raises(GraphFailedError, match="already exists"):
            host.run(graph)
        (host.embeddings / "elsewhere.safetensors").rename(host.embeddings / f"{taken}.safetensors")


def test_what_cannot_be_is_told_in_a_sentence(host: Host, sd1: str, names: list[str]) -> None:
    graph = Graph()
    good = {"objective": "good pictures"}
    train_negative(graph, checkpoint(graph, sd1), batch(graph, names), **good)
    with pytest.raises(GraphFailedError, match="needs a caption for each of them"):
        host.run(graph)
    graph = Graph()
    loaded = checkpoint(graph, sd1)
    trained = train_negative(graph, loaded, batch(graph, names), steps=1, save=False)
    graph.add("TextualInversionInspect", embedding=trained[4])
    # The host tells of a blocked output and goes on with the rest of the graph.
    result = host.run(graph)
    assert result.error is not None
    assert "only the objective “pair” learns one" in result.error.message
