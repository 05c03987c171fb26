"""Load, Save, Apply and Apply Negative in a real server, with files from the wild."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from support.client import Host
from support.graph import Graph, Node, sample
from support.results import GraphFailedError, InvalidGraphError
from support.training import checkpoint
from support.wild import WILD


@pytest.fixture(scope="module")
def sd1(host: Host, sd1_checkpoint: Path) -> str:
    return host.add_checkpoint(sd1_checkpoint)


def put(host: Host, name: str, seed: int, width: int = 768) -> str:
    """Write a word into the server's embeddings folder behind its back."""
    generator = torch.Generator().manual_seed(seed)
    rows = 0.02 * torch.randn((2, width), generator=generator)
    save_file({"emb_params": rows}, host.embeddings / f"{name}.safetensors")
    return f"{name}.safetensors"


def apply(graph: Graph, loaded: Node, file: str, text: str, kind: str = "", strength: float = 1.0):
    word = graph.add("TextualInversionLoad", file=file)
    return graph.add(
        f"TextualInversionApply{kind}",
        clip=loaded[1], embedding=word[0], text=text, strength=strength,
    )  # fmt: skip


def picture(host: Host, graph: Graph, saved: Node) -> np.ndarray:
    return host.fetch_image(host.run(graph)[saved]["images"][0])


def draw_stock(host: Host, sd1: str, **texts: str) -> np.ndarray:
    graph = Graph()
    loaded = checkpoint(graph, sd1)
    return picture(host, graph, sample(graph, *(loaded[i] for i in range(3)), **texts))


def test_positive_and_negative_equal_the_stock_encoder(host: Host, sd1: str) -> None:
    file = put(host, "applied", 1)
    graph = Graph()
    loaded = checkpoint(graph, sd1)
    positive = apply(graph, loaded, file, "a photo of applied, in (bright:1.2) light")
    negative = apply(graph, loaded, file, "blurry", kind="Negative")
    ours = picture(host, graph, sample(
        graph, loaded[0], loaded[1], loaded[2], text=positive[0], negative=negative[0]
    ))  # fmt: skip
    stock = draw_stock(
        host, sd1, text="a photo of embedding:applied, in (bright:1.2) light",
        negative="embedding:applied, blurry",
    )  # fmt: skip
    np.testing.assert_array_equal(ours, stock)


def test_a_name_that_prompts_cannot_carry_still_applies(host: Host, sd1: str) -> None:
    """Community files are called all sorts of things."""
    pictures = []
    for name in ("plain", "two words (v1.2), final"):
        graph = Graph()
        loaded = checkpoint(graph, sd1)
        word = apply(graph, loaded, put(host, name, 12), "a photo of [name]")
        saved = sample(graph, loaded[0], loaded[1], loaded[2], text=word[0])
        pictures.append(picture(host, graph, saved))
    np.testing.assert_array_equal(*pictures)
    without = draw_stock(host, sd1, text="a photo of")
    assert np.abs(pictures[0].astype(int) - without).max() > 0


def test_the_list_shows_what_can_be_loaded(host: Host) -> None:
    """Sub-folders, every format, fresh files; not the pictures that only show a word."""
    folder = host.embeddings / "some" / "folder"
    folder.mkdir(parents=True)
    put(host, "some/folder/shown", 13)
    for picture_name in ("shown.png", "shown.preview.png"):
        Image.new("RGB", (8, 8)).save(folder / picture_name)
    Image.new("RGB", (8, 8)).save(folder / "maybe-an-embedding.png")
    options = host.object_info("TextualInversionLoad")["input"]["required"]["file"][1]["options"]
    assert [name for name in options if name.startswith("some/")] == [
        "some/folder/maybe-an-embedding.png", "some/folder/shown.safetensors",
    ]  # fmt: skip


def test_links_out_of_the_folder_are_neither_listed_nor_read(host: Host, tmp_path: Path) -> None:
    """But a word of that name is not written over without asking: stock prompts find it."""
    outside = tmp_path / "outside.safetensors"
    save_file({"emb_params": torch.ones(1, 768)}, outside)
    (host.embeddings / "leads-out.safetensors").symlink_to(outside)
    (host.embeddings / "stays.safetensors").symlink_to(host.embeddings / put(host, "linked-to", 14))
    options = host.object_info("TextualInversionLoad")["input"]["required"]["file"][1]["options"]
    assert "stays.safetensors" in options
    assert "leads-out.safetensors" not in options

    graph = Graph()
    loaded = graph.add("TextualInversionLoad", file="stays.safetensors")
    graph.add("TextualInversionSave", embedding=loaded[0], name="leads-out", format="safetensors",
              overwrite=False)  # fmt: skip
    with pytest.raises(GraphFailedError, match="already exists"):
        host.run(graph)
    for file in ("leads-out.safetensors", "../embeddings/stays.safetensors", str(outside)):
        graph = Graph()
        loaded = graph.add("TextualInversionLoad", file=file)
        graph.add("TextualInversionInspect", embedding=loaded[0])
        with pytest.raises((GraphFailedError, InvalidGraphError)):
            host.run(graph)


