"""Train Textual Inversion in a real server, on real photos, as a user runs it."""

from __future__ import annotations

import base64
import getpass
import io
import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.client import Host
from support.graph import Graph, Node, sample
from support.results import GraphFailedError, InvalidGraphError, Result
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


def run_of(host: Host, result: Result, node: Node) -> dict[str, Any]:
    """What the node's panel shows after a run."""
    (run_id,) = result[node]["textual_inversion_run"]
    return host.get(f"/textual_inversion/run?id={run_id}")


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
    trained = train(graph, loaded, batch(graph, names), name=word, steps=2, evaluations=1)
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
    shown = run_of(host, result, trained)
    assert (shown["status"], shown["step"], shown["kept"]) == ("finished", 2, [word])

    pictures = [host.fetch_image(result[node]["images"][0]) for node in (drawn, through)]
    stock = draw(host, model, f"embedding:{word} in the snow", "blurry")
    for picture in pictures:
        np.testing.assert_array_equal(picture, stock)
    assert np.abs(stock.astype(int) - draw(host, model, "in the snow", "blurry")).max() > 0


def test_the_file_tells_how_it_was_made(host: Host, sd1: str, names: list[str]) -> None:
    """Enough to do it again, a small picture, and nothing of the machine that it was made on."""
    train_once(host, sd1, names, name="told", seed=12, steps=1, previews=1)
    with safe_open(host.embeddings / "told.safetensors", framework="pt") as file:
        notes = file.metadata()
    assert notes["sd_checkpoint_name"] == Path(sd1).stem
    assert notes["textual_inversion.program"].startswith("ComfyUI 0.")
    assert len(notes["textual_inversion.model"]) == 64
    assert json.loads(notes["textual_inversion.settings"])["seed"] == 12
    thumbnail = notes.pop("modelspec.thumbnail")
    with Image.open(io.BytesIO(base64.b64decode(thumbnail.partition(",")[2]))) as picture:
        assert picture.size == (64, 64)
    del notes["modelspec.architecture"]  # the only note in which a slash is no path's
    told = "\n".join(notes.values())
    assert not re.search(rf"[/\\]|\b{getpass.getuser()}\b", told, re.IGNORECASE)


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


def test_a_cancelled_run_goes_on_and_ends_as_if_never_cancelled(
    host: Host, sd1: str, names: list[str]
) -> None:
    """The same inputs go on with the run, which has a folder; other inputs begin another."""
    same = {"steps": 8, "save_every": 2, "preview_every": 4, "evaluations": 1, "seed": 5}
    train_once(host, sd1, names, name="never-cancelled", **same)
    graph = Graph()
    node = train(graph, checkpoint(graph, sd1), batch(graph, names), name="went-on", **same)
    queued = host.queue(graph)
    host.wait_for_progress(queued, 3, node.id)
    host.interrupt()
    assert host.wait(queued, timeout=60, check=False).status == "interrupted"
    cut = host.get("/textual_inversion/run?id=went-on_00001")
    assert (cut["status"], cut["kept"]) == ("interrupted", ["went-on-interrupted"])
    result = host.run(graph)
    words = [
        load_file(host.embeddings / f"{n}.safetensors") for n in ("never-cancelled", "went-on")
    ]
    assert words[0]["emb_params"].equal(words[1]["emb_params"])

    runs = host.server.base / "output" / "textual_inversion"
    assert [p.name for p in sorted(runs.glob("went-on_*"))] == ["went-on_00001"]
    losses = [
        [line.split(",")[:5] for line in (runs / name / "loss.csv").read_text().splitlines()]
        for name in ("never-cancelled_00001", "went-on_00001")
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 9
    assert (runs / "went-on_00001" / "previews" / "step-000004.png").is_file()
    assert result[node]["textual_inversion_run"] == ["went-on_00001"]

    train_once(host, sd1, names, name="went-on", **(same | {"seed": 6}))
    assert (runs / "went-on_00002").is_dir()


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


@pytest.mark.parametrize(
    "changes",
    [
        {"initialization": "cross", "context": 0.001, "averaging": "last quarter"},
        {"optimizer": "sphere", "pull": 0.2, "timesteps": "window", "progressive": True},
    ],
)
def test_other_ways_of_learning(host: Host, sd1: str, names: list[str], changes: dict) -> None:
    train_once(host, sd1, names, name="another-way", **changes)
    rows = load_file(host.embeddings / "another-way.safetensors")["emb_params"]
    assert rows.shape == (2, 768)
    assert torch.isfinite(rows).all()


def test_a_preset_takes_the_place_of_what_it_names(host: Host, sd1: str, names: list[str]) -> None:
    graph = Graph()
    node = train(
        graph, checkpoint(graph, sd1), batch(graph, names), name="by-preset", preset="fast",
        optimizer="adamw", steps=3, num_vectors=1,
    )  # fmt: skip
    queued = host.queue(graph)
    host.wait_for_progress(queued, 1, node.id)
    host.interrupt()
    host.wait(queued, timeout=60, check=False)
    (kept,) = host.embeddings.glob("by-preset-interrupted.safetensors")
    with safe_open(kept, "pt") as file:
        used = json.loads(file.metadata()["textual_inversion.settings"])
    assert (used["optimizer"], used["steps"], used["num_vectors"]) == ("sphere", 2000, 1)


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
        buckets=True, zoom=0.5, templates="a [name]\na drawing of [name]",
    )  # fmt: skip
    host.run(graph)
    assert load_file(host.embeddings / "second-word.safetensors")["emb_params"].shape == (2, 768)
    assert second.id != first.id


