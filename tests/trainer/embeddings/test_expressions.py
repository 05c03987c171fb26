"""The language in which words are made of words: what it means, and what it refuses."""

from __future__ import annotations

import json

import pytest
import torch
from support.toy_model import ToyModel
from textual_inversion.trainer.embeddings.algebra import keep_vectors, slerp
from textual_inversion.trainer.embeddings.embedding import Embedding
from textual_inversion.trainer.embeddings.evaluation import evaluate
from textual_inversion.trainer.embeddings.expressions import FUNCTIONS, parse, words_in
from textual_inversion.trainer.embeddings.provenance import expression_of
from textual_inversion.trainer.errors import InputError
from torch import Tensor

MODEL = ToyModel()
TABLE = MODEL.text_encoders[0].vocabulary
A, B, LONG = (
    torch.randn(count, 4, generator=torch.Generator().manual_seed(count)) for count in (2, 2, 4)
)
B = B + 1
WORDS = {
    "a": Embedding("a", {"clip_l": A}),
    "cat-toy": Embedding("cat-toy", {"clip_l": B}),
    "my word": Embedding("my word", {"clip_l": LONG}),
    "v1.3": Embedding("v1.3", {"clip_l": A}),
}


def find(name: str) -> Embedding:
    if name not in WORDS:
        raise InputError(f"There is no “{name}”.")
    return WORDS[name]


def made(expression: str) -> Tensor:
    return evaluate("new", expression, find, lambda: MODEL.text_encoders).vectors["clip_l"]


