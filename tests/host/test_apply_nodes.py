"""Apply and Apply Negative: weights, several words, parts of the sampling, files as negatives."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.client import Host
from support.families import text_encoder
from support.graph import Graph, Link, Node, sample
from support.results import GraphFailedError
from support.small_families import FAMILIES
from support.training import checkpoint


@pytest.fixture(scope="module")
def sd1(host: Host, sd1_checkpoint: Path) -> str:
    return host.add_checkpoint(sd1_checkpoint)


def put(host: Host, name: str, seed: int, **metadata: str) -> str:
    rows = 0.02 * torch.randn((2, 768), generator=torch.Generator().manual_seed(seed))
    path = host.embeddings / f"{name}.safetensors"
    save_file({"emb_params": rows}, path, metadata or None)
    return path.name


def put_for_sdxl(host: Host, name: str, seed: int) -> str:
    generator = torch.Generator().manual_seed(seed)
    rows = {
        key: 0.02 * torch.randn((2, width), generator=generator)
        for key, width in (("clip_l", 768), ("clip_g", 1280))
    }
    path = host.embeddings / f"{name}.safetensors"
    save_file(rows, path)
    return path.name


def apply(graph: Graph, clip: Link, word: Link, text: str, kind: str = "", **more) -> Node:
    values = {"embedding": word, "text": text, "strength": 1.0}
    return graph.add(f"TextualInversionApply{kind}", clip=clip, **(values | more))


def draw(host: Host, graph: Graph, loaded: Node, text: str | Link, **more) -> np.ndarray:
    saved = sample(graph, loaded[0], loaded[1], loaded[2], text=text, size=64, **more)
    return host.fetch_image(host.run(graph)[saved]["images"][0])


def draw_stock(host: Host, sd1: str, text: str, **more) -> np.ndarray:
    graph = Graph()
    return draw(host, graph, checkpoint(graph, sd1), text, **more)


def test_the_word_can_be_weighed(host: Host, sd1: str) -> None:
    put(host, "weighed", 1)
    stock = draw_stock(host, sd1, "a photo of (embedding:weighed:1.3) in the snow")
    for mention in ("(embedding:weighed:1.3)", "([name]:1.3)", "(weighed:1.3)"):
        graph = Graph()
        loaded = checkpoint(graph, sd1)
        word = graph.add("TextualInversionLoad", file="weighed.safetensors")
        text = f"a photo of {mention} in the snow"
        ours = draw(host, graph, loaded, apply(graph, loaded[1], word[0], text)[0])
        np.testing.assert_array_equal(ours, stock)
    plain = draw_stock(host, sd1, "a photo of embedding:weighed in the snow")
    assert np.abs(plain.astype(int) - stock).max() > 0


def test_several_words_in_one_prompt(host: Host, sd1: str) -> None:
    """Nodes in a row: the last one's prompt may mention the words of all before it."""
    put(host, "first", 2)
    put(host, "second", 3)
    graph = Graph()
    loaded = checkpoint(graph, sd1)
    first = graph.add("TextualInversionLoad", file="first.safetensors")
    second = graph.add("TextualInversionLoad", file="second.safetensors")
    unsaved = graph.add(
        "TextualInversionFromText", clip=loaded[1], text="green", name="only-in-memory"
    )
    one = apply(graph, loaded[1], first[0], "[name]")
    two = apply(graph, one[1], unsaved[0], "[name]")
    text = "a (embedding:first:1.2), embedding:only-in-memory beside [name]"
    ours = draw(host, graph, loaded, apply(graph, two[1], second[0], text)[0])
    stock = "a (embedding:first:1.2), green beside embedding:second"
    np.testing.assert_array_equal(ours, draw_stock(host, sd1, stock))


def test_the_last_of_two_words_of_a_name_counts(host: Host, sd1: str) -> None:
    """As with two steps of a run in a row: the CLIP of a node knows the word of that node."""
    graph = Graph()
    loaded = checkpoint(graph, sd1)
    clip = loaded[1]
    for text in ("green", "a castle"):
        word = graph.add("TextualInversionFromText", clip=loaded[1], text=text, name="renewed")
        clip = apply(graph, clip, word[0], "[name]")[1]
    encoded = graph.add("CLIPTextEncode", clip=clip, text="a photo of embedding:renewed")
    ours = draw(host, graph, loaded, encoded[0])
    np.testing.assert_array_equal(ours, draw_stock(host, sd1, "a photo of a castle"))


