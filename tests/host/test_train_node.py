"""Train Textual Inversion in a real server, on real photos, as a user runs it."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from support.client import Host
from support.graph import Graph, sample
from support.results import GraphFailedError, InvalidGraphError
from support.training import batch, checkpoint, photos, train

DETOURS = itertools.cycle(range(7))
"""Each number gives the same picture by another graph, which the cache cannot answer."""


@pytest.fixture(scope="module")
def names(host: Host) -> list[str]:
    return photos(host)


@pytest.fixture(scope="module")
def sd1(host: Host, sd1_checkpoint: Path) -> str:
    return host.add_checkpoint(sd1_checkpoint)


def train_once(host: Host, model: str, pictures: list[str], **changes):
    graph = Graph()
    node = train(graph, checkpoint(graph, model), batch(graph, pictures), **changes)
    return host.run(graph), node


def draw(host: Host, model: str, text: str, negative: str = "") -> np.ndarray:
    """A picture by stock nodes alone, never from the cache."""
    graph = Graph()
    loaded = checkpoint(graph, model)
    saved = sample(
        graph, loaded[0], loaded[1], loaded[2], text=text, negative=negative, detours=next(DETOURS)
    )
    return host.fetch_image(host.run(graph)[saved]["images"][0])


@pytest.mark.parametrize(
    "family",
    [
        "sd1_checkpoint",
        pytest.param("sd2_v_checkpoint", marks=pytest.mark.slow),
        pytest.param("sdxl_checkpoint", marks=pytest.mark.slow),
    ],
)
def test_train_save_and_use(
    host: Host, names: list[str], family: str, request: pytest.FixtureRequest
) -> None:
    """The main job: the same picture from the stock encoder and from both outputs of ours."""
    model = host.add_checkpoint(request.getfixturevalue(family))
    word = f"duck-{family.removesuffix('_checkpoint')}"
    graph = Graph()
    loaded = checkpoint(graph, model)
    trained = train(graph, loaded, batch(graph, names), name=word, steps=2)
    applied = graph.add(
        "TextualInversionApply",
        clip=loaded[1], embedding=trained[0], text="[name] in the snow", strength=1.0,
    )  # fmt: skip
    drawn = sample(graph, loaded[0], loaded[1], loaded[2], text=applied[0], negative="blurry")
    through = sample(
        graph, loaded[0], applied[1], loaded[2], text=f"embedding:{word} in the snow",
        negative="blurry",
    )  # fmt: skip
    graph.add("LossGraphNode", loss=trained[1], filename_prefix="loss")
    graph.add("SaveImage", images=trained[2], filename_prefix="preview")
    result = host.run(graph, timeout=900)

    steps = [p.value for p in result.progress if p.node_id == trained.id]
    assert steps[0] <= 1
    assert steps[-1] == 2
    texts = [t.text for t in result.texts if t.node_id == trained.id]
    assert any(t.startswith("step 2/2 · loss ") for t in texts)
    assert texts[-1] == f"saved as embedding:{word}"

    pictures = [host.fetch_image(result[node]["images"][0]) for node in (drawn, through)]
    stock = draw(host, model, f"embedding:{word} in the snow", "blurry")
    for picture in pictures:
        np.testing.assert_array_equal(picture, stock)
    assert np.abs(stock.astype(int) - draw(host, model, "in the snow", "blurry")).max() > 0


def test_training_leaves_the_host_as_it_was(host: Host, sd1: str, names: list[str]) -> None:
    """Unrelated pictures are the same to the bit after a run, an error and an interrupt."""
    before = draw(host, sd1, "a castle by the sea")
    train_once(host, sd1, names)
    np.testing.assert_array_equal(draw(host, sd1, "a castle by the sea"), before)

    huge = torch.full((1, 768), 1e25)
    save_file({"emb_params": huge}, host.embeddings / "huge.safetensors")
    graph = Graph()
    start = graph.add("TextualInversionLoad", file="huge.safetensors")
    train(graph, checkpoint(graph, sd1), batch(graph, names), start_from=start[0])
    with pytest.raises(GraphFailedError, match="no longer a number"):
        host.run(graph)
    np.testing.assert_array_equal(draw(host, sd1, "a castle by the sea"), before)

    graph = Graph()
    node = train(
        graph, checkpoint(graph, sd1), batch(graph, names), name="cut-short", steps=5000,
        checkpointing=True,
    )  # fmt: skip
    queued = host.queue(graph)
    host.wait_for_progress(queued, 2, node.id)
    host.interrupt()
    result = host.wait(queued, timeout=60, check=False)
    assert result.status == "interrupted"
    kept = load_file(host.embeddings / "cut-short-interrupted.safetensors")
    assert kept["emb_params"].shape == (2, 768)
    assert not (host.embeddings / "cut-short.safetensors").exists()
    np.testing.assert_array_equal(draw(host, sd1, "a castle by the sea"), before)


def test_no_second_copy_of_the_model(host: Host, sd1: str, sd1_checkpoint: Path, names: list[str]):
    draw(host, sd1, "warm up")
    host.server.reset_peak()
    resident = host.server.memory().peak
    train_once(host, sd1, names, seed=11)
    grown = host.server.memory().peak - resident
    assert grown < 0.75 * sd1_checkpoint.stat().st_size


def test_same_seed_same_word(host: Host, sd1: str, names: list[str]) -> None:
    words = []
    for number, seed in enumerate((3, 3, 4)):
        train_once(host, sd1, names, name=f"seeded-{number}", seed=seed)
        words.append(load_file(host.embeddings / f"seeded-{number}.safetensors")["emb_params"])
    assert words[0].equal(words[1])
    assert not words[0].equal(words[2])


def test_lists_captions_masks_and_a_start(host: Host, sd1: str, names: list[str]) -> None:
    """Pictures of different sizes as a list, each with a caption and a mask, from a word."""
    graph = Graph()
    loaded = checkpoint(graph, sd1)
    wide = host.upload_image(Image.new("RGB", (200, 90), "orange"), "wide.png")
    pictures = graph.add("RebatchImages", images=batch(graph, [names[0], wide]), batch_size=1)
    masked = graph.add("ImageToMask", image=pictures[0], channel="red")
    captions = graph.add("StringConcatenate", string_a="a photo of ", string_b="[name]",
                         delimiter="")  # fmt: skip
    first = train(graph, loaded, pictures[0], name="first-word", captions=captions[0])
    second = train(
        graph, loaded, pictures[0], name="second-word", start_from=first[0], masks=masked[0],
        flip=True, batch_size=2, learning_rate="0.005:2, 1e-3:9", num_vectors=1,
    )  # fmt: skip
    host.run(graph)
    assert load_file(host.embeddings / "second-word.safetensors")["emb_params"].shape == (2, 768)
    assert second.id != first.id


def test_patched_models_clip_skip_and_long_captions(host: Host, sd1: str, names: list[str]) -> None:
    """What stands in front of the node counts: clip skip, a merged model, 150 tokens."""
    graph = Graph()
    loaded = checkpoint(graph, sd1)
    merged = graph.add("ModelMergeSubtract", model1=loaded[0], model2=loaded[0], multiplier=0.5)
    skipped = graph.add("CLIPSetLastLayer", clip=loaded[1], stop_at_clip_layer=-2)
    caption = "a photo of [name], " + "a very long description, " * 30
    long_caption = graph.add("StringConcatenate", string_a=caption, string_b="", delimiter="")
    graph.add("PreviewAny", source=long_caption[0])
    train(
        graph, type(loaded)("0", "", {}), batch(graph, names), name="patched",
        captions=long_caption[0], model=merged[0], clip=skipped[0], vae=loaded[2],
    )  # fmt: skip
    host.run(graph)
    assert load_file(host.embeddings / "patched.safetensors")["emb_params"].isfinite().all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "my word"}, "cannot be the name of an embedding"),
        ({"name": "../escape"}, "cannot be the name of an embedding"),
        ({"learning_rate": "fast"}, "learning rate “fast” cannot be read"),
        ({"name": "taken", "overwrite": False}, "“taken.safetensors” exists already"),
        ({"captions": "a photo of a duck"}, "does not contain the word"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(
    host: Host, sd1: str, names: list[str], changes: dict[str, object], sentence: str
) -> None:
    train_once(host, sd1, names[:1], name="taken", steps=1)
    graph = Graph()
    if "captions" in changes:
        joined = graph.add(
            "StringConcatenate", string_a=changes["captions"], string_b="", delimiter=""
        )
        changes = {**changes, "captions": joined[0]}
    train(graph, checkpoint(graph, sd1), batch(graph, names[:1]), **changes)
    with pytest.raises((GraphFailedError, InvalidGraphError), match=sentence):
        host.run(graph)


def test_a_kind_of_prediction_that_cannot_be_trained(host: Host, sd1: str, names: list[str]):
    graph = Graph()
    loaded = checkpoint(graph, sd1)
    distilled = graph.add("ModelSamplingDiscrete", model=loaded[0], sampling="lcm", zsnr=False)
    train(graph, loaded, batch(graph, names[:1]), model=distilled[0])
    with pytest.raises(GraphFailedError, match="cannot be trained on"):
        host.run(graph)
