"""The nodes: a thin skin over the trainer, and the adapter to the host's models."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io


class TextualInversionExtension(ComfyExtension):
    """What the host asks for the pack's nodes."""

    async def on_load(self) -> None:
        """Add what the page asks over HTTP."""
        from server import PromptServer

        from .page.routes import add_routes

        add_routes(PromptServer.instance.routes)

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
