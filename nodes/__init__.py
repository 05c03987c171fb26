"""The nodes: a thin skin over the trainer, and the adapter to the host's models."""

from __future__ import annotations

from threading import Thread

from comfy_api.latest import ComfyExtension, io


class TextualInversionExtension(ComfyExtension):
    """What the host asks for the pack's nodes."""

    async def on_load(self) -> None:
        """Add what the page asks over HTTP, and clear away what a killed server has left."""
        from server import PromptServer

        from .page.routes import add_routes
        from .page.runs import clear_away

        add_routes(PromptServer.instance.routes)
        # Beside the start, as a folder on a network may take its time.
        Thread(target=clear_away, name="textual-inversion-clearing", daemon=True).start()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All nodes, in the order of use."""
        from .apply import ApplyEmbedding, ApplyNegativeEmbedding
        from .blend import BlendEmbeddings
        from .choose import ChooseTrainingStep
        from .demo import DemoPictures, LoadTinyDemoModel
        from .files import LoadEmbedding, SaveEmbedding
        from .from_text import EmbeddingFromText
        from .inspect import InspectEmbedding
        from .train import TrainTextualInversion
        from .train_negative import TrainNegativeEmbedding

        return [
            TrainTextualInversion,
            TrainNegativeEmbedding,
            SaveEmbedding,
            LoadEmbedding,
            ApplyEmbedding,
            ApplyNegativeEmbedding,
            InspectEmbedding,
            BlendEmbeddings,
            EmbeddingFromText,
            ChooseTrainingStep,
            LoadTinyDemoModel,
            DemoPictures,
        ]
