"""Reading and writing embeddings in the formats that people share.

Nothing in a file is ever run, and no file can ask for much more memory than its own size. See
`layouts` for the tools whose files are understood, `writing` for the formats that are written.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..embeddings.embedding import Embedding, check_name
from ..errors import InputError
from .layouts import Content, Labelled, Words, by_encoder, find_words
from .picture_files import read_picture
from .refused import DAMAGED, Refused
from .safetensors_files import MAX_HEADER, read_safetensors
from .torch_files import read_torch_file


def read_embedding(path: Path, name: str | None = None) -> Embedding:
    """Read an embedding from any of the known formats.

    Args:
        path: a .safetensors, .pt, .bin, .ckpt, .pti, .png or .webp file.
        name: which word, where a file holds several (a LoRA with words); else the name that
            the embedding gets instead of the file's.

    Returns:
        the embedding with float32 vectors. Where diffusers wrote one file for each encoder of
        SDXL (`x` and `x_2`), the vectors of both.

    Raises:
        InputError: there is no such file, or nothing in it can be used; the sentence says
            what it is instead, and what to do.
    """
    with _refusals_of(path):
        words, metadata = _read_words(path)
        word = _choose(words, name)
        other_half = _other_half(path, word, words[word])
        vectors = by_encoder([*words[word], *other_half])
    ((base, _, steps),) = _HALF.findall(path.stem)
    stem = f"{base}{steps}" if other_half else path.stem
    in_file = (
        _plain(word) if len(words) > 1 or base == _GENERIC_STEM else _in_picture(path, metadata)
    )
    return Embedding(_plain(name or "") or in_file or stem, vectors, metadata)


def read_words(path: Path) -> list[str]:
    """The words in a file, each a `name` for `read_embedding`; one for most files.

    Raises:
        InputError: as `read_embedding`, except for what only the values tell.
    """
    with _refusals_of(path):
        return [_plain(word) or path.stem for word in _read_words(path)[0]]


def read_embeddings(path: Path) -> list[Embedding]:
    """All words of a file, which is read once; one for most files.

    Raises:
        InputError: as `read_embedding`.
    """
    with _refusals_of(path):
        words, metadata = _read_words(path)
        if len(words) > 1:
            return [
                Embedding(
                    _plain(word) or path.stem,
                    by_encoder([*labelled, *_other_half(path, word, labelled)]),
                    metadata,
                )
                for word, labelled in words.items()
            ]
    return [read_embedding(path)]


def other_half_of(path: Path) -> Path:
    """Where diffusers saves the same word for the other encoder of SDXL."""
    ((base, second, steps),) = _HALF.findall(path.stem)
    return path.with_stem(f"{base}{'' if second else '_2'}{steps}")


def is_joined(path: Path, token: str, word: Embedding) -> bool:
    """Whether a file that held this word alone would be read with the one that lies beside it.

    Args:
        path: of the file; it need not exist.
        token: by which it would name the word.
        word: what it would hold.

    Raises:
        InputError: the one beside it cannot be read.
    """
    return bool(_other_half(path, token, [*word.vectors.items()]))


def suffix_of(content: bytes) -> str:
    """The suffix that a file of this content should have, from its first bytes."""
    if content.startswith(b"PK"):
        return ".pt"
    if content.startswith(b"\x89PNG"):
        return ".png"
    if content.startswith(b"RIFF"):
        return ".webp"
    return ".safetensors" if content[8:9] == b"{" else ".pt"


def read_notes(path: Path) -> dict[str, str]:
    """The text in a safetensors file's header; nothing else of it is read.

    Returns:
        {} for files of other formats, and for those that cannot be read.
    """
    if path.suffix.lower() not in _SAFETENSORS:
        return {}
    # Whoever reads the embedding is told what is wrong with it.
    with contextlib.suppress(Exception), path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size <= MAX_HEADER:
            notes = json.loads(file.read(size)).get("__metadata__", {})
            return {key: value for key, value in notes.items() if isinstance(value, str)}
    return {}


_SAFETENSORS = frozenset({".safetensors", ".pti"})
_TORCH = frozenset({".pt", ".bin", ".ckpt"})
PICTURE_SUFFIXES = frozenset({".png", ".webp"})
READABLE_SUFFIXES = _SAFETENSORS | _TORCH | PICTURE_SUFFIXES
"""The suffixes of files that `read_embedding` tries, in lower case."""

_GENERIC_STEM = "learned_embeds"
"""The name that diffusers gives to every file; the word inside tells more."""

_HALF = re.compile(r"\A(.*?)(_2)?(-steps-[0-9]+)?\Z", re.DOTALL)
"""How diffusers names files: `_2` for SDXL's second encoder; the steps, if there were more."""

