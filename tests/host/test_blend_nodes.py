"""Inspect, Blend and Embedding from Text in a real server."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.client import Host
from support.graph import Graph, Link, Node
from support.results import GraphFailedError, InvalidGraphError
from support.training import checkpoint


@pytest.fixture(scope="module")
def sd1(host: Host, sd1_checkpoint: Path) -> str:
    return host.add_checkpoint(sd1_checkpoint)


def put(host: Host, name: str, *values: float) -> torch.Tensor:
    rows = torch.stack([torch.linspace(-value, 2 * value, 768) for value in values])
    save_file({"emb_params": rows}, host.embeddings / f"{name}.safetensors")
    return rows


def load(graph: Graph, name: str) -> Link:
    return graph.add("TextualInversionLoad", file=f"{name}.safetensors")[0]


def blended(graph: Graph, *words: Link, **changes) -> Node:
    values = {"mode": "weighted sum", "amount": 0.5, "keep_vectors": 0, "name": "blended"}
    sockets = {f"embeddings.embedding{i}": word for i, word in enumerate(words)}
    return graph.add("TextualInversionBlend", **sockets, **(values | changes))


def saved(host: Host, graph: Graph, word: Link) -> dict[str, torch.Tensor]:
    graph.add("TextualInversionSave", embedding=word, name="", format="safetensors", overwrite=True)
    host.run(graph)
    return load_file(host.embeddings / "blended.safetensors")


@pytest.mark.parametrize(
    ("mode", "amount", "expected"),
    [
        ("weighted sum", 0.25, lambda a, b, c: 0.75 * a + 0.125 * b + 0.125 * c),
        ("add", 2.0, lambda a, b, c: a + 2 * b + 2 * c),
        ("subtract", 0.5, lambda a, b, c: a - 0.5 * b - 0.5 * c),
        ("concatenate", 0.5, lambda a, b, c: torch.cat([a, b, c])),
    ],
)
def test_blends_of_three_words(host: Host, mode: str, amount: float, expected) -> None:
    rows = [put(host, f"part-{i}", 0.1 * i + 0.1, 0.3) for i in range(3)]
    graph = Graph()
    node = blended(graph, *(load(graph, f"part-{i}") for i in range(3)), mode=mode, amount=amount)
    torch.testing.assert_close(saved(host, graph, node[0])["emb_params"], expected(*rows))


def test_slerp_and_fewer_vectors(host: Host) -> None:
    a = put(host, "slerp-a", 0.1, 0.2)
    put(host, "slerp-b", -0.3, 0.2)
    graph = Graph()
    words = [load(graph, "slerp-a"), load(graph, "slerp-b")]
    rows = saved(host, graph, blended(graph, *words, mode="slerp")[0])["emb_params"]
    torch.testing.assert_close(rows[1], a[1])
    graph = Graph()
    word = load(graph, "slerp-a")
    rows = saved(host, graph, blended(graph, word, keep_vectors=1)[0])["emb_params"]
    torch.testing.assert_close(rows, a[1:])


@pytest.mark.parametrize(
    ("count", "changes", "message"),
    [
        (1, {}, "Only one embedding"),
        (3, {"mode": "slerp"}, "two of these nodes"),
        (2, {"mode": "subtract", "amount": 1.0}, "Nothing is left"),
    ],
)
def test_blends_that_make_no_sense(host: Host, count: int, changes, message: str) -> None:
    put(host, "same", 0.1)
    graph = Graph()
    saving = blended(graph, *[load(graph, "same")] * count, **changes)
    with pytest.raises(GraphFailedError, match=message):
        saved(host, graph, saving[0])


def test_a_name_that_cannot_be_used_is_refused_at_once(host: Host) -> None:
    put(host, "same", 0.1)
    graph = Graph()
    node = blended(graph, load(graph, "same"), keep_vectors=1, name="two words")
    with pytest.raises(InvalidGraphError, match="cannot be the name"):
        saved(host, graph, node[0])


def test_text_as_a_word_is_found_again_by_inspect(host: Host, sd1: str) -> None:
    graph = Graph()
    clip = checkpoint(graph, sd1)[1]
    word = graph.add("TextualInversionFromText", clip=clip, text="red mug", name="blended")
    inspect = graph.add("TextualInversionInspect", embedding=word[0], clip=clip)
    text = graph.add("PreviewAny", source=inspect[0])
    picture = graph.add("PreviewImage", images=inspect[1])
    graph.add(
        "TextualInversionSave", embedding=word[0], name="", format="safetensors", overwrite=True
    )
    result = host.run(graph)
    (told,) = result[inspect]["text"]
    assert told == result[text]["text"][0]
    assert told.startswith("blended: for Stable Diffusion 1\n")
    assert "1: " in told
    assert "near red 1.00" in told
    assert "near mug 1.00" in told
    assert "how: token vectors of “red mug”" in told
    assert told in [shown.text for shown in result.texts]
    shown = host.fetch_image(result[inspect]["images"][0])
    assert (shown == host.fetch_image(result[picture]["images"][0])).all()
    assert shown.shape[1] == 768
    assert load_file(host.embeddings / "blended.safetensors")["emb_params"].shape == (2, 768)


def test_notes_of_a_file_are_no_html_to_the_page(host: Host) -> None:
    """Pages of earlier hosts set the text of a node as HTML: a file must not run a script there."""
    notes = {"by": "<img src=x onerror=alert(1)>", "<b>": "1 &lt; 2"}
    save_file({"emb_params": torch.ones(1, 768)}, host.embeddings / "marked-up.safetensors", notes)
    graph = Graph()
    inspect = graph.add("TextualInversionInspect", embedding=load(graph, "marked-up"))
    result = host.run(graph)
    (shown,) = [text.text for text in result.texts if text.node_id == inspect.id]
    assert "img src=x onerror=alert(1)" in shown
    assert "<" not in shown
    assert "by: <img src=x onerror=alert(1)>" in result[inspect]["text"][0]


def test_inspect_without_and_with_another_models_clip(host: Host, sd1: str) -> None:
    save_file({"emb_params": torch.ones(1, 1024)}, host.embeddings / "wide.safetensors")
    graph = Graph()
    word = load(graph, "wide")
    clip = checkpoint(graph, sd1)[1]
    alone = graph.add("TextualInversionInspect", embedding=word)
    beside = graph.add("TextualInversionInspect", embedding=word, clip=clip)
    result = host.run(graph)
    assert result[alone]["text"][0].startswith("wide: for Stable Diffusion 2\n")
    assert "does not fit the given text encoder" in result[beside]["text"][0]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"expression": "0.5 * a + blend-b"}, lambda a, b: 0.5 * a + b),
        ({"expression": "a | b[0]", "vectors": "2-3"}, lambda a, b: torch.stack([a[1], b[0]])),
        ({"mode": "add", "amount": 1.0, "vectors": "2, 1"}, lambda a, b: (a + b)[[1, 0]]),
        ({"mode": "slerp", "amount": 0.0, "scale": 2.5}, lambda a, _: 2.5 * a),
        ({"mode": "slerp", "amount": 0.0, "fill_to": 3}, lambda a, _: a[[0, 1, 0]]),
        (
            {"mode": "slerp", "amount": 0.0, "fill_to": 3, "fill_with": "zeros"},
            lambda a, _: torch.cat([a, torch.zeros(1, 768)]),
        ),
    ],
)
def test_expressions_and_changes(host: Host, changes, expected) -> None:
    a, b = put(host, "blend-a", 0.1, 0.2), put(host, "blend-b", -0.3, 0.4)
    graph = Graph()
    node = blended(graph, load(graph, "blend-a"), load(graph, "blend-b"), **changes)
    torch.testing.assert_close(saved(host, graph, node[0])["emb_params"], expected(a, b))


def test_texts_and_usual_lengths_of_a_clip(host: Host, sd1: str) -> None:
    put(host, "blend-a", 0.1, 0.2)
    graph = Graph()
    clip = checkpoint(graph, sd1)[1]
    expression = "0.000001 * a + [red (mug:2)]"
    node = blended(graph, load(graph, "blend-a"), expression=expression, clip=clip)
    plain = saved(host, graph, node[0])["emb_params"]
    graph = Graph()
    clip = checkpoint(graph, sd1)[1]
    node = blended(graph, load(graph, "blend-a"), expression=expression, clip=clip, scale=0.0)
    usual = saved(host, graph, node[0])["emb_params"]
    lengths = plain.norm(dim=1)
    assert lengths[1] > 1.5 * lengths[0]
    torch.testing.assert_close(usual.norm(dim=1)[0], usual.norm(dim=1)[1])
    torch.testing.assert_close(torch.cosine_similarity(plain, usual), torch.ones(2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expression": "a + nobody"}, "names “nobody”, which is not connected: there are a"),
        ({"expression": "[red]"}, "needs a model: give --model, or connect a clip"),
        ({"vectors": "2-"}, "cannot be read: write numbers from 1 on, such as 2-4"),
        ({"vectors": "9"}, "has 1 vectors for clip_l, and no number 9"),
        ({"scale": 0.0}, "scale 0 needs a text encoder"),
    ],
)
def test_changes_that_cannot_be_made(host: Host, changes, message: str) -> None:
    put(host, "same", 0.1)
    graph = Graph()
    node = blended(graph, load(graph, "same"), **changes)
    with pytest.raises(GraphFailedError, match=message):
        saved(host, graph, node[0])


def test_an_expression_that_cannot_be_read_is_refused_at_once(host: Host) -> None:
    put(host, "same", 0.1)
    graph = Graph()
    node = blended(graph, load(graph, "same"), expression="a + ")
    with pytest.raises(InvalidGraphError, match="cannot be read at its end"):
        saved(host, graph, node[0])


def test_a_blend_is_drawn_where_a_model_is_at_hand(host: Host, sd1: str) -> None:
    rows = put(host, "drawn-a", 0.1)
    graph = Graph()
    loaded = checkpoint(graph, sd1)
    word, changes = load(graph, "drawn-a"), {"scale": 2.0, "resolution": 128}
    node = blended(graph, word, model=loaded[0], clip=loaded[1], vae=loaded[2], **changes)
    graph.add(
        "TextualInversionSave", embedding=node[0], name="", format="safetensors", overwrite=True
    )
    result = host.run(graph)
    (shown,) = result[node]["images"]
    assert host.fetch_image(shown).shape == (128, 128, 3)
    path = host.embeddings / "blended.safetensors"
    torch.testing.assert_close(load_file(path)["emb_params"], 2 * rows)
    with safe_open(path, "pt") as file:
        assert file.metadata()["modelspec.thumbnail"].startswith("data:image/jpeg;base64,")


def test_drawing_a_blend_needs_all_parts_of_a_model(host: Host, sd1: str) -> None:
    put(host, "drawn-a", 0.1)
    graph = Graph()
    loaded = checkpoint(graph, sd1)
    node = blended(graph, load(graph, "drawn-a"), model=loaded[0], vae=loaded[2], scale=2.0)
    graph.add("TextualInversionInspect", embedding=node[0])
    with pytest.raises(GraphFailedError, match="Drawing needs clip and vae too"):
        host.run(graph)


def test_inspect_compares_two_words(host: Host) -> None:
    put(host, "blend-a", 0.1, 0.2)
    put(host, "blend-b", -0.3, 0.4)
    graph = Graph()
    first, second = load(graph, "blend-a"), load(graph, "blend-b")
    node = graph.add("TextualInversionInspect", embedding=first, other=second)
    (told,) = host.run(graph)[node]["text"]
    assert "\n\nblend-a and blend-b:\nclip_l: " in told
