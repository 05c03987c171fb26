"""A small language for making words of words: `0.7 * cat-toy + 0.3 * [a red cat]`.

    sum      a + b, a - b, -a, 0.7 * a, a / 2     row by row, words of equally many vectors
    join     a | b                                all vectors of a, then those of b
    slice    a[0:2], a[3], a[-2:]                 as Python counts: from 0, the end left out
    text     [a red cat], [a (red:1.2) cat]       the vectors of a text's tokens
    call     slerp(a, b, 0.4)                     see `FUNCTIONS`

A word is called by its name, or by its name in quotes where that has other signs than letters,
digits, `_`, `-` and `.`. So a minus needs a space after it where it follows a name. Of operators,
`|` binds least, then `+` and `-`, then `*` and `/`, then slices; brackets as usual.

Nothing here is ever evaluated by Python: an expression becomes a tree of `Node`s, and these can
only be numbers, words, texts and the operations above.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..errors import InputError

LONGEST, MOST, DEEPEST = 4000, 100, 40
"""How many signs, operations and nested brackets an expression may have."""


@dataclass(frozen=True)
class Node:
    """A part of an expression.

    Attributes:
        kind: `number`, `word`, `text`, an operator (`+`, `-`, `*`, `/`, `|`, `slice`) or the name
            of a function.
        value: the number, the name of the word or the text; of a slice its bounds.
        parts: what an operation works on.
    """

    kind: str
    value: float | str | tuple[int | None, int | None] = ""
    parts: tuple[Node, ...] = ()


FUNCTIONS: Mapping[str, tuple[int, str]] = {
    "slerp": (3, "slerp(a, b, 0.4): turns a towards b along an arc, by this share of the way"),
    "usual": (1, "usual(a): each vector as long as words of the model's vocabulary are"),
    "keep": (2, "keep(a, 2): reduces a to this many vectors, by principal components"),
    "repeat": (2, "repeat(a, 4): brings a to this many vectors by repeating it"),
    "pad": (2, "pad(a, 4): brings a to this many vectors with zeros, to add it to a longer word"),
}
"""Name of a function -> how many values it takes, and what it does."""

_NAME = re.compile(r"[^\W\d][\w.-]*")
_NUMBER = re.compile(r"(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?(?![\w.])")
_INTEGER = re.compile(r"-?\d{1,6}")
_QUOTED = re.compile(r'"([^"]*)"')


def parse(text: str) -> Node:
    """Read an expression.

    Raises:
        InputError: it cannot be read; the sentence says where, and what may stand there.
    """
    if len(text) > LONGEST:
        raise InputError(
            f"The expression has over {LONGEST} characters: make the word in several steps."
        )
    return _Parser(text).whole()


def words_in(node: Node) -> list[str]:
    """The names of all words in an expression, each once, in their order."""
    own = [str(node.value)] if node.kind == "word" else []
    return list(dict.fromkeys([*own, *(name for part in node.parts for name in words_in(part))]))


class _Parser:
    """Recursive descent; each method reads what it is called after, from `_place` on."""

    def __init__(self, text: str) -> None:
        self._text, self._place = text, 0
        self._depth, self._operations = 0, 0

    def whole(self) -> Node:
        node = self._join()
        if self._rest():
            raise self._error("an operator (+ - * / |), a slice such as [0:2], or the end")
        return node

    def _join(self) -> Node:
        return self._left("|", self._sum)

    def _sum(self) -> Node:
        return self._left("+-", self._product)

    def _product(self) -> Node:
        return self._left("*/", self._signed)

    def _left(self, operators: str, inner: Callable[[], Node]) -> Node:
        node = inner()
        while (sign := self._rest()[:1]) and sign in operators:
            self._place += 1
            self._count()
            node = Node(sign, parts=(node, inner()))
        return node

    def _signed(self) -> Node:
        if self._takes("-"):
            self._deeper()
            inner = self._signed()
            self._depth -= 1
            return Node("*", parts=(Node("number", -1.0), inner))
        node = self._atom()
        while self._takes("["):
            self._count()
            node = Node("slice", self._bounds(), (node,))
        return node

    def _atom(self) -> Node:
        self._deeper()
        rest = self._rest()
        if self._takes("("):
            node = self._join()
            self._expect(")")
        elif self._takes("["):
            node = Node("text", self._bracketed())
        elif found := _NUMBER.match(rest):
            self._place += found.end()
            node = Node("number", float(found[0]))
        elif found := _QUOTED.match(rest):
            self._place += found.end()
            node = Node("word", found[1])
        elif found := _NAME.match(rest):
            self._place += found.end()
            node = self._called(found[0]) if self._takes("(") else Node("word", found[0])
        else:
            raise self._error("a word, a number, a text in [ ] or a bracket")
        self._depth -= 1
        return node

    def _called(self, name: str) -> Node:
        if name not in FUNCTIONS:
            raise InputError(
                f"There is no function “{name}” in expressions: there are {', '.join(FUNCTIONS)}. "
                "A word before a bracket needs an operator between them."
            )
        parts = [self._join()]
        while self._takes(","):
            parts.append(self._join())
        self._expect(")")
        count, help = FUNCTIONS[name]
        if len(parts) != count:
            raise InputError(
                f"{name} takes {count} value{'s' if count > 1 else ''}, and {len(parts)} "
                f"{'are' if len(parts) > 1 else 'is'} given: {help}."
            )
        return Node(name, parts=tuple(parts))

    def _bounds(self) -> tuple[int | None, int | None]:
        first = self._integer()
        if self._takes(":"):
            bounds = first, self._integer()
        elif first is None:
            raise self._error("a slice, such as 0:2")
        else:
            bounds = first, first + 1 or None  # from -1 on to the end
        self._expect("]")
        return bounds

    def _integer(self) -> int | None:
        found = _INTEGER.match(self._rest())
        if not found:
            return None
        self._place += found.end()
        return int(found[0])

    def _bracketed(self) -> str:
        end = self._text.find("]", self._place)
        text = self._text[self._place : end].strip()
        if end < 0 or not text:
            raise self._error("a text and its ]")
        self._place = end + 1
        return text

    def _count(self) -> None:
        self._operations += 1
        if self._operations > MOST:
            raise InputError(
                f"The expression has more than {MOST} operations: make the word in several steps."
            )

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise InputError("The expression has too many nested brackets: use fewer.")

    def _rest(self) -> str:
        while self._text[self._place : self._place + 1].isspace():
            self._place += 1
        return self._text[self._place :]

    def _takes(self, sign: str) -> bool:
        if not self._rest().startswith(sign):
            return False
        self._place += 1
        return True

    def _expect(self, sign: str) -> None:
        if not self._takes(sign):
            raise self._error(f"a {sign}")

    def _error(self, expected: str) -> InputError:
        rest = self._rest()
        found = f"“{rest[:20]}”" if rest else "its end"
        return InputError(
            f"The expression “{self._text.strip()[:60]}” cannot be read at {found}: {expected} is "
            "needed there."
        )
