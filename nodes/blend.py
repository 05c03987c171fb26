"""The node that makes words of other words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

from comfy_api.latest import io, ui

from ..trainer.embeddings.algebra import (
    concatenate,
    fill_vectors,
    keep_vectors,
    pick_vectors,
    slerp,
    weighted_sum,
    with_usual_length,
)
from ..trainer.embeddings.embedding import Embedding
from ..trainer.embeddings.evaluation import evaluate
from ..trainer.embeddings.expressions import parse
from ..trainer.embeddings.names import new_name
from ..trainer.errors import InputError
from ..trainer.model import TextEncoder
from .drawing import PROMPT, drawing_inputs, drawn
from .host.text_encoders import text_encoders
from .inputs import CATEGORY, EmbeddingSocket, found_as, name_problem

MODES = {
    "weighted sum": "a straight line from the first word (amount 0) to the others' mean (1)",
    "slerp": "the same along an arc, which keeps the vectors' lengths (two words only)",
    "add": "the first plus amount times each other",
    "subtract": "the first minus amount times each other",
    "concatenate": "all vectors one after the other (amount has no effect)",
}
"""How words can be blended -> what that means."""

FILLINGS = ["its own vectors", "zeros"]
"""With what a blend is brought to more vectors."""

EMBEDDINGS_HELP = "Words for the same family of models."


class BlendEmbeddings(io.ComfyNode):
    """EMBEDDINGs -> a new one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host."""
        return io.Schema(
            node_id="TextualInversionBlend",
            display_name="Blend Embeddings",
            category=CATEGORY,
            **found_as(
                "mix embeddings",
                "merge embeddings",
                "combine embeddings",
                "average",
                "slerp",
                "TI merge",
            ),
            description="Makes a new word from one or more others: mixes them, joins them, or "
            "reduces them to fewer vectors.",
            inputs=[
                io.Autogrow.Input(
                    "embeddings",
                    io.Autogrow.TemplatePrefix(
                        EmbeddingSocket.Input("embedding", tooltip=EMBEDDINGS_HELP),
                        prefix="embedding",
                        min=1,
                        max=20,
                    ),
                    tooltip=EMBEDDINGS_HELP,
                ),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default="weighted sum",
                    tooltip="; ".join(f"{mode}: {what}" for mode, what in MODES.items()) + ".",
                ),
                io.Float.Input(
                    "amount",
                    default=0.5,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="How much of the other words goes into the first.",
                ),
                io.Int.Input(
                    "keep_vectors",
                    default=0,
                    min=0,
                    max=75,
                    tooltip="Reduce the result to this many vectors: those that span its principal "
                    "components best. 0 keeps all.",
                ),
                io.String.Input("name", default="blend", tooltip="The new word."),
                io.String.Input(
                    "expression",
                    default="",
                    optional=True,
                    tooltip="In place of mode and amount: a formula such as 0.7 * a + 0.3 * [a red "
                    "cat], a[0:2] or slerp(a, b, 0.4). a, b, c, … are the words in the "
                    "order of their sockets; their own names work too. [text] needs clip. See the "
                    "help of this node.",
                ),
                io.String.Input(
                    "vectors",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Which vectors of the result to keep, such as 2-4 or 1, 3. Empty keeps "
                    "all.",
                ),
                io.Float.Input(
                    "scale",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    optional=True,
                    advanced=True,
                    tooltip="What to multiply the lengths of the vectors by. 0 makes each as long "
                    "as a usual word of the text encoder, which needs clip.",
                ),
                io.Int.Input(
                    "fill_to",
                    default=0,
                    min=0,
                    max=75,
                    optional=True,
                    advanced=True,
                    tooltip="Bring the result to this many vectors. 0 leaves it as it is.",
                ),
                io.Combo.Input(
                    "fill_with",
                    options=FILLINGS,
                    default=FILLINGS[0],
                    optional=True,
                    advanced=True,
                    tooltip="What to fill it with: its own vectors from the first on, or zeros.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="The text encoder for [text], usual lengths and drawing; not needed "
                    "otherwise.",
                ),
                *drawing_inputs(),
            ],
            outputs=[EmbeddingSocket.Output(display_name="embedding", tooltip="The new word.")],
        )

    @classmethod
    def validate_inputs(
        cls, name: str | None = None, embeddings: Any = None, expression: str | None = None
    ) -> bool | str:
        """Refuse what cannot be used as soon as the graph is queued."""
        return name_problem(name) if not expression else _problem(name, expression)

    @classmethod
    def execute(
        cls,
        embeddings: dict[str, Embedding],
        mode: str,
        amount: float,
        keep_vectors: int,
        name: str,
        expression: str = "",
        vectors: str = "",
        scale: float = 1.0,
        fill_to: int = 0,
        fill_with: str = FILLINGS[0],
        clip: Any = None,
        model: Any = None,
        vae: Any = None,
        prompt: str = PROMPT,
        resolution: int = 512,
        seed: int = 0,
    ) -> io.NodeOutput:
        """Blend the words, and draw with the result."""
        words = [word for word in embeddings.values() if word is not None]
        encoders = [encoder.described() for encoder in text_encoders(clip)] if clip else []
        changes = Changes(vectors, keep_vectors, scale, fill_to, fill_with)
        name = new_name(name)
        if expression.strip():
            made = evaluate(name, expression, _finder(words), lambda: encoders)
        else:
            made = blend(name, words, mode, amount, alone=changes != Changes())
        word = changes.made(name, made, encoders)
        word, picture = drawn(word, model, clip, vae, prompt, resolution, seed)
        shown = None if picture is None else ui.PreviewImage(picture, cls=cls)
        return io.NodeOutput(word, ui=shown)


@dataclass(frozen=True)
class Changes:
    """What is done to a blend afterwards, in this order; nothing by default.

    Attributes:
        vectors: numbers of those to keep, empty for all.
        keep: how many principal vectors to keep, 0 for all.
        scale: factor of lengths, 0 for the usual length.
        fill_to: number of vectors, 0 to leave it.
        fill_with: one of `FILLINGS`.
    """

    vectors: str = ""
    keep: int = 0
    scale: float = 1.0
    fill_to: int = 0
    fill_with: str = FILLINGS[0]

    def made(self, name: str, word: Embedding, encoders: Sequence[TextEncoder]) -> Embedding:
        """The word with these changes.

        Raises:
            InputError: one of them cannot be made.
        """
        if self.vectors.strip():
            word = pick_vectors(name, word, self.vectors)
        if self.keep:
            word = keep_vectors(name, word, self.keep)
        if not self.scale and not encoders:
            raise InputError("scale 0 needs a text encoder: connect clip, or choose a factor.")
        if not self.scale:
            word = with_usual_length(name, word, encoders)
        elif self.scale != 1:
            word = weighted_sum(name, [word], [self.scale])
        if self.fill_to:
            word = fill_vectors(name, word, self.fill_to, repeat=self.fill_with == FILLINGS[0])
        return word


def blend(
    name: str, words: list[Embedding], mode: str, amount: float, *, alone: bool = False
) -> Embedding:
    """Blend words in one of `MODES`; one word `alone` stays as it is.

    Raises:
        InputError: too few or too many words, or words that do not go together.
    """
    first, others = words[0], words[1:]
    if not others:
        if not alone:
            raise InputError(
                "Only one embedding is connected: connect another, or set keep_vectors to reduce "
                "it to fewer vectors."
            )
        return first
    if mode == "weighted sum":
        share = amount / len(others)
        return weighted_sum(name, words, [1 - amount, *[share] * len(others)])
    if mode == "slerp":
        if len(others) > 1:
            raise InputError("slerp blends exactly two words: chain two of these nodes.")
        return slerp(name, first, others[0], amount)
    if mode in ("add", "subtract"):
        weight = amount if mode == "add" else -amount
        return weighted_sum(name, words, [1, *[weight] * len(others)])
    return concatenate(name, words)


def _finder(words: Sequence[Embedding]) -> Callable[[str], Embedding]:
    """Finds words by their names, else by letters in their order."""
    known = dict(zip(ascii_lowercase, words, strict=False))
    known |= {word.name: word for word in words}

    def find(name: str) -> Embedding:
        if name not in known:
            raise InputError(
                f"The expression names “{name}”, which is not connected: there are "
                f"{', '.join(known)}."
            )
        return known[name]

    return find


def _problem(name: str | None, expression: str) -> bool | str:
    """True, or why a name or an expression cannot be used."""
    try:
        parse(expression)
    except InputError as error:
        return str(error)
    return name_problem(name)