def test_the_preview_picture_is_shown_on_the_node(host: Host) -> None:
    file = put(host, "with-picture", 15)
    shown = []
    for colour in (None, "blue"):
        if colour:
            Image.new("RGB", (900, 600), colour).save(host.embeddings / "with-picture.preview.png")
            put(host, "with-picture", 16)
        graph = Graph()
        loaded = graph.add("TextualInversionLoad", file=file)
        graph.add("TextualInversionInspect", embedding=loaded[0])
        result = host.run(graph)
        shown.append(result.outputs.get(loaded.id, {}).get("images", []))
    nothing, (picture,) = shown
    assert nothing == []
    pixels = host.fetch_image(picture)
    assert pixels.shape[:2] == (256, 384)
    assert pixels[128, 192, 2] > 200 > 50 > pixels[128, 192, 0]


def test_strength_goes_from_nothing_to_the_word(host: Host, sd1: str) -> None:
    """0 is the prompt with empty tokens in place of the word; 1 is the word."""
    file = put(host, "graded", 2)
    found = []
    for strength in (0.0, 0.5, 1.0):
        graph = Graph()
        loaded = checkpoint(graph, sd1)
        word = apply(graph, loaded, file, "a [name] in the snow", strength=strength)
        saved = sample(graph, loaded[0], loaded[1], loaded[2], text=word[0])
        found.append(picture(host, graph, saved).astype(int))
    nothing, half, whole = found
    assert np.abs(half - nothing).sum() > 0
    assert np.abs(half - whole).sum() < np.abs(nothing - whole).sum()
    stock = draw_stock(host, sd1, text="a embedding:graded in the snow")
    np.testing.assert_array_equal(whole, stock)


def test_a_word_in_memory_reaches_stock_encoders_and_nothing_else(host: Host, sd1: str) -> None:
    """Through the CLIP output two unsaved words are known at once; the plain CLIP knows none."""
    graph = Graph()
    loaded = checkpoint(graph, sd1)
    saved_as = []
    clip = loaded[1]
    for name, seed in (("left", 3), ("right", 4)):
        put(host, f"file-{name}", seed)
        word = graph.add("TextualInversionLoad", file=f"file-{name}.safetensors")
        renamed = graph.add(
            "TextualInversionSave",
            embedding=word[0], name=f"copy-{name}", format="safetensors", overwrite=True,
        )  # fmt: skip
        saved_as.append(renamed)
        clip = graph.add(
            "TextualInversionApply", clip=clip, embedding=word[0], text="[name]", strength=1.0
        )[1]
    text = "embedding:file-left beside embedding:file-right"
    known = sample(graph, loaded[0], clip, loaded[2], text=text)
    result = host.run(graph)
    stock = draw_stock(host, sd1, text="embedding:copy-left beside embedding:copy-right")
    np.testing.assert_array_equal(host.fetch_image(result[known]["images"][0]), stock)
    assert [result[node]["text"] for node in saved_as] == [
        ["Saved copy-left.safetensors"], ["Saved copy-right.safetensors"],
    ]  # fmt: skip


def test_a_changed_file_under_an_old_name_is_noticed(host: Host, sd1: str) -> None:
    pictures = []
    for seed in (5, 6):
        file = put(host, "changing", seed)
        graph = Graph()
        loaded = checkpoint(graph, sd1)
        word = apply(graph, loaded, file, "a photo of [name]")
        saved = sample(graph, loaded[0], loaded[1], loaded[2], text=word[0])
        pictures.append(picture(host, graph, saved))
    assert np.abs(pictures[0].astype(int) - pictures[1]).max() > 0


def test_one_word_of_several_is_chosen_by_name(host: Host) -> None:
    rows = {name: torch.full((1, 768), value) for name, value in (("one", 0.1), ("two", 0.2))}
    bundle = {f"bundle_emb.{name}.emb_params": part for name, part in rows.items()}
    save_file(bundle, host.embeddings / "style-lora.safetensors")

    def save(**chosen: str) -> None:
        graph = Graph()
        word = graph.add("TextualInversionLoad", file="style-lora.safetensors", **chosen)
        graph.add(
            "TextualInversionSave",
            embedding=word[0], name="", format="safetensors", overwrite=True,
        )  # fmt: skip
        host.run(graph)

    save(word="two")
    saved = load_file(host.embeddings / "two.safetensors")["emb_params"]
    assert torch.equal(saved, rows["two"])
    with pytest.raises(GraphFailedError, match="holds 2 words: choose one of “one”, “two” by name"):
        save()