def test_each_word_of_several_has_its_own_strength(host: Host, sd1: str) -> None:
    """The same as the words moved that far beforehand, by blending them with empty tokens."""
    strengths = {"weak": 0.5, "strong": 1.5}
    for seed, name in enumerate(strengths, 20):
        put(host, name, seed)
    graph = Graph()
    loaded = checkpoint(graph, sd1)
    clip = loaded[1]
    for name, strength in strengths.items():
        word = graph.add("TextualInversionLoad", file=f"{name}.safetensors")
        last = apply(graph, clip, word[0], "embedding:weak, [name]", strength=strength)
        clip = last[1]
    ours = draw(host, graph, loaded, last[0])
    graph = Graph()
    loaded = checkpoint(graph, sd1)
    clip = loaded[1]
    # CLIP-L fills prompts up with its end token.
    empty = graph.add(
        "TextualInversionFromText", clip=clip, text="<|endoftext|><|endoftext|>", name="empty"
    )
    for name, strength in strengths.items():
        word = graph.add("TextualInversionLoad", file=f"{name}.safetensors")
        parts = {"embeddings.embedding0": empty[0], "embeddings.embedding1": word[0]}
        moved = graph.add(
            "TextualInversionBlend",
            mode="weighted sum", amount=strength, keep_vectors=0, name=name, **parts,
        )  # fmt: skip
        last = apply(graph, clip, moved[0], "embedding:weak, [name]")
        clip = last[1]
    np.testing.assert_allclose(ours.astype(int), draw(host, graph, loaded, last[0]), atol=1)


@pytest.mark.parametrize("kind", ["", "Negative"])
def test_what_of_a_word_does_not_count_is_told(host: Host, sd1: str, kind: str) -> None:
    """The host's own encoders leave it out without a word."""
    file = put_for_sdxl(host, "for-sdxl", 30)
    graph = Graph()
    loaded = checkpoint(graph, sd1)
    word = graph.add("TextualInversionLoad", file=file)
    node = apply(graph, loaded[1], word[0], "a [name] dog", kind=kind)
    saved = sample(graph, loaded[0], loaded[1], loaded[2], text=node[0], size=64)
    result = host.run(graph)
    told = [shown.text for shown in result.texts if shown.node_id == node.id]
    assert told == [
        "“for-sdxl” is for SDXL and works only in part here: its vectors for clip_g (1280 wide) "
        "are left out."
    ]
    stock = draw_stock(host, sd1, "a embedding:for-sdxl dog")
    np.testing.assert_array_equal(host.fetch_image(result[saved]["images"][0]), stock)


def test_an_encoder_without_vectors_reads_the_prompt_without_the_word(
    host_modules: ModuleType, tmp_path: Path
) -> None:
    from textual_inversion.nodes.host.text_encoders import widths, with_words
    from textual_inversion.trainer.embeddings.embedding import Embedding

    with torch.inference_mode():
        clip = text_encoder(FAMILIES["sdxl"], tmp_path)
        word = Embedding("w", {"clip_l": torch.ones(2, widths(clip)["clip_l"])})
        tokens = with_words(clip, [word]).tokenize("a embedding:w dog")
        plain = clip.tokenize("a dog")
    assert sum(torch.is_tensor(token[0]) for token in tokens["l"][0]) == 2
    assert tokens["g"] == plain["g"]


@pytest.mark.parametrize("limits", [(0.0, 0.5), (0.25, 0.75)])
def test_a_word_for_a_part_of_the_sampling(
    host: Host, sd1: str, limits: tuple[float, float]
) -> None:
    """Equals what the host's own nodes give for the same prompts and ranges."""
    put(host, "early", 4)
    start, end = limits
    graph = Graph()
    loaded = checkpoint(graph, sd1)
    word = graph.add("TextualInversionLoad", file="early.safetensors")
    limited = apply(
        graph, loaded[1], word[0], "a ([name]:1.2) dog", start_percent=start, end_percent=end
    )
    ours = draw(host, graph, loaded, limited[0], steps=4)
    graph = Graph()
    loaded = checkpoint(graph, sd1)
    texts = {text: graph.add("CLIPTextEncode", clip=loaded[1], text=text)[0]
             for text in ("a (embedding:early:1.2) dog", "a dog")}  # fmt: skip
    within, without = texts.values()
    combined: Link | None = None
    for part, first, last in ((within, start, end), (without, 0.0, start), (without, end, 1.0)):
        if first < last:
            ranged = graph.add(
                "ConditioningSetTimestepRange", conditioning=part, start=first, end=last
            )[0]
            combined = ranged if combined is None else graph.add(
                "ConditioningCombine", conditioning_1=combined, conditioning_2=ranged
            )[0]  # fmt: skip
    assert combined is not None
    stock = draw(host, graph, loaded, combined, steps=4)
    np.testing.assert_array_equal(ours, stock)
    always = draw_stock(host, sd1, "a (embedding:early:1.2) dog", steps=4)
    assert np.abs(always.astype(int) - stock).max() > 0


