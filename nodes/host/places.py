"""Where a word stands in the host's prompts.

The host's tokenizers ask `comfy.sd1_clip.load_embed` for the vectors behind
`embedding:name`. While `resolving` is open they ask us first: for a word held in
memory, or for the places that training keeps for vectors that still change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import comfy.sd1_clip
import torch
from torch import Tensor

from ...trainer.prompts import PLACEHOLDER

WORD = "textual-inversion-word"
"""What a word is called while we tokenise, whatever characters its own name has."""
IN_PROMPTS = f"embedding:{WORD}"
"""How the host's prompts say it."""


Lookup = Callable[[str, str], Any]
"""(name of the embedding, key of the encoder) -> its rows, or None to look for a file."""


class TokenVector(Tensor):
    """A vector [width] in the place of a token, which is no number.

    The host compares tokens with numbers where templates begin and end (Qwen-Image, Hunyuan
    Video); a tensor could not answer that with yes or no. What is computed from it is a tensor
    like any other.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]
    __hash__ = Tensor.__hash__

    def __eq__(self, other: Any) -> Any:
        return False if isinstance(other, int) else super().__eq__(other)

    def __ne__(self, other: Any) -> Any:
        return True if isinstance(other, int) else super().__ne__(other)


class Placeholders:
    """Stands in for an embedding's tensor while the host tokenises: any objects, in order."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self._rows = rows
        self.shape = (len(rows), 0)

    def __getitem__(self, index: int) -> Any:
        return self._rows[index]


@contextmanager
def resolving(tokenizer: Any, lookup: Lookup) -> Iterator[None]:
    """Let the host's tokenizers ask `lookup` before they look for an embedding file."""
    original = comfy.sd1_clip.load_embed

    def load_embed(name: str, directory: Any, size: int, key: str | None = None) -> Any:
        found = lookup(name, key or "")
        return original(name, directory, size, key) if found is None else found

    with ExitStack() as stack:
        comfy.sd1_clip.load_embed = load_embed
        stack.callback(setattr, comfy.sd1_clip, "load_embed", original)
        for inner in inner_tokenizers(tokenizer).values():
            # One without embedding folders would not even ask.
            if inner.embedding_directory is None:
                inner.embedding_directory = []
                stack.callback(setattr, inner, "embedding_directory", None)
            stack.callback(setattr, inner, "tokenizer", inner.tokenizer)
            inner.tokenizer = _Asking(inner.tokenizer, inner.embedding_key, lookup)
        yield


class _Asking:
    """A tokenizer that finds words by itself.

    What the host asks for never comes here. Some of its tokenizers (LongCat's) give whole prompts
    to this one and ask for nothing.
    """

    _WORD = re.compile(r"(?<!\S)embedding:(\S+) ?")

    def __init__(self, tokenizer: Any, key: str, lookup: Lookup) -> None:
        self._tokenizer, self._key, self._lookup = tokenizer, key, lookup

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, text: str, *args: Any, **kwargs: Any) -> Any:
        """The ids of a text, with rows among them where it names a word that is found."""
        tokenized = self._tokenizer(text, *args, **kwargs)
        ids: list[Any] = []
        end = 0
        for word in self._WORD.finditer(text):
            rows = self._lookup(word[1], self._key)
            if rows is None:
                continue
            before = text[end : word.start()]
            ids += self._tokenizer(before, *args, **kwargs)["input_ids"] if before else []
            ids += [rows[i] for i in range(rows.shape[0])]
            end = word.end()
        if not end:
            return tokenized
        after = text[end:]
        ids += self._tokenizer(after, *args, **kwargs)["input_ids"] if after else []
        return {"input_ids": ids}


def as_host_prompt(prompt: str, tokenizer: Any) -> str:
    """Write the placeholder in the host's notation, under the name `WORD`.

    The host reads `embedding:` only after white space, and takes all up to the next white
    space for the name: at both ends of a prompt too, where templates of language models go on.
    No space is added where there is one, or where the word is found without: some tokenizers
    count them.

    Args:
        prompt: with the placeholder.
        tokenizer: the host's, of the CLIP that the prompt is for.
    """
    word = re.escape(PLACEHOLDER)
    spaced = re.sub(rf"(?<=\S){word}", f" {PLACEHOLDER}", prompt)
    spaced = re.sub(rf"{word}(?!\s)", f"{PLACEHOLDER} ", spaced)
    if spaced.startswith(PLACEHOLDER):
        found, all_of_them = (asking(tokenizer, f"{s}{IN_PROMPTS} ") for s in ("", " "))
        spaced = spaced if found == all_of_them else f" {spaced}"
    return spaced.replace(PLACEHOLDER, IN_PROMPTS)


def asking(tokenizer: Any, text: str) -> set[str]:
    """Keys of the encoders whose tokenizers look for the word that stands in this text."""
    keys: set[str] = set()

    def look_up(name: str, key: str) -> Placeholders | None:
        if name == WORD:
            keys.add(key)
        return Placeholders([]) if name == WORD else None

    with resolving(tokenizer, look_up):
        tokenizer.tokenize_with_weights(text)
    return keys


def inner_tokenizers(tokenizer: Any) -> dict[str, Any]:
    """The tokenizers of single encoders in a CLIP's, by their names there."""
    return {n: t for n, t in vars(tokenizer).items() if hasattr(t, "embedding_key")}