def test_a_folder_of_pictures_of_all_shapes_with_captions(host: Host, sd1: str) -> None:
    """As the host's own loader gives them: some captions with the word, some without, some none."""
    folder = host.server.base / "input" / "all-shapes"
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for number, (size, caption) in enumerate(
        [((200, 130), "a [name], on grass"), ((130, 200), "on sand"), ((150, 150), None)]
    ):
        tiles = Image.fromarray(random.integers(0, 255, (9, 9, 3), dtype=np.uint8))
        tiles.resize(size, Image.Resampling.NEAREST).save(folder / f"{number}.png")
        if caption:
            (folder / f"{number}.txt").write_text(caption)
    graph = Graph()
    loaded = graph.add("LoadImageTextDataSetFromFolder", folder=folder.name)
    trained = train(
        graph, checkpoint(graph, sd1), loaded[0], name="shapes", captions=loaded[1], steps=4,
        resolution=128, batch_size=2, buckets=True, zoom=0.5, shuffle_tags=True, drop_tags=0.3,
    )  # fmt: skip
    shown = graph.add("PreviewAny", source=trained[4])
    (report,) = host.run(graph)[shown]["text"]
    word = load_file(host.embeddings / "shapes.safetensors")["emb_params"]
    assert word.isfinite().all()
    assert re.search(r"Captions without the word: picture \d\.", report)


def test_what_is_unusual_and_what_was_learned_is_told(host: Host, sd1: str) -> None:
    """On the node while it runs, and in full as an output."""
    tiles = np.random.default_rng(0).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    picture = Image.fromarray(tiles).resize((48, 48), Image.Resampling.NEAREST)
    name = host.upload_image(picture, "small.png")
    graph = Graph()
    trained = train(
        graph, checkpoint(graph, sd1), batch(graph, [name, name]), name="told", evaluations=1
    )
    shown = graph.add("PreviewAny", source=trained[4])
    result = host.run(graph)
    small = "Smaller than the resolution of 64: picture 1 (48 x 48)"
    double = "The same picture, or nearly, perhaps turned or mirrored: picture 1 = picture 2"
    notes = run_of(host, result, trained)["notes"]
    assert any(small in note for note in notes)
    assert any(double in note for note in notes)
    (report,) = result[shown]["text"]
    assert report.startswith("After step 3 the loss on the fixed batch is")
    assert re.search(r"clip_l: 2 vectors, 768 wide\n.*\n  1: .* long \(x .*\); near \S", report)
    assert "like the start (cosine)" in report
    assert small in report
    assert double in report


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


