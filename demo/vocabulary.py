"""The tiny model's own vocabulary, in the file formats of CLIP's tokenizer.

Byte pair merges are learned on the list of words that captions use until each is one
token; anything else falls apart into smaller pieces down to single bytes, as it does
in the large model.
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

from .captions import words

START = "<|startoftext|>"
END = "<|endoftext|>"
LENGTH = 77


def byte_symbols() -> list[str]:
    """The printable stand-ins that CLIP's tokenizer uses for the 256 bytes, in its order."""
    kept = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [byte for byte in range(256) if byte not in kept]
    return [chr(byte) for byte in kept] + [chr(256 + n) for n in range(len(others))]


def learn_merges(text: list[str]) -> list[tuple[str, str]]:
    """Byte pair merges, most frequent pair first, until every word is a single token."""
    split = [[*word[:-1], word[-1] + "</w>"] for word in sorted(set(text))]
    merges: list[tuple[str, str]] = []
    while any(len(pieces) > 1 for pieces in split):
        pairs = Counter(pair for pieces in split for pair in pairwise(pieces))
        # The name breaks ties, so that the result does not hang on any order.
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for pieces in split:
            at = 0
            while at < len(pieces) - 1:
                if (pieces[at], pieces[at + 1]) == best:
                    pieces[at : at + 2] = ["".join(best)]
                at += 1
    return merges


def write_vocabulary(folder: Path) -> None:
    """Write vocab.json, merges.txt and the two small configuration files."""
    symbols = byte_symbols()
    merges = learn_merges(words())
    tokens = [*symbols, *(symbol + "</w>" for symbol in symbols)]
    tokens += ["".join(pair) for pair in merges] + [START, END]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    specials = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    (folder / "special_tokens_map.json").write_text(json.dumps(specials, indent=1), "utf-8")
    config = {
        **specials,
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": LENGTH,
        "do_lower_case": True,
        "add_prefix_space": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1), "utf-8")
