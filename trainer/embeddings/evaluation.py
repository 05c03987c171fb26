"""Makes a word from an expression (see `expressions`) and the words that it names."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence

from ..errors import InputError
from ..model import TextEncoder
from .algebra import (
    concatenate,
    fill_vectors,
    keep_vectors,
    refuse_zero,
    slerp,
    take_vectors,
    weighted_sum,
    with_usual_length,
)
from .embedding import Embedding
from .expressions import Node, parse, words_in
from .provenance import named
from .text_vectors import from_text

Value = Embedding | float


def evaluate(
    name: str,
    expression: str,
    find: Callable[[str], Embedding],
    encoders: Callable[[], Sequence[TextEncoder]] = tuple,
) -> Embedding:
    """Make a word.

    Args:
        name: of the result.
        expression: see `expressions`.
        find: gives the word of a name; raises `InputError` where there is none.
        encoders: gives the model's text encoders, for texts and usual lengths; asked only where
            they are needed, and none if there is no model.

    Returns:
        the word, with notes that say which words it was made from and how.

    Raises:
        InputError: the expression cannot be read, or what it asks for cannot be done.
    """
    tree = parse(expression)
    words = {one: find(one) for one in words_in(tree)}
    known: list[Sequence[TextEncoder]] = []

    def loaded() -> Sequence[TextEncoder]:
        if not known:
            known.append(encoders())
        return known[0]

    made = _value(tree, words, loaded)
    if isinstance(made, float):
        raise InputError(f"The expression gives the number {made:g}: name a word in it.")
    refuse_zero(made)
    return named(name, made, list(words.values()), expression.strip())


def _value(
    node: Node, words: Mapping[str, Embedding], encoders: Callable[[], Sequence[TextEncoder]]
) -> Value:
    parts = [_value(part, words, encoders) for part in node.parts]
    match node.kind, node.value:
        case "number", float() as number:
            return number
        case "word", str() as name:
            return words[name]
        case "text", str() as text:
            return from_text(text[:40], _needed(encoders(), f"[{text[:40]}]"), text)
        case "slice", (start, stop):
            return take_vectors("slice", _word(parts[0], "a slice"), start, stop)
        case ("+" | "-" | "*" | "/") as sign, _:
            return _arithmetic(sign, *parts)
        case "|", _:
            return concatenate("join", [_word(part, "|") for part in parts])
        case "slerp", _:
            first, second = (_word(part, "slerp") for part in parts[:2])
            return slerp("slerp", first, second, _number(parts[2], "slerp"))
        case "usual", _:
            return with_usual_length(
                "usual", _word(parts[0], "usual"), _needed(encoders(), "usual")
            )
        case "keep", _:
            return keep_vectors("keep", _word(parts[0], "keep"), _count(parts[1], "keep"))
    repeat = node.kind == "repeat"
    count = _count(parts[1], node.kind)
    return fill_vectors(node.kind, _word(parts[0], node.kind), count, repeat=repeat)


_ON_NUMBERS: Mapping[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


def _arithmetic(sign: str, first: Value, second: Value) -> Value:
    if sign == "/" and not isinstance(second, Embedding) and second == 0:
        raise InputError("The expression divides by zero: use another number.")
    match first, second:
        case float(), float():
            return _ON_NUMBERS[sign](first, second)
        case Embedding(), Embedding() if sign in "+-":
            return _sum([first, second], [1, 1 if sign == "+" else -1])
        case (Embedding(), float()) if sign in "*/":
            return _sum([first], [second if sign == "*" else 1 / second])
        case (float(), Embedding()) if sign == "*":
            return _sum([second], [first])
    raise InputError(
        f"{_called(first)} and {_called(second)} cannot be combined with {sign}: words are added "
        "to words and multiplied by numbers."
    )


def _sum(words: Sequence[Embedding], weights: Sequence[float]) -> Embedding:
    # Zeros may come to something when more is added.
    return weighted_sum("sum", words, weights, zero_is_left=True)


def _called(value: Value) -> str:
    return f"“{value.name}”" if isinstance(value, Embedding) else f"{value:g}"


def _word(value: Value, place: str) -> Embedding:
    if isinstance(value, Embedding):
        return value
    raise InputError(f"{place} works on words, and {value:g} is a number.")


def _number(value: Value, place: str) -> float:
    if isinstance(value, Embedding):
        raise InputError(f"{place} needs a number where “{value.name}” stands.")
    return value


def _count(value: Value, place: str) -> int:
    number = _number(value, place)
    # In this order, as neither infinity nor NaN has a whole part.
    if not 1 <= number <= 1000 or number != int(number):
        raise InputError(f"{place} needs a number of vectors, from 1 to 1000, not {number:g}.")
    return int(number)


def _needed(encoders: Sequence[TextEncoder], place: str) -> Sequence[TextEncoder]:
    if not encoders:
        raise InputError(f"{place} needs a model: give --model, or connect a clip to the node.")
    return encoders