def test_a_run_says_in_a_sentence_why_it_failed(host: Host, sd1: str, names: list[str]) -> None:
    """On its panel, too: the same that the node says, not what PyTorch says."""
    path = host.server.base / "models" / "hypernetworks" / "hypernetwork.pt"
    path.parent.mkdir(exist_ok=True)
    layer = {"linear.0.weight": torch.eye(768), "linear.0.bias": torch.zeros(768)}
    torch.save({768: (layer, layer)}, path)
    graph = Graph()
    loaded = checkpoint(graph, sd1)
    patched = graph.add(
        "HypernetworkLoader", model=loaded[0], hypernetwork_name=path.name, strength=0.5
    )
    train(graph, loaded, batch(graph, names[:1]), name="badly-patched", model=patched[0])
    with pytest.raises(GraphFailedError, match="A patch on this model"):
        host.run(graph)
    run = host.get("/textual_inversion/run?id=badly-patched_00001")
    assert run["status"] == "interrupted"
    assert run["message"].startswith("A patch on this model (FreeU V2, a hypernetwork or similar)")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "my word"}, "cannot be the name of an embedding"),
        ({"name": "../escape"}, "cannot be the name of an embedding"),
        ({"learning_rate": "fast"}, "learning rate “fast” cannot be read"),
        ({"name": "taken", "overwrite": False}, "“taken.safetensors” already exists"),
        ({"templates": "a photo of a duck"}, "None of the templates has a place for the word"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(
    host: Host, sd1: str, names: list[str], changes: dict[str, object], sentence: str
) -> None:
    save_file({"emb_params": torch.ones(1, 768)}, host.embeddings / "taken.safetensors")
    graph = Graph()
    train(graph, checkpoint(graph, sd1), batch(graph, names[:1]), **changes)
    with pytest.raises((GraphFailedError, InvalidGraphError), match=sentence):
        host.run(graph)


def test_a_word_learned_from_the_same_is_used_and_another_refused(
    host: Host, sd1: str, names: list[str]
) -> None:
    same = {"name": "known", "steps": 2, "overwrite": False}
    first, node = train_once(host, sd1, names[:1], **same)
    file = host.embeddings / "known.safetensors"
    written = file.stat().st_mtime_ns
    graph = Graph()
    # Another value of what changes nothing about the word: the node is not taken from the cache.
    again = train(
        graph, checkpoint(graph, sd1), batch(graph, names[:1]), save_every=7, previews=1, **same
    )
    told = graph.add("PreviewAny", source=again[4])
    result = host.run(graph)
    assert (
        "Already learned from the same pictures with the same settings: “known”"
        in result[told]["text"][0]
    )
    assert result[again]["textual_inversion_run"] == first[node]["textual_inversion_run"]
    assert file.stat().st_mtime_ns == written
    for pictures, changes in ((names[:1], {"seed": 77}), (names[:2], {})):
        with pytest.raises(GraphFailedError, match=r"“known\.safetensors” already exists"):
            train_once(host, sd1, pictures, **(same | changes))


def test_two_nodes_of_a_name_are_told_before_any_step(
    host: Host, sd1: str, names: list[str]
) -> None:
    graph = Graph()
    loaded, pictures = checkpoint(graph, sd1), batch(graph, names[:1])
    train(graph, loaded, pictures, name="twin", seed=1)
    train(graph, loaded, pictures, name="Twin", seed=2)
    with pytest.raises(GraphFailedError, match=r"The name “[Tt]win” is also used") as failed:
        host.run(graph)
    assert failed.value.result.progress == []
    # The word that it has learned itself may be saved once more, in another format.
    graph = Graph()
    node = train(graph, checkpoint(graph, sd1), batch(graph, names[:1]), name="twin", seed=1)
    graph.add("TextualInversionSave", embedding=node[0], name="twin", format="a1111",
              overwrite=True)  # fmt: skip
    host.run(graph)


@pytest.mark.parametrize("existing", ["sub/plain.safetensors", "PLAIN.pt", "deep/er/plain.bin"])
def test_a_name_that_the_host_finds_elsewhere_is_taken(
    existing: str, host: Host, sd1: str, names: list[str]
) -> None:
    path = host.embeddings / existing
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"emb_params": torch.ones(1, 768)}, path)
    graph = Graph()
    train(graph, checkpoint(graph, sd1), batch(graph, names[:1]), name="plain", overwrite=False)
    try:
        with pytest.raises(GraphFailedError, match=f"“{existing}” already exists"):
            host.run(graph)
    finally:
        path.unlink()


def test_the_word_that_the_host_finds_is_the_one_that_is_replaced(
    host: Host, sd1: str, names: list[str]
) -> None:
    path = host.embeddings / "below" / "replaced.safetensors"
    path.parent.mkdir(exist_ok=True)
    save_file({"emb_params": torch.ones(1, 768)}, path)
    train_once(host, sd1, names[:1], name="replaced", steps=1, overwrite=True)
    assert load_file(path)["emb_params"].shape == (2, 768)
    assert not (host.embeddings / "replaced.safetensors").exists()
    # Where there are two, nobody can say which the host takes.
    save_file({"emb_params": torch.ones(1, 768)}, host.embeddings / "replaced.safetensors")
    graph = Graph()
    train(graph, checkpoint(graph, sd1), batch(graph, names[:1]), name="replaced", overwrite=True)
    with pytest.raises(GraphFailedError, match="Several embeddings are called “replaced”"):
        host.run(graph)


def test_a_folder_that_cannot_be_written_is_known_before_the_first_step(
    host: Host, sd1: str, names: list[str]
) -> None:
    """And what goes wrong later is told on the node, whose output is the word all the same."""
    runs = host.server.base / "output" / "textual_inversion"
    aside = runs.rename(runs.with_name("aside")) if runs.exists() else None
    runs.write_text("")
    graph = Graph()
    train(graph, checkpoint(graph, sd1), batch(graph, names[:1]), name="nowhere")
    try:
        with pytest.raises(GraphFailedError, match="textual_inversion” cannot be created"):
            host.run(graph)
    finally:
        runs.unlink()
        if aside:
            aside.rename(runs)
    assert not list(host.embeddings.glob("nowhere*"))


def test_a_kind_of_prediction_that_cannot_be_trained(host: Host, sd1: str, names: list[str]):
    graph = Graph()
    loaded = checkpoint(graph, sd1)
    distilled = graph.add("ModelSamplingDiscrete", model=loaded[0], sampling="lcm", zsnr=False)
    train(graph, loaded, batch(graph, names[:1]), model=distilled[0])
    with pytest.raises(GraphFailedError, match="cannot be trained on"):
        host.run(graph)
