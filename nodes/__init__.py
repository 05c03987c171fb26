"""The nodes: a thin skin over the trainer, and the adapter to the host's models."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io


class TextualInversionExtension(ComfyExtension):
    """What the host asks for the pack's nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All nodes, in the order of use."""
        from .apply import ApplyEmbedding, ApplyNegativeEmbedding
        from .blend import BlendEmbeddings, EmbeddingFromText
        from .demo import DemoPictures, LoadTinyDemoModel
        from .files import LoadEmbedding, SaveEmbedding
        from .inspect import InspectEmbedding
        from .train import TrainTextualInversion

        return [
            TrainTextualInversion,
            SaveEmbedding,
            LoadEmbedding,
            ApplyEmbedding,
            ApplyNegativeEmbedding,
            InspectEmbedding,
            BlendEmbeddings,
            EmbeddingFromText,
            LoadTinyDemoModel,
            DemoPictures,
        ]