def refused(host: Host, sd1: str, word: str | None, message: str, kind: str, **more) -> None:
    graph = Graph()
    loaded = checkpoint(graph, sd1)
    values = {"text": "[name]", "strength": 1.0} | more
    if word:
        values["embedding"] = graph.add("TextualInversionLoad", file=word)[0]
    node = graph.add(f"TextualInversionApply{kind}", clip=loaded[1], **values)
    sample(graph, loaded[0], loaded[1], loaded[2], text=node[0], size=64)
    with pytest.raises(GraphFailedError, match=message):
        host.run(graph)


def test_a_range_without_steps_is_refused(host: Host, sd1: str) -> None:
    file = put(host, "never", 5)
    refused(host, sd1, file, r"start_percent \(0.5\) must be below end_percent \(0.5\)", "",
            start_percent=0.5, end_percent=0.5)  # fmt: skip


def test_negatives_come_first_and_need_no_loader(host: Host, sd1: str) -> None:
    (host.embeddings / "neg").mkdir(exist_ok=True)
    for name, notes in (
        ("a-thing", {}),
        ("neg/EasyNegative", {}),
        ("zz-says-so", {"modelspec.is_negative_embedding": "true"}),
    ):
        put(host, name, 6, **notes)
    # What cannot be read must not take the node away.
    (host.embeddings / "broken-link.safetensors").symlink_to(host.embeddings / "absent")
    (host.embeddings / "damaged.safetensors").write_bytes(b"no header")
    inputs = host.object_info("TextualInversionApplyNegative")["input"]
    offered = inputs["optional"]["file"][1]["options"]
    places = [offered.index(f"{name}.safetensors")
              for name in ("neg/EasyNegative", "zz-says-so", "a-thing")]  # fmt: skip
    assert 0 < places[0] < places[1] < places[2]
    graph = Graph()
    loaded = checkpoint(graph, sd1)
    negative = graph.add(
        "TextualInversionApplyNegative",
        clip=loaded[1], text="blurry", strength=1.0, file="neg/EasyNegative.safetensors",
    )  # fmt: skip
    ours = draw(host, graph, loaded, "a dog", negative=negative[0])
    stock = draw_stock(host, sd1, "a dog", negative="embedding:neg/EasyNegative, blurry")
    np.testing.assert_array_equal(ours, stock)


def test_a_file_stands_for_the_same_word_connected(host: Host, sd1: str) -> None:
    (host.embeddings / "my").mkdir(exist_ok=True)
    file = put(host, "my/mug", 40)
    offered = host.object_info("TextualInversionApply")["input"]["optional"]["file"][1]["options"]
    assert offered[0] == "the connected one"
    assert file in [Path(one).name for one in offered]
    pictures = []
    for connected in (True, False):
        graph = Graph()
        loaded = checkpoint(graph, sd1)
        word = {"file": "my/mug.safetensors"}
        if connected:
            word = {"embedding": graph.add("TextualInversionLoad", **word)[0]}
        applied = graph.add(
            "TextualInversionApply", clip=loaded[1], text="a ([name]:1.2) here", strength=0.8,
            start_percent=0.25, **word,
        )  # fmt: skip
        pictures.append(draw(host, graph, loaded, applied[0], steps=4))
    np.testing.assert_array_equal(*pictures)
    without = draw_stock(host, sd1, "a here", steps=4)
    assert np.abs(pictures[0].astype(int) - without).max() > 0


