"""Nodes for a first try without a checkpoint: a tiny model, and pictures for it to learn."""

from __future__ import annotations

import folder_paths
import numpy as np
import torch
from comfy_api.latest import io, ui

from ..demo.concepts import CONCEPTS
from ..demo.judge import judged
from ..demo.lesson import captioned_pictures
from ..demo.world import PIXELS
from ..trainer.data.decoding import read_pixels
from ..trainer.data.pictures import in_floats
from ..trainer.runs.ratings import WAITING
from .host.demo_model import build
from .inputs import CATEGORY, found_as
from .page.ratings import ratings_of

DEMO_CATEGORY = f"{CATEGORY}/demo"


class LoadTinyDemoModel(io.ComfyNode):
    """MODEL, CLIP and VAE of the tiny model that comes with the pack."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host."""
        return io.Schema(
            node_id="TextualInversionDemoModel",
            display_name="Load Tiny Demo Model",
            category=DEMO_CATEGORY,
            **found_as("textual inversion demo", "tiny model", "model without a checkpoint"),
            description="A tiny Stable Diffusion that comes with this pack: it draws shapes at "
            f"{PIXELS} x {PIXELS} pixels in seconds, without a GPU. Swap it for Load Checkpoint to "
            "work with a real model.",
            inputs=[],
            outputs=[
                io.Model.Output(tooltip="The diffusion model."),
                io.Clip.Output(
                    tooltip="The text encoder. Words trained with it fit only this model."
                ),
                io.Vae.Output(tooltip="The autoencoder."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        """Put the model together."""
        return io.NodeOutput(*build(embeddings=folder_paths.get_folder_paths("embeddings")))


class DemoPictures(io.ComfyNode):
    """Pictures of something that the tiny model has never seen, and captions for them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host."""
        return io.Schema(
            node_id="TextualInversionDemoPictures",
            display_name="Demo Pictures",
            category=DEMO_CATEGORY,
            **found_as("textual inversion demo", "training pictures", "example dataset"),
            description="Draws a few pictures of one thing or style that the tiny demo model has "
            "never seen. Ordinary words come close; only a learned word matches it.",
            # So that its pictures are shown whenever the graph runs, also out of the cache.
            is_output_node=True,
            inputs=[
                io.Combo.Input(
                    "concept",
                    options=list(CONCEPTS),
                    default="sun-disk",
                    tooltip="What the pictures show.",
                ),
                io.Int.Input("count", default=5, min=1, max=20, tooltip="How many pictures."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**31 - 1,
                    control_after_generate=False,
                    tooltip="Seed for the places, sizes and backgrounds.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images", is_output_list=True, tooltip="The pictures, as a list."
                ),
                io.String.Output(
                    display_name="captions",
                    is_output_list=True,
                    tooltip="For the captions input of Train Textual Inversion.",
                ),
                io.String.Output(
                    display_name="init_words",
                    tooltip="The ordinary words that come closest, to start training from.",
                ),
            ],
        )

    @classmethod
    def execute(cls, concept: str, count: int, seed: int) -> io.NodeOutput:
        """Draw the pictures."""
        pictures, captions = captioned_pictures(concept, count, seed)
        images = [torch.from_numpy(p.astype(np.float32))[None] for p in pictures]
        shown = ui.PreviewImage(torch.cat(images))
        return io.NodeOutput(images, captions, CONCEPTS[concept].class_words, ui=shown)


class DemoJudge(io.ComfyNode):
    """A user who has clicked: rates the pictures of a folder that wait."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host."""
        return io.Schema(
            node_id="TextualInversionDemoJudge",
            display_name="Demo Judge",
            category=DEMO_CATEGORY,
            **found_as("textual inversion demo", "rate pictures", "taste"),
            description="Rates the pictures of the tiny demo model in your place: it likes deep "
            "colours and dislikes pale ones. What you have rated yourself stays as it is.",
            inputs=[
                io.String.Input(
                    "ratings",
                    force_input=True,
                    tooltip="The name from Rate Pictures, whose pictures it rates.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="name", tooltip="The same name, for Load Ratings."),
            ],
        )

    @classmethod
    def execute(cls, ratings: str) -> io.NodeOutput:
        """Rate what waits."""
        folder = ratings_of(ratings)
        waiting = [one for one in folder.all() if one.rating == WAITING]
        pictures = [in_floats(read_pixels(folder.picture_file(one.key))) for one in waiting]
        said = judged(pictures, [one.prompt for one in waiting])
        for one, rating in zip(waiting, said, strict=True):
            folder.rate(one.key, rating)
        return io.NodeOutput(ratings, ui={"textual_inversion_ratings": [ratings]})
