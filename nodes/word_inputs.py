"""What the nodes that apply a word have in common: their inputs, and which word is meant."""

from __future__ import annotations

from collections.abc import Sequence

from comfy_api.latest import io

from ..trainer.embeddings.embedding import Embedding
from ..trainer.errors import InputError
from .host import library
from .inputs import EmbeddingSocket

CONNECTED = "the connected one"
"""What the list of files offers besides files."""

STRENGTH_HELP = (
    "How much of the word reaches the prompt: 1 is the word as it was learned, 0 an empty token, "
    "0.5 halfway between; above 1 exaggerates it. Unlike (word:1.2), this moves the vectors "
    "themselves before they are encoded."
)


CLIP_OUTPUT = io.Clip.Output(tooltip="The same text encoder, which now knows the word.")


def word_inputs(
    default_text: str, text_help: str, files: Sequence[str], files_help: str
) -> list[io.Input]:
    """The inputs of a node that applies a word.

    Args:
        default_text: of the prompt.
        text_help: its tooltip.
        files: of the embeddings folder, from which the word can be chosen.
        files_help: their tooltip, after what they are.
    """
    return [
        io.Clip.Input("clip", tooltip="The text encoder, from the checkpoint loader."),
        EmbeddingSocket.Input(
            "embedding",
            optional=True,
            tooltip="The word, from a node that trains or Load Embedding; or choose a file below.",
        ),
        io.String.Input("text", default=default_text, multiline=True, tooltip=text_help),
        io.Float.Input("strength", default=1.0, min=0.0, max=2.0, step=0.05, tooltip=STRENGTH_HELP),
        _percent(
            "start_percent",
            0.0,
            "The point in sampling where the word starts counting: 0 is the first step. Before it, "
            "the prompt is used without the word.",
        ),
        _percent(
            "end_percent",
            1.0,
            "The point in sampling where the word stops counting: 1 is the last step. After it, "
            "the prompt is used without the word.",
        ),
        io.Combo.Input(
            "file",
            options=[CONNECTED, *files],
            default=CONNECTED,
            optional=True,
            tooltip=f"A file in the embeddings folder, if no word is connected.{files_help} Press "
            "R to refresh the list.",
        ),
    ]


def _percent(name: str, default: float, tooltip: str) -> io.Input:
    """A share of the sampling; optional, so that graphs from before it came still run."""
    return io.Float.Input(
        name,
        default=default,
        min=0.0,
        max=1.0,
        step=0.01,
        optional=True,
        advanced=True,
        tooltip=tooltip,
    )


def fingerprint(file: str | None) -> str:
    """Of the chosen file, so that one that changed under the same name is noticed."""
    return "" if file == CONNECTED else library.fingerprint(file)


def chosen(connected: Embedding | None, file: str) -> Embedding:
    """The word that is connected, or that of the file.

    Raises:
        InputError: there is none, or two.
    """
    if connected is None:
        if file == CONNECTED:
            raise InputError("There is no word: connect an embedding, or choose a file.")
        return library.read(file)
    if file != CONNECTED:
        raise InputError(
            f"There are two words, “{connected.name}” and the file “{file}”: disconnect the "
            f"embedding, or set file to “{CONNECTED}”. To use both, chain two of these nodes."
        )
    return connected
