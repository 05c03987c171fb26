"""From pictures to a word for a taste, in a real server: rate, load, train, draw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from support.client import Host, serving
from support.graph import Graph, Link, Node, sample
from support.http import ask
from support.results import GraphFailedError, InvalidGraphError
from support.training import checkpoint, train
from textual_inversion.trainer.runs.ratings import RatingFolder

RATINGS = "/textual_inversion/ratings"
FEWEST = 12
PROMPT = "a photo of a dog"

LIKES_ALONE = "There are no disliked pictures (liked: 2), so nothing can be compared"
DISLIKES_ALONE = "There are no liked pictures (disliked: 2), so nothing can be compared"


def listed(host: Host, name: str) -> dict[str, Any]:
    return dict(host.get(f"{RATINGS}?name={name}"))


def post_ratings(host: Host, name: str, said: Any) -> tuple[int, Any]:
    status, _, content = ask(host, RATINGS, "POST", {"name": name, "ratings": said})
    return status, json.loads(content)


def rate(host: Host, name: str, key: str, rating: str) -> dict[str, Any]:
    status, content = post_ratings(host, name, [{"key": key, "rating": rating}])
    assert status == 200, content
    return dict(content)


def add_coloured(graph: Graph, *colours: int, name: str, prompt: Any = PROMPT, **more: Any) -> Node:
    """Rate Pictures, with a batch of one picture of each colour."""
    pictures = [
        graph.add("EmptyImage", width=24, height=16, batch_size=1, color=colour)[0]
        for colour in colours
    ]
    joined = pictures[0]
    for picture in pictures[1:]:
        joined = graph.add("ImageBatch", image1=joined, image2=picture)[0]
    return graph.add("TextualInversionRate", images=joined, prompt=prompt, name=name, **more)


def kept(host: Host, name: str, *colours: int, prompt: str = PROMPT) -> list[str]:
    """Keys of pictures that a graph has kept, in the order of the answer."""
    graph = Graph()
    node = add_coloured(graph, *colours, name=name, prompt=prompt)
    result = host.run(graph)
    assert result[node]["textual_inversion_ratings"] == [name]
    return [rating["key"] for rating in listed(host, name)["ratings"]]


def load(graph: Graph, name: str | Link) -> Node:
    if isinstance(name, str):
        return graph.add("TextualInversionLoadRatings", name=name)
    return graph.add("TextualInversionLoadRatings", name="the connected one", ratings=name)


def train_ratings(graph: Graph, loaded: Node, ratings: Node, **changes: Any) -> Node:
    """Our node with settings that take seconds."""
    usual = train(Graph(), loaded, ratings[0]).inputs
    shared = ("model", "clip", "vae", "num_vectors", "steps", "batch_size", "resolution", "seed",
              "schedule", "accumulate", "clip_gradient", "checkpointing", "evaluations", "keep",
              "previews", "timesteps", "noise_offset", "preview_every", "save_every", "encoders",
              "optimizer", "learning_rate", "pull", "renorm", "averaging", "save",
              "overwrite")  # fmt: skip
    sides = ("liked", "disliked", "liked_captions", "disliked_captions")
    inputs = {
        **{name: usual[name] for name in shared},
        **{side: ratings[number] for number, side in enumerate(sides)},
        "name": "test-taste", "init_words": "", "word_for": "negative prompt", "guidance": 4.0,
        "preference": 50.0, "leeway": 0.2,
    }  # fmt: skip
    return graph.add("TextualInversionTrainRatings", **(inputs | changes))


def test_pictures_wait_and_are_rated_over_http(host: Host) -> None:
    assert listed(host, "never-seen") == {
        "name": "never-seen", "ratings": [], "pairs": 0, "wanted": FEWEST,
    }  # fmt: skip
    graph = Graph()
    seed = graph.add("PrimitiveInt", value=7)
    add_coloured(graph, 0xFF0000, 0x00FF00, 0x0000FF, name="colours", seed=seed[0])
    host.run(graph)
    ratings = listed(host, "colours")["ratings"]
    assert [set(one) for one in ratings] == [{"key", "prompt", "seed", "rating", "date"}] * 3
    assert [(one["prompt"], one["seed"], one["rating"]) for one in ratings] == [(PROMPT, 7, "")] * 3
    status, kind, content = ask(host, f"{RATINGS}/picture?name=colours&key={ratings[1]['key']}")
    assert (status, kind) == (200, "image/png")
    assert content.startswith(b"\x89PNG")

    red, green, blue = (one["key"] for one in ratings)
    assert rate(host, "colours", red, "liked")["pairs"] == 0
    assert rate(host, "colours", green, "disliked")["pairs"] == 1
    told = rate(host, "colours", blue, "skipped")
    assert [one["rating"] for one in told["ratings"]] == ["liked", "disliked", "skipped"]
    assert told == listed(host, "colours")
    assert rate(host, "colours", red, "")["pairs"] == 0, "what was said can be taken back"
    # Several at once, in their order; a picture that is gone does not hold the others up.
    said = [("f" * 16, "liked"), (blue, "skipped"), (red, "disliked"), (red, "liked")]
    status, told = post_ratings(
        host, "colours", [{"key": key, "rating": rating} for key, rating in said]
    )
    assert status == 404
    assert "have no picture" in told["error"]
    kept_now = [(one["key"], one["rating"]) for one in listed(host, "colours")["ratings"]]
    assert kept_now == [(green, "disliked"), (blue, "skipped"), (red, "liked")]
    # A request can come twice, and late: what is sent before a page goes may overtake it.
    told = listed(host, "colours")
    assert rate(host, "colours", green, "disliked") == told

    # Drawn again, in another graph: what is there already keeps its rating.
    graph = Graph()
    add_coloured(graph, 0x00FF00, 0xFFFF00, name="colours")
    host.run(graph)
    again = {one["key"]: one["rating"] for one in listed(host, "colours")["ratings"]}
    assert len(again) == 4
    assert (again[red], again[green], again[blue]) == ("liked", "disliked", "skipped")


def test_ratings_survive_a_restart(comfyui: Path, tmp_path: Path) -> None:
    with serving(comfyui, tmp_path) as before:
        keys = kept(before, "lasting", 0x111111, 0xEEEEEE)
        rate(before, "lasting", keys[0], "liked")
        told = rate(before, "lasting", keys[1], "disliked")
    with serving(comfyui, tmp_path) as after:
        assert listed(after, "lasting") == told
        offered = after.object_info("TextualInversionLoadRatings")["input"]["required"]["name"][1]
        assert offered["options"] == ["the connected one", "lasting"]
        graph = Graph()
        shown = graph.add("PreviewImage", images=load(graph, "lasting")[0])
        (liked,) = after.run(graph)[shown]["images"]
        assert after.fetch_image(liked).mean() == 0x11


def test_each_picture_has_its_prompt(host: Host) -> None:
    graph = Graph()
    drawn = graph.add("TextualInversionDemoPictures", concept="sun-disk", count=3, seed=0)
    graph.add("TextualInversionRate", images=drawn[0], prompt=drawn[1], name="prompts")
    host.run(graph)
    assert len({one["prompt"] for one in listed(host, "prompts")["ratings"]}) == 3

    graph = Graph()
    three = graph.add("TextualInversionDemoPictures", concept="sun-disk", count=3, seed=0)
    two = graph.add("TextualInversionDemoPictures", concept="sun-disk", count=2, seed=0)
    graph.add("TextualInversionRate", images=two[0], prompt=three[1], name="prompts")
    with pytest.raises(GraphFailedError, match="there are 2 pictures but 3 prompts"):
        host.run(graph)
    graph = Graph()
    empty = graph.add("PrimitiveString", value=" ")
    add_coloured(graph, 0, name="prompts", prompt=empty[0])
    with pytest.raises(GraphFailedError, match="prompt is empty"):
        host.run(graph)
    graph = Graph()
    add_coloured(graph, 0, name="prompts", prompt=" ")
    with pytest.raises(InvalidGraphError, match="prompt is empty"):
        host.run(graph)  # before a picture is drawn that would be lost
    assert len(listed(host, "prompts")["ratings"]) == 3


@pytest.mark.parametrize("name", ["../runs", "a b", "con", ""])
def test_a_name_is_one_that_a_word_could_have(host: Host, name: str) -> None:
    graph = Graph()
    add_coloured(graph, 0, name=name)
    with pytest.raises(InvalidGraphError, match="cannot be the name"):
        host.run(graph)


def test_changed_ratings_are_noticed(host: Host) -> None:
    """Also behind a link, as in one graph that keeps the pictures and loads what is rated."""
    keys = kept(host, "changing", 1, 2, 3)
    graph = Graph()
    node = add_coloured(graph, 1, 2, 3, name="changing")
    linked = graph.add("PreviewImage", images=load(graph, node[0])[0])
    named = graph.add("PreviewImage", images=load(graph, "changing")[0])
    with pytest.raises(GraphFailedError, match="Nothing in “changing” is liked or disliked yet"):
        host.run(graph)
    for liked in (1, 2):
        rate(host, "changing", keys[liked], "liked")
        result = host.run(graph)
        assert [len(result[shown]["images"]) for shown in (linked, named)] == [liked] * 2
    folder = RatingFolder(host.server.base / "output/textual_inversion_ratings/changing")
    folder.add(torch.ones(8, 8, 3), PROMPT)
    rate(host, "changing", keys[0], "skipped")
    again = host.run(graph)
    assert not any(again.ran(shown) for shown in (linked, named)), "nothing else is liked"


def test_one_name_is_loaded(host: Host) -> None:
    kept(host, "one-name", 5)
    for inputs, sentence in (
        ({"name": "the connected one"}, "connect a name, or choose one"),
        ({"name": "one-name", "ratings": "prompts"}, "There are two names"),
    ):
        graph = Graph()
        loaded = graph.add("TextualInversionLoadRatings", **inputs)
        graph.add("PreviewImage", images=loaded[0])
        with pytest.raises(GraphFailedError, match=sentence):
            host.run(graph)


@pytest.mark.parametrize(
    ("ratings", "sentence"),
    [
        (("liked", "liked"), LIKES_ALONE),
        (("disliked", "disliked"), DISLIKES_ALONE),
        (("liked", "disliked"), f"make 1 pair of one prompt: {FEWEST - 1} more are needed"),
    ],
)
def test_what_ratings_cannot_teach_is_told_on_the_node(
    host: Host, sd1_checkpoint: Path, ratings: tuple[str, str], sentence: str
) -> None:
    name = "-".join(ratings)
    for key, rating in zip(kept(host, name, 10, 20), ratings, strict=True):
        rate(host, name, key, rating)
    graph = Graph()
    loaded = load(graph, name)
    model = checkpoint(graph, host.add_checkpoint(sd1_checkpoint))
    trained = train_ratings(graph, model, loaded)
    result = host.run(graph, check=False)
    assert result.error is not None
    assert sentence in result.error.message
    assert result.error.node_id == trained.id


def test_no_other_node_writes_the_second_word(host: Host, sd1_checkpoint: Path) -> None:
    for key, rating in zip(kept(host, "second", 30, 40), ("liked", "disliked"), strict=True):
        rate(host, "second", key, rating)
    graph = Graph()
    loaded, model = load(graph, "second"), checkpoint(graph, host.add_checkpoint(sd1_checkpoint))
    train_ratings(graph, model, loaded, name="second", word_for="both")
    train(graph, model, loaded[0], name="second-neg")
    with pytest.raises(GraphFailedError, match="The name “second-neg” is also used by"):
        host.run(graph)


def drawn_and_rated(host: Host, name: str, file: str, steps: int = 1) -> None:
    """As a user does it: some pictures of one prompt, half of them liked."""
    graph = Graph()
    loaded = checkpoint(graph, file)
    saved = sample(graph, loaded[0], loaded[1], loaded[2], text=PROMPT, size=64, steps=steps)
    (latent,) = (n for n in graph.nodes.values() if n.class_type == "EmptyLatentImage")
    latent.inputs["batch_size"] = 2 * FEWEST
    graph.add(
        "TextualInversionRate", images=saved.inputs["images"], prompt=PROMPT, name=name,
        model=loaded[0],
    )  # fmt: skip
    host.run(graph, timeout=900)
    ratings = listed(host, name)["ratings"]
    assert len(ratings) == 2 * FEWEST
    for number, one in enumerate(ratings):
        told = rate(host, name, one["key"], "liked" if number % 2 else "disliked")
    assert (told["pairs"], told["wanted"]) == (FEWEST, FEWEST)


def notes(host: Host, name: str) -> dict[str, str]:
    with safe_open(host.embeddings / f"{name}.safetensors", framework="pt") as file:
        return dict(file.metadata())


@pytest.mark.parametrize(
    ("family", "word_for"),
    [
        ("sd1", "negative prompt"),
        ("sd2_v", "both"),
        pytest.param("sdxl", "prompt", marks=pytest.mark.slow),
    ],
)
def test_a_taste_is_learned_and_drawn_with(
    host: Host, family: str, word_for: str, request: pytest.FixtureRequest
) -> None:
    """The same picture with the words by socket and by file; another without them."""
    file = host.add_checkpoint(request.getfixturevalue(f"{family}_checkpoint"))
    name = f"taste-{family.replace('_', '-')}"
    drawn_and_rated(host, name, file)
    graph = Graph()
    loaded = checkpoint(graph, file)
    looked_at: dict[str, Any] = {"steps": 2}
    if family == "sd1":
        looked_at = {"previews": 1, "evaluations": 1, "guidance": 13.0}
    trained = train_ratings(
        graph, loaded, load(graph, name), name=name, word_for=word_for, **looked_at
    )
    texts = {"text": PROMPT, "negative": "blurry"}
    said, given = dict(texts), dict(texts)
    if word_for != "prompt":
        own = f"{name}-neg" if word_for == "both" else name
        said["negative"] = f"embedding:{own}, blurry"
        given["negative"] = graph.add(
            "TextualInversionApplyNegative",
            clip=loaded[1], embedding=trained[0], text="blurry", strength=1.0,
        )[0]  # fmt: skip
    if word_for != "negative prompt":
        said["text"] = f"{PROMPT}, embedding:{name}"
        given["text"] = graph.add(
            "TextualInversionApply",
            clip=loaded[1], embedding=trained[4], text=f"{PROMPT}, [name]", strength=1.0,
        )[0]  # fmt: skip
    report = graph.add("PreviewAny", source=trained[5])
    preview = graph.add("SaveImage", images=trained[2], filename_prefix="taste")
    by_socket = sample(graph, loaded[0], loaded[1], loaded[2], size=64, **given)
    result = host.run(graph, timeout=900)
    assert "pairs to learn from" in result[report]["text"][0]
    if family == "sd1":
        assert "this word is trained for 13" in result[report]["text"][0]
        # A liked picture, and below it without and with the word.
        assert host.fetch_image(result[preview]["images"][0]).shape == (3 * 72, 72, 3)
    assert host.get(f"/textual_inversion/run?id={result[trained]['textual_inversion_run'][0]}")

    pictures = [host.fetch_image(result[by_socket]["images"][0])]
    for prompts in (said, texts):
        graph = Graph()
        loaded = checkpoint(graph, file)
        saved = sample(graph, loaded[0], loaded[1], loaded[2], size=64, **prompts)
        pictures.append(host.fetch_image(host.run(graph, timeout=900)[saved]["images"][0]))
    np.testing.assert_array_equal(pictures[0], pictures[1])
    words = {name: word_for == "negative prompt"}
    words |= {f"{name}-neg": True} if word_for == "both" else {}
    for word, negative in words.items():
        assert (notes(host, word).get("modelspec.is_negative_embedding") == "true") is negative
    assert np.abs(pictures[1].astype(int) - pictures[2]).max() > 0
    drawn_by = {
        json.loads(path.read_text())["model"]
        for path in (host.server.base / "output/textual_inversion_ratings" / name).glob("*.json")
    }
    assert drawn_by == {notes(host, name)["textual_inversion.model"]}
