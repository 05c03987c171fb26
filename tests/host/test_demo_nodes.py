"""The tiny model and the demo in a real server: what is learned is measured, not judged."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from support.client import Host
from support.graph import Graph, Node, sample
from support.loaded import executing
from support.paths import template
from support.training import train
from support.workflows import to_api

CONCEPT = "sun-disk"
CONTEXTS = 20
STEPS = 25


@pytest.fixture(scope="module")
def lesson(host: Host) -> str:
    """A word learned with the very settings of the first template."""
    first = json.loads(template(1).read_text())
    nodes = to_api(first, host.object_info())
    (settings,) = (n for n in nodes.values() if n["class_type"] == "TextualInversionTrain")
    plain = {k: v for k, v in settings["inputs"].items() if not isinstance(v, list)}
    graph = Graph()
    model = graph.add("TextualInversionDemoModel")
    pictures = graph.add("TextualInversionDemoPictures", concept=CONCEPT, count=5, seed=0)
    train(
        graph, model, pictures[0],
        **plain | {"name": "lesson", "captions": pictures[1], "init_words": pictures[2]},
    )  # fmt: skip
    host.run(graph, timeout=900)
    return "embedding:lesson"


def draw(host: Host, prompts: list[str]) -> torch.Tensor:
    """What stock nodes draw with the tiny model, [prompts, 128, 128, 3] in 0..1."""
    from textual_inversion.demo.model import GUIDANCE

    graph = Graph()
    model = graph.add("TextualInversionDemoModel")
    saved: list[Node] = [
        sample(
            graph, model[0], model[1], model[2],
            text=prompt, size=128, steps=STEPS, cfg=GUIDANCE, seed=number,
        )
        for number, prompt in enumerate(prompts)
    ]  # fmt: skip
    result = host.run(graph, timeout=900)
    pictures = [host.fetch_image(result[node]["images"][0]) for node in saved]
    return torch.from_numpy(np.stack(pictures)).float() / 255


def test_a_learned_word_beats_all_words(host: Host, lesson: str) -> None:
    """Clearly nearer to the concept than the best words, and prompts are followed as well."""
    from textual_inversion.demo.measure import contexts, measure, wordings

    measured = {}
    for phrase in (*wordings(CONCEPT), lesson):
        asked = contexts(CONCEPT, phrase, CONTEXTS)
        measured[phrase] = measure(draw(host, [one.prompt for one in asked]), CONCEPT, asked)
    learned = measured.pop(lesson)
    best = min(measured.values(), key=lambda one: one.likeness_error)
    print(f"words {best}\nlearned {learned}")
    assert learned.likeness_error <= 0.5 * best.likeness_error
    assert learned.prompt_following >= best.prompt_following - 0.1


def test_the_tiny_model_is_the_same_here_and_there(host_modules: ModuleType) -> None:
    """Conditioning, prediction and both ways of the autoencoder: the host's and diffusers'."""
    from textual_inversion.demo.story import tiny_model
    from textual_inversion.nodes.host.demo_model import build
    from textual_inversion.nodes.host.model import HostModel

    with torch.inference_mode():
        host_parts = build()
    theirs = tiny_model()
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn((2, 4, 16, 16), generator=generator)
    pixels = torch.rand((1, 128, 128, 3), generator=generator)
    timesteps = torch.tensor([10, 990])
    prompts = ["a photo of a [name]", "[name] on a red background, on the left"]
    vectors = {e.key: e.vocabulary[[5]].float() for e in theirs.text_encoders}
    with executing(), HostModel(*host_parts) as ours:
        assert ours.guidance == tiny_model().guidance == 3
        assert ours.parameterization == theirs.parameterization
        # The last timestep differs: pure noise there, all but pure noise in the host.
        torch.testing.assert_close(ours.schedule.alphas[:-1], theirs.schedule.alphas[:-1])
        predictions = [
            model.predict(
                noisy,
                timesteps,
                model.encode_prompts([model.tokenize(p, 1) for p in prompts], vectors),
            )
            for model in (ours, theirs)
        ]
        torch.testing.assert_close(*predictions, atol=1e-4, rtol=1e-4)
        for method, value in (("encode_pictures", pixels), ("decode_latents", noisy)):
            found, expected = (getattr(model, method)(value) for model in (ours, theirs))
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_word_draws_the_same_here_and_there(
    host: Host, host_modules: ModuleType, lesson: str
) -> None:
    """The file that the graph wrote, read by the trainer, in the host's model and diffusers'."""
    from textual_inversion.demo.story import tiny_model
    from textual_inversion.nodes.host.demo_model import build
    from textual_inversion.nodes.host.model import HostModel
    from textual_inversion.trainer.files.reading import read_embedding
    from textual_inversion.trainer.methods.sampler import sample as sample_through

    word = read_embedding(host.embeddings / f"{lesson.removeprefix('embedding:')}.safetensors")
    with torch.inference_mode():
        host_parts = build()
    with executing(), HostModel(*host_parts) as ours:
        assert ours.guidance == tiny_model().guidance == 3
        pictures = [
            sample_through(
                model, "a photo of a [name] on a white background", word.vectors,
                latent_shape=(4, 16, 16), seed=3, steps=10,
            )
            for model in (ours, tiny_model())
        ]  # fmt: skip
    torch.testing.assert_close(*pictures, atol=0.02, rtol=0)


def test_pictures_and_captions_belong_together(host: Host, tmp_path: Path) -> None:
    graph = Graph()
    pictures = graph.add("TextualInversionDemoPictures", concept="moss-flower", count=3, seed=4)
    saved = graph.add("SaveImage", images=pictures[0], filename_prefix="demo")
    texts = graph.add("PreviewAny", source=pictures[1])
    result = host.run(graph)
    assert len(result[saved]["images"]) == 3
    assert host.fetch_image(result[saved]["images"][0]).shape == (128, 128, 3)
    assert all("[name]" in text for text in result[texts]["text"])
