"""The nodes: a thin skin over the trainer, and the adapter to the host's models."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from functools import cached_property
from threading import Thread
from typing import NamedTuple

from comfy_api.latest import ComfyExtension, io

from .host.compatibility import Internal, Part, told, unfit
from .host.internals import DEMO as DEMO_MODEL
from .host.internals import INTERNALS, LIBRARY, MESSAGES, PAGE, PROMPTS, TRAINING


class Offered(NamedTuple):
    """A node, and what of the host it cannot do without.

    Attributes:
        module: where it is, in this folder.
        name: of its class.
        title: how users know it.
        needs: parts of `INTERNALS`.
    """

    module: str
    name: str
    title: str
    needs: Part


_TRAINING = TRAINING | PROMPTS | LIBRARY | MESSAGES
_APPLYING = PROMPTS | LIBRARY | MESSAGES

NODES: Sequence[Offered] = (
    Offered("train", "TrainTextualInversion", "Train Textual Inversion", _TRAINING),
    Offered("train_negative", "TrainNegativeEmbedding", "Train Negative Embedding", _TRAINING),
    Offered("train_ratings", "TrainFromRatings", "Train from Ratings", _TRAINING),
    Offered("rate", "RatePictures", "Rate Pictures", TRAINING),
    Offered("rate", "LoadRatings", "Load Ratings", TRAINING),
    Offered("files", "SaveEmbedding", "Save Embedding", LIBRARY),
    Offered("files", "LoadEmbedding", "Load Embedding", LIBRARY),
    Offered("apply", "ApplyEmbedding", "Apply Embedding", _APPLYING),
    Offered("apply", "ApplyNegativeEmbedding", "Apply Negative Embedding", _APPLYING),
    Offered("inspect", "InspectEmbedding", "Inspect Embedding", PROMPTS | MESSAGES),
    Offered("blend", "BlendEmbeddings", "Blend Embeddings", PROMPTS),
    Offered("from_text", "EmbeddingFromText", "Embedding from Text", PROMPTS),
    Offered("choose", "ChooseTrainingStep", "Choose Training Step", TRAINING),
    Offered("demo", "LoadTinyDemoModel", "Load Tiny Demo Model", DEMO_MODEL),
    Offered("demo", "DemoPictures", "Demo Pictures", DEMO_MODEL),
    Offered("demo", "DemoJudge", "Demo Judge", DEMO_MODEL | TRAINING),
)
"""All nodes, in the order of use."""

_ROUTES = PAGE | LIBRARY


class TextualInversionExtension(ComfyExtension):
    """What the host asks for the pack's nodes."""

    @cached_property
    def _unfit(self) -> dict[Internal, str]:
        return unfit(INTERNALS)

    def _has(self, needs: Part) -> bool:
        return not any(internal.part & needs for internal in self._unfit)

    async def on_load(self) -> None:
        """Add what the page asks over HTTP, and clear away what a killed server has left.

        A line of the log says what this host is too new for.
        """
        left_out = [node.title for node in NODES if not self._has(node.needs)]
        if self._has(_ROUTES):
            from server import PromptServer

            from .page.routes import add_routes
            from .page.runs import clear_away

            add_routes(PromptServer.instance.routes)
            # Beside the start, as a folder on a network may take its time.
            Thread(target=clear_away, name="textual-inversion-clearing", daemon=True).start()
        else:
            left_out.append("the Embeddings tab and charts")
        if left_out:
            logging.warning(told(self._unfit, left_out))

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All nodes that this host has everything for."""
        fitting = [node for node in NODES if self._has(node.needs)]
        return [
            getattr(importlib.import_module(f".{node.module}", __name__), node.name)
            for node in fitting
        ]