@pytest.mark.parametrize("kind", ["", "Negative"])
def test_a_file_that_changed_is_noticed(host: Host, sd1: str, kind: str) -> None:
    graph = Graph()
    loaded = checkpoint(graph, sd1)
    file = put(host, f"changing{kind}", 7)
    applied = graph.add(
        f"TextualInversionApply{kind}", clip=loaded[1], text="[name]", strength=1.0, file=file
    )
    prompts = {"negative": applied[0]} if kind else {"text": applied[0]}
    saved = sample(graph, loaded[0], loaded[1], loaded[2], size=64, **prompts)
    pictures = []
    # The third time it is the same as before, and nothing has to be done.
    for seed, runs in ((7, True), (8, True), (8, False)):
        put(host, f"changing{kind}", seed)
        result = host.run(graph)
        assert result.ran(applied) == runs
        pictures.append(host.fetch_image(result[saved]["images"][0]))
    assert np.abs(pictures[0].astype(int) - pictures[1]).max() > 0
    np.testing.assert_array_equal(pictures[1], pictures[2])


@pytest.mark.parametrize("kind", ["", "Negative"])
def test_one_word_is_needed(host: Host, sd1: str, kind: str) -> None:
    file = put(host, "one-of-two", 9)
    none = r": There is no word: connect an embedding, or choose a file\.\n"
    refused(host, sd1, None, none, kind)
    refused(host, sd1, None, none, kind, file="the connected one")
    refused(host, sd1, file, "There are two words, “one-of-two” and the file", kind, file=file)


def test_what_cannot_be_a_negative_is_refused(host: Host, sd1: str) -> None:
    file = put(host, "my-dog", 9, **{"textual_inversion.settings": "{}"})
    refused(host, sd1, file, "“my-dog” was made to draw something.* Apply Embedding", "Negative")


@pytest.mark.parametrize("family", ["omnigen2", "qwen_image"])
def test_families_whose_tokenizers_drop_embeddings(host_modules: ModuleType, family: str) -> None:
    """Our rows reach their places in an encoder of that kind, of two small layers.

    The tokenizer of Qwen-Image also compares every token with a number.
    """
    from textual_inversion.nodes.apply import ApplyEmbedding
    from textual_inversion.trainer.embeddings.embedding import Embedding

    with torch.inference_mode():
        clip, key = tiny_qwen(family)
        inner = getattr(clip.tokenizer, key)
        ids = inner.tokenizer(" red mug")["input_ids"]
        encoder = getattr(clip.cond_stage_model, key)
        rows = encoder.transformer.get_input_embeddings().weight[ids]
        word = Embedding("w", {key: rows})
        conditioning, known = ApplyEmbedding.execute(clip, "a [name] there", 1.0, word).result
        (placed,) = known.tokenize("a embedding:w there")[key]
        places = [i for i, token in enumerate(placed) if torch.is_tensor(token[0])]
        assert len(places) == len(ids)
        # The same prompt with the words themselves, as ids.
        for place, number in zip(places, ids, strict=True):
            placed[place] = (number, *placed[place][1:])
        expected = clip.encode_from_tokens_scheduled({key: [placed]})
        torch.testing.assert_close(conditioning[0][0], expected[0][0])
        assert torch.isfinite(conditioning[0][0]).all()
        assert inner.embedding_directory is None


def tiny_qwen(family: str) -> tuple[Any, str]:
    """A CLIP of the host with that family's tokenizer, and the key of its encoder."""
    import comfy.sd
    import comfy.sd1_clip
    import comfy.supported_models_base
    from comfy.text_encoders import omnigen2, qwen_image

    tokenizer, key = {
        "omnigen2": (omnigen2.Omnigen2Tokenizer, "qwen25_3b"),
        "qwen_image": (qwen_image.QwenImageTokenizer, "qwen25_7b"),
    }[family]

    class Encoder(comfy.sd1_clip.SD1ClipModel):
        def __init__(self, device="cpu", dtype=None, model_options=None) -> None:
            layers = omnigen2.Qwen25_3BModel
            super().__init__(device, dtype, model_options or {}, name=key, clip_model=layers)

    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
             "num_attention_heads": 1, "num_key_value_heads": 1}  # fmt: skip
    target = comfy.supported_models_base.ClipTarget(tokenizer, Encoder)
    options = {"dtype": torch.float32, f"{key}_model_config": sizes}
    clip = comfy.sd.CLIP(target, model_options=options)
    generator = torch.Generator().manual_seed(0)
    for weight in clip.cond_stage_model.parameters():
        torch.nn.init.normal_(weight, std=0.05, generator=generator)
    return clip, key
