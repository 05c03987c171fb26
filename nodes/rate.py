"""The nodes that keep pictures to be rated, and bring them back once they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..trainer.data.pairs import refuse_one_sided
from ..trainer.data.pictures import Picture, flatten, in_floats
from ..trainer.errors import InputError
from ..trainer.runs.ratings import DISLIKED, LIKED
from .host.execution import blocked
from .host.fingerprint import fingerprint_of
from .inputs import CATEGORY, found_as, one_each
from .page.ratings import names_of_ratings, ratings_of, state_of
from .training_inputs import name_allowed
from .word_inputs import CONNECTED

NO_PROMPT = (
    "prompt is empty: give the prompt that the pictures were drawn with, as pictures of the same "
    "prompt are compared."
)


class RatePictures(io.ComfyNode):
    """Pictures and their prompt -> a folder of ratings, which is filled on the page."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host."""
        return io.Schema(
            node_id="TextualInversionRate",
            display_name="Rate Pictures",
            category=CATEGORY,
            **found_as("like pictures", "dislike", "thumbs up", "preferences", "taste"),
            description="Keeps pictures and their prompt, and shows them for you to like, dislike "
            "or skip, now or later. A word for your taste is learned from them in Train from "
            "Ratings.",
            is_input_list=True,
            is_output_node=True,
            inputs=[
                io.Image.Input(
                    "images",
                    tooltip="Pictures drawn by the model that is to learn your taste. Several of "
                    "the same prompt are compared with each other.",
                ),
                io.String.Input(
                    "prompt",
                    default="",
                    multiline=True,
                    tooltip="The prompt that they were drawn with: one for all, or a list of one "
                    "for each batch or each picture.",
                ),
                io.String.Input(
                    "name",
                    default="my-taste",
                    tooltip="What to keep the ratings under. Every run adds its pictures to those "
                    "of the same name. No white space, commas or brackets.",
                ),
                io.Int.Input(
                    "seed",
                    optional=True,
                    force_input=True,
                    tooltip="The seed that they were drawn with, to be kept with them.",
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="The model that drew them, to keep with them which it was.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="name", tooltip="The name, for Load Ratings."),
            ],
        )

    @classmethod
    def validate_inputs(
        cls, name: list[str] | None = None, prompt: list[str | None] | None = None
    ) -> bool | str:
        """Refuse what cannot be used as soon as the graph is queued, not once pictures are drawn.

        What comes through a link is not known yet.
        """
        said = prompt[0] if prompt else None
        return name_allowed(name) if said is None or said.strip() else NO_PROMPT

    @classmethod
    def execute(
        cls,
        images: list[Tensor],
        prompt: list[str],
        name: list[str],
        seed: list[int] | None = None,
        model: list[Any] | None = None,
    ) -> io.NodeOutput:
        """Keep the pictures that are not there yet; those that are keep their ratings."""
        folder = ratings_of(name[0])
        prompts = _each(images, "prompts", prompt)
        if not all(text.strip() for text in prompts):
            raise InputError(NO_PROMPT)
        seeds = _each(images, "seeds", seed or [None])
        drawn_by = fingerprint_of(model[0]) if model else ""
        frames = [frame for batch in images for frame in batch]
        for frame, text, number in zip(frames, prompts, seeds, strict=True):
            pixels = flatten(Picture(frame, source="a picture"), "flatten").pixels
            folder.add(pixels, text, number, drawn_by)
        kept = folder.path.name
        return io.NodeOutput(kept, ui={"textual_inversion_ratings": [kept]})


def _each(images: Sequence[Tensor], what: str, values: Sequence[Any]) -> list[Any]:
    """One value for each picture, of one for all, or for each batch, or for each picture.

    Raises:
        InputError: another number of values.
    """
    count = sum(map(len, images))
    if len(values) == len(images) != count:
        values = [value for value, batch in zip(values, images, strict=True) for _ in batch]
    return one_each(what, values, count)


class LoadRatings(io.ComfyNode):
    """The name of a folder of ratings -> pictures that are liked and disliked, with prompts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host; the list of names is made anew each time."""
        return io.Schema(
            node_id="TextualInversionLoadRatings",
            display_name="Load Ratings",
            category=CATEGORY,
            **found_as("liked pictures", "disliked pictures", "preferences", "taste"),
            description="Outputs the pictures that you liked and disliked in Rate Pictures, with "
            "the prompts that they were drawn with. Skipped ones and those that wait stay away.",
            inputs=[
                io.Combo.Input(
                    "name",
                    options=[CONNECTED, *names_of_ratings()],
                    default=CONNECTED,
                    tooltip="The name in Rate Pictures, if it is not connected. Press R to refresh "
                    "the list.",
                ),
                io.String.Input(
                    "ratings",
                    optional=True,
                    force_input=True,
                    tooltip="The name from Rate Pictures; or choose one below.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="liked",
                    is_output_list=True,
                    tooltip="The pictures that you liked, as a list.",
                ),
                io.Image.Output(
                    display_name="disliked",
                    is_output_list=True,
                    tooltip="The pictures that you disliked, as a list.",
                ),
                io.String.Output(
                    display_name="liked_captions",
                    is_output_list=True,
                    tooltip="The prompts of the liked pictures.",
                ),
                io.String.Output(
                    display_name="disliked_captions",
                    is_output_list=True,
                    tooltip="The prompts of the disliked pictures.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str) -> bool | str:
        """Ratings that began after the page was loaded are fine, too."""
        return True

    @classmethod
    def fingerprint_inputs(cls, name: str, ratings: str | None = "") -> str:
        """Notice changed ratings; of a name that comes through a link, which is not known yet."""
        return state_of(None if ratings is None else _chosen(name, ratings))

    @classmethod
    def execute(cls, name: str, ratings: str = "") -> io.NodeOutput:
        """Read the pictures."""
        folder = ratings_of(_chosen(name, ratings))
        kept = folder.path.name
        if not any(rating.rating in (LIKED, DISLIKED) for rating in folder.all()):
            raise InputError(
                f"Nothing in “{kept}” is liked or disliked yet: rate its pictures in Rate "
                "Pictures, then run this again."
            )
        pictures = folder.pictures()
        sides = [[one for one in pictures if one.unlike == unlike] for unlike in (False, True)]
        nothing = None
        try:
            refuse_one_sided(*map(len, sides))
        except InputError as error:
            # Not an empty list, which most nodes fail on without a sentence.
            nothing = blocked(str(error))
        return io.NodeOutput(
            *([in_floats(one.pixels)[None] for one in side] or nothing for side in sides),
            *([one.caption for one in side] or nothing for side in sides),
        )


def _chosen(name: str, ratings: str) -> str:
    """The name that is connected, or that of the list.

    Raises:
        InputError: there is none, or two.
    """
    if name == CONNECTED and not ratings:
        raise InputError("There are no ratings: connect a name, or choose one.")
    if name != CONNECTED and ratings:
        raise InputError(
            f"There are two names, “{ratings}” and “{name}”: disconnect ratings, or set name to "
            f"“{CONNECTED}”."
        )
    return ratings or name