_MEGABYTE = 1024 * 1024
_MAX_TORCH = 17 * _MEGABYTE
_MAX_PICTURE = 16 * _MEGABYTE
_OTHER_SUFFIXES: Mapping[str, str] = {
    ".optim": "is the state of an optimizer: choose the file of the same name without “.optim”.",
    ".gguf": "is a model, not an embedding: load it with a checkpoint loader.",
    ".jxl": "is a JPEG XL picture, which cannot be read here: convert it to PNG without loss.",
    ".avif": "is an AVIF picture, which cannot be read here: convert it to PNG without loss.",
    ".jpg": "is a JPEG picture, which cannot carry an embedding: find its PNG.",
    ".jpeg": "is a JPEG picture, which cannot carry an embedding: find its PNG.",
}


def only_shows_a_word(path: Path) -> bool:
    """Whether a picture is what was drawn with a word, or of its vectors, by its name."""
    return Path(path.stem).suffix.lower() in (".preview", ".vectors")


@contextmanager
def _refusals_of(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with a file into a sentence that names it."""
    try:
        yield
    except InputError:
        raise
    except Refused as reason:
        raise InputError(f"“{path.name}” {reason}") from None
    except OSError as error:
        # Pillow's complaints about content are of this type too, without a number.
        cause = DAMAGED if error.errno is None else f"cannot be read: {error.strerror}."
        raise InputError(f"“{path.name}” {cause}") from error
    except Exception as error:
        # Parsers meet hostile bytes here, and each complains in many types of its own.
        raise InputError(f"“{path.name}” {DAMAGED}") from error


def _read_words(path: Path) -> tuple[Words, dict[str, str]]:
    if path.is_dir():
        raise Refused("is a folder: choose a file in it.")
    if not path.is_file():
        raise Refused("does not exist: choose another file.")
    content = _read_content(path)
    return find_words(content), _metadata(content)


def _read_content(path: Path) -> Content:
    suffix = path.suffix.lower()
    if suffix in _SAFETENSORS:
        return Content(*read_safetensors(path))
    if suffix in _TORCH:
        return Content(read_torch_file(_read_bytes(path, _MAX_TORCH)))
    if suffix in PICTURE_SUFFIXES:
        if only_shows_a_word(path):
            raise Refused("is a preview picture: choose the file that it belongs to.")
        return Content(read_picture(_read_bytes(path, _MAX_PICTURE)))
    known = ", ".join(sorted(READABLE_SUFFIXES))
    raise Refused(_OTHER_SUFFIXES.get(suffix, f"is not an embedding file: choose one of {known}."))


def _read_bytes(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise Refused(
            f"has more than {limit // _MEGABYTE} MB, so it is no embedding: it may be a model."
        )
    return content


def _metadata(content: Content) -> dict[str, str]:
    """The text of a safetensors file, or what AUTOMATIC1111 notes in its dictionary."""
    tree = content.tree if isinstance(content.tree, dict) else {}
    noted = {key: tree.get(key) for key in ("name", "step", "sd_checkpoint", "sd_checkpoint_name")}
    return {
        **{key: str(value) for key, value in noted.items() if isinstance(value, (str, int))},
        **content.metadata,
    }


def _choose(words: Words, name: str | None) -> str:
    if len(words) == 1:
        return next(iter(words))
    for word in words:
        if name is not None and _plain(name) == _plain(word):
            return word
    shown = (re.sub(r"\s+", " ", _plain(word))[:30] for word in sorted(words)[:6])
    choices = ", ".join(f"“{word}”" for word in shown)
    more = ", …" if len(words) > 6 else ""
    raise Refused(f"holds {len(words)} words: choose one of {choices}{more} by name.")


def _in_picture(path: Path, metadata: Mapping[str, str]) -> str:
    """The word that a picture carries: A1111 takes it, however the file was renamed."""
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        return ""
    with contextlib.suppress(InputError):
        return check_name(metadata.get("name", ""))
    return ""


def _plain(word: str) -> str:
    return word.strip("<>")


def _other_half(path: Path, word: str, labelled: Labelled) -> Labelled:
    other = other_half_of(path)
    if not word.strip("*") or not other.is_file():
        return []
    with _refusals_of(other):
        found = _read_words(other)[0].get(word, [])
    pair = sorted(tensor.shape[-1] for _, tensor in (*labelled, *found))
    return found if pair == [768, 1280] and len(found) == 1 else []