def test_saving_twice_and_over_another_word(host: Host) -> None:
    put(host, "one", 7)
    put(host, "another", 8)

    def save(source: str, name: str, **changes):
        graph = Graph()
        word = graph.add("TextualInversionLoad", file=f"{source}.safetensors")
        graph.add(
            "TextualInversionSave",
            **{"embedding": word[0], "name": name, "format": "safetensors", "overwrite": False}
            | changes,
        )
        return host.run(graph)

    save("one", "kept")
    save("one", "kept")  # the same vectors: nothing to ask about
    before = (host.embeddings / "kept.safetensors").read_bytes()
    with pytest.raises(GraphFailedError, match="already exists"):
        save("another", "kept")
    assert (host.embeddings / "kept.safetensors").read_bytes() == before
    save("another", "kept", overwrite=True)
    assert (host.embeddings / "kept.safetensors").read_bytes() != before
    save("one", "as-a1111", format="a1111")
    assert (host.embeddings / "as-a1111.pt").is_file()
    with pytest.raises(InvalidGraphError, match="cannot be the name"):
        save("one", "../outside")
    assert not list(host.embeddings.parent.glob("outside*"))


def test_another_models_word_is_refused_with_both_widths(host: Host, sd1: str) -> None:
    file = put(host, "for-sd2", 9, width=1024)
    graph = Graph()
    loaded = checkpoint(graph, sd1)
    word = apply(graph, loaded, file, "a photo of [name]")
    sample(graph, loaded[0], loaded[1], loaded[2], text=word[0])
    with pytest.raises(GraphFailedError, match=r"1024 wide .*Stable Diffusion 2.* reads 768"):
        host.run(graph)


def test_a_prompt_without_the_word_is_refused(host: Host, sd1: str) -> None:
    file = put(host, "missing", 10)
    graph = Graph()
    loaded = checkpoint(graph, sd1)
    word = apply(graph, loaded, file, "a photo of a dog")
    sample(graph, loaded[0], loaded[1], loaded[2], text=word[0])
    with pytest.raises(GraphFailedError, match="does not contain the word"):
        host.run(graph)


def test_a_name_that_cannot_be_saved_is_refused_at_once(host: Host) -> None:
    """And not once the word that is to be saved has been trained; one behind a link is then."""
    for linked in (False, True):
        graph = Graph()
        word = graph.add("TextualInversionLoad", file=put(host, "to-be-saved", 14))
        name = graph.add("PrimitiveString", value="my word")[0] if linked else "my word"
        graph.add(
            "TextualInversionSave",
            embedding=word[0], name=name, format="safetensors", overwrite=False,
        )  # fmt: skip
        refusal = GraphFailedError if linked else InvalidGraphError
        with pytest.raises(refusal, match="“my word” cannot be the name of an embedding"):
            host.run(graph)


def test_only_the_embeddings_folder_can_be_read(host: Host) -> None:
    outside = host.embeddings.parent / "outside.safetensors"
    save_file({"emb_params": torch.ones(1, 768)}, outside)
    for file in ("../outside.safetensors", str(outside)):
        graph = Graph()
        word = graph.add("TextualInversionLoad", file=file)
        graph.add(
            "TextualInversionSave",
            embedding=word[0], name="stolen", format="safetensors", overwrite=False,
        )  # fmt: skip
        with pytest.raises((GraphFailedError, InvalidGraphError)):
            host.run(graph)
    assert not (host.embeddings / "stolen.safetensors").exists()


@pytest.mark.parametrize(
    "name", ["EasyNegative.safetensors", "gasai-yuno-1000.pt", "cat-toy_learned_embeds.bin"]
)
def test_community_files_load_and_what_we_save_equals_them_in_the_host(
    host: Host, sd1: str, name: str
) -> None:
    """A real file in the stock encoder, and our copy of it there, draw the same picture."""
    if not (WILD / name).is_file():
        pytest.skip("The community embeddings are not at hand.")
    stem = Path(name).stem.replace("_", "-")
    folder = host.embeddings / "wild"
    folder.mkdir(exist_ok=True)
    shutil.copy(WILD / name, folder / name)
    shutil.copy(WILD / name, host.embeddings / f"{stem}-original{Path(name).suffix}")
    graph = Graph()
    word = graph.add("TextualInversionLoad", file=f"wild/{name}")
    graph.add(
        "TextualInversionSave",
        embedding=word[0], name=f"{stem}-copy", format="safetensors", overwrite=True,
    )  # fmt: skip
    host.run(graph)
    assert list(load_file(host.embeddings / f"{stem}-copy.safetensors")) == ["emb_params"]
    original, copy = (
        draw_stock(host, sd1, text=f"a photo of embedding:{stem}-{kind}", negative="")
        for kind in ("original", "copy")
    )
    np.testing.assert_array_equal(original, copy)