RED_CAT = TABLE[[6, 5]]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("a", A),
        ("0.7 * cat-toy + 0.3 * [red cat]", 0.7 * B + 0.3 * RED_CAT),
        ("a - cat-toy", A - B),
        ("a-cat-toy", None),
        ("a - cat-toy - a", -B),
        ("a + 2 * cat-toy", A + 2 * B),
        ("(a + cat-toy) / 2", (A + B) / 2),
        ("(1 + 1) * a * .5e0", A),
        ("-a", -A),
        ("--a", A),
        ("a | cat-toy", torch.cat([A, B])),
        ("a | cat-toy + a", torch.cat([A, A + B])),
        ('"my word"[0:2]', LONG[:2]),
        ('"my word"[1]', LONG[1:2]),
        ('"my word"[-1]', LONG[3:]),
        ('"my word"[-2:]', LONG[2:]),
        ('"my word"[:-1][1:]', LONG[1:3]),
        ("(a | cat-toy)[1:3]", torch.cat([A[1:], B[:1]])),
        ("[a (red:2) cat][1]", 2 * TABLE[[6]]),
        ("slerp(a, cat-toy, 0.4)", slerp("", WORDS["a"], WORDS["cat-toy"], 0.4).vectors["clip_l"]),
        ('keep("my word", 2)', keep_vectors("", WORDS["my word"], 2).vectors["clip_l"]),
        ("repeat(a, 3)", torch.cat([A, A[:1]])),
        ('pad(a, 4) + "my word"', torch.cat([A, torch.zeros(2, 4)]) + LONG),
        ("usual(5 * a)", A / A.norm(dim=1, keepdim=True) * TABLE.norm(dim=1).mean()),
        ("  v1.3\n+ a ", 2 * A),
    ],
)  # fmt: skip
def test_what_expressions_mean(expression: str, expected: Tensor | None) -> None:
    if expected is None:
        with pytest.raises(InputError, match="There is no “a-cat-toy”"):
            made(expression)
        return
    torch.testing.assert_close(made(expression), expected)


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("", "cannot be read at its end: a word, a number, a text"),
        ("a +", "cannot be read at its end: a word"),
        ("a cat-toy", r"cannot be read at “cat-toy”: an operator"),
        ("a + * a", r"cannot be read at “\* a”: a word"),
        ("(a", r"cannot be read at its end: a \)"),
        ("a[", "cannot be read at its end: a slice"),
        ("a[1:2", r"cannot be read at its end: a \]"),
        ("a[x]", r"cannot be read at “x\]”: a slice"),
        ("[", "cannot be read at its end: a text and its"),
        ("[]", "a text and its"),
        ("sin(a)", "There is no function “sin” in expressions: there are slerp, usual"),
        ("slerp(a, a)", "slerp takes 3 values, and 2 are given"),
        ("usual(a, a)", "usual takes 1 value, and 2 are given"),
        ("1 + 2", "gives the number 3: name a word"),
        ("a + 1", "“a” and 1 cannot be combined with \\+"),
        ("a * a", "“a” and “a” cannot be combined with \\*"),
        ("2 / a", "2 and “a” cannot be combined with /"),
        ("a / 0", "divides by zero"),
        ("a / (1 - 1)", "divides by zero"),
        ("1 / 0", "divides by zero"),
        ("slerp(a, 1, 1)", "slerp works on words, and 1 is a number"),
        ("slerp(a, a, a)", "slerp needs a number where “a” stands"),
        ("keep(a, 1.5)", "keep needs a number of vectors, from 1 to 1000, not 1.5"),
        ("keep(a, 1e999)", "keep needs a number of vectors, from 1 to 1000, not inf"),
        ("pad(a, 1e999 - 1e999)", "pad needs a number of vectors, from 1 to 1000, not nan"),
        ("1 | a", r"\| works on words"),
        ("nobody", "There is no “nobody”"),
        ("a - a", "Nothing is left"),
        ("a[5]", "has 2 vectors for clip_l, and none"),
        ("a + 'a'", "cannot be read at “'a'”"),
        ("__import__('os')", "There is no function “__import__”"),
        ("(" * 100 + "a", "too many nested brackets"),
        ("-" * 100 + "a", "too many nested brackets"),
        ("a" * 5000, "over 4000 characters"),
        ("a" + "[0:2]" * 200, "more than 100 operations"),
        ("1e999 * a", "not numbers"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_or_done_is_told(expression: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        made(expression)


@pytest.mark.parametrize("length", [0, 6, 7, 10, 13, 14, 16, 22, 25, 28, 31, 35, 39, 40, 41])
def test_any_beginning_of_an_expression_is_read_or_refused(length: int) -> None:
    whole = 'slerp(0.5 * a, "my word"[0:2], -1e-2) | [x]'
    with pytest.raises(InputError, match="cannot be read at") as refused:
        parse(whole[:length])
    assert str(refused.value).endswith("is needed there.")


def test_many_terms() -> None:
    torch.testing.assert_close(made(" + ".join(["a"] * 100)), 100 * A)
    with pytest.raises(InputError, match="more than 100 operations: make the word in several"):
        made("+".join(["a"] * 1500))


def test_texts_and_usual_lengths_need_a_model() -> None:
    for expression in ("[red]", "usual(a)"):
        with pytest.raises(InputError, match="needs a model: give --model, or connect a clip"):
            evaluate("new", expression, find)
    assert evaluate("new", "a + cat-toy", find, lambda: pytest.fail("not needed")).name == "new"


def test_notes_tell_how_and_of_what() -> None:
    result = evaluate("new", " a + cat-toy + a", find)
    assert words_in(parse("a + cat-toy + a")) == ["a", "cat-toy"]
    notes = json.loads(result.metadata["textual_inversion.made_from"])
    assert notes["words"] == {name: WORDS[name].fingerprint[:16] for name in ("a", "cat-toy")}
    assert expression_of(result.metadata) == "a + cat-toy + a"
    assert expression_of({}) is None
    assert expression_of({"textual_inversion.made_from": "[1]"}) is None


def test_every_function_has_words() -> None:
    for name, (count, help) in FUNCTIONS.items():
        assert help.startswith(f"{name}(a")
        assert help.split(")")[0].count(",") == count - 1
