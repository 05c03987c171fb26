"""Builds graphs in the format that ComfyUI's HTTP interface takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

Link: TypeAlias = list[Any]
"""An output of a node: its id and the number of the output."""


@dataclass(frozen=True)
class Node:
    """One node of a graph; `node[0]` is its first output, `node.inputs` may be changed."""

    id: str
    class_type: str
    inputs: dict[str, Any]

    def __getitem__(self, output: int) -> Link:
        return [self.id, output]

    # How many outputs a node has is not known here: without this, `*node` would never end.
    __iter__: ClassVar[None] = None


class Graph:
    """Nodes by id, in the order in which they were added."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}

    def add(self, class_type: str, /, **inputs: Any) -> Node:
        """Add a node. Names that Python does not allow can be given as `**{"a.b": 1}`."""
        node = Node(str(len(self.nodes) + 1), class_type, inputs)
        self.nodes[node.id] = node
        return node

    def to_dict(self) -> dict[str, Any]:
        """What goes over the wire."""
        return {
            node.id: {"class_type": node.class_type, "inputs": dict(node.inputs)}
            for node in self.nodes.values()
        }


def sample(
    graph: Graph,
    model: Link,
    clip: Link,
    vae: Link,
    *,
    text: str | Link = "a photo of a dog",
    negative: str | Link = "",
    size: int = 128,
    steps: int = 2,
    cfg: float = 4.0,
    seed: int = 1,
    detours: int = 0,
    prefix: str = "test",
) -> Node:
    """Add text-to-picture with stock nodes and return the node that saves.

    `text` and `negative` are prompts or CONDITIONING links. `detours` adds that many nodes that
    pass the empty latent on unchanged: the same picture by another graph, so that the
    server's cache cannot answer.
    """
    prompts = [
        graph.add("CLIPTextEncode", clip=clip, text=prompt)[0]
        if isinstance(prompt, str)
        else prompt
        for prompt in (text, negative)
    ]
    latent = graph.add("EmptyLatentImage", width=size, height=size, batch_size=1)[0]
    for _ in range(detours):
        latent = graph.add("RepeatLatentBatch", samples=latent, amount=1)[0]
    sampled = graph.add(
        "KSampler",
        model=model,
        positive=prompts[0],
        negative=prompts[1],
        latent_image=latent,
        seed=seed,
        steps=steps,
        cfg=cfg,
        sampler_name="euler",
        scheduler="normal",
        denoise=1.0,
    )
    decoded = graph.add("VAEDecode", samples=sampled[0], vae=vae)
    return graph.add("SaveImage", images=decoded[0], filename_prefix=prefix)
