"""A word that leaves the words around it alone."""

from __future__ import annotations

import pytest
import torch
from support.tiny_models import TinyParts
from textual_inversion.trainer.learning.initial import initial_vectors
from textual_inversion.trainer.methods.context import context_loss, with_context

PROMPTS = ["a [name] toy in red", "a photo of [name] and a cat"]


def test_the_words_behind_are_those_that_change(any_family: TinyParts) -> None:
    model, vectors = any_family.model(), any_family.vectors(2)
    prompt = model.tokenize("red cat [name] toy", 2)
    (one,) = model.text_states([prompt], vectors)
    (other,) = model.text_states([prompt], {k: -v for k, v in vectors.items()})
    same = (one.states - other.states).abs().amax(1) < 1e-6
    # start, red, cat | two vectors | toy, end, ...
    assert one.is_word.nonzero().flatten().tolist() == [3, 4]
    assert one.is_text.nonzero().flatten().tolist() == [1, 2, 5]
    assert same.tolist()[:6] == [True] * 3 + [False] * 3


def test_states_are_those_that_the_network_reads(any_family: TinyParts) -> None:
    model, vectors = any_family.model(), any_family.vectors(2)
    prompts = [model.tokenize(prompt, 2) for prompt in PROMPTS]
    read = model.encode_prompts(prompts, vectors).states
    for states, told in zip(read, model.text_states(prompts, vectors), strict=True):
        torch.testing.assert_close(told.states, states)


def test_it_is_the_papers_formula(sd1: TinyParts) -> None:
    model = sd1.model()
    anchors = initial_vectors(model.text_encoders, "cat", 1)
    vectors = sd1.vectors(1)
    expected = []
    for prompt in PROMPTS:
        # With the vector of “cat” in its place, the prompt is the plain text about a cat.
        plain = sd1.tokenizers[0](prompt.replace("[name]", "cat"), return_tensors="pt").input_ids
        place = int((plain[0] == sd1.tokenizers[0]("cat").input_ids[1]).nonzero()[0])
        wanted = sd1.text_encoders[0](plain).last_hidden_state[0]
        (now,) = model.text_states([model.tokenize(prompt, 1)], vectors)
        others = [i for i in range(1, plain.shape[1] - 1) if i != place]
        cosines = torch.cosine_similarity(now.states[others], wanted[others])
        expected.append((1 - cosines).mean())
    found = context_loss(model, PROMPTS, vectors, anchors)
    torch.testing.assert_close(found, torch.stack(expected).mean(), atol=1e-5, rtol=1e-4)


def test_it_is_nothing_at_the_start_and_falls_by_its_gradient(any_family: TinyParts) -> None:
    model = any_family.model()
    anchors = initial_vectors(model.text_encoders, "cat toy", 2)
    assert context_loss(model, PROMPTS, anchors, anchors) == pytest.approx(0, abs=1e-6)
    vectors = {k: v.requires_grad_() for k, v in any_family.vectors(2).items()}
    optimizer = torch.optim.Adam(vectors.values(), lr=0.1)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = context_loss(model, PROMPTS, vectors, anchors)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_vectors_that_are_not_there_yet_do_not_count(sd1: TinyParts) -> None:
    model = sd1.model()
    anchors = initial_vectors(model.text_encoders, "cat toy", 2)
    first = {key: rows[:1] for key, rows in anchors.items()}
    assert context_loss(model, PROMPTS, first, anchors) == pytest.approx(0, abs=1e-6)


def test_words_are_put_behind_where_there_are_none() -> None:
    assert with_context("a photo of [name]", 1) == "a photo of [name] on the beach"
    assert with_context("[name].", 9) == "[name]. on the beach"
    assert with_context("a [name] in red", 1) == "a [name] in red"
