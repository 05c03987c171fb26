"""A checkpoint loaded by the host's own code in this process, the way its nodes load it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from .checkpoints import Family, cached


@dataclass(frozen=True)
class Loaded:
    """What Load Checkpoint gives to a graph."""

    model: Any
    clip: Any
    vae: Any
    checkpoint: Path

    def modules(self) -> list[torch.nn.Module]:
        """All modules that hold weights."""
        return [self.model.model, self.clip.cond_stage_model, self.vae.first_stage_model]

    def state(self) -> tuple[str, list[int]]:
        """A hash of all weights and buffers, and the identities of the objects that hold them."""
        digest, identities = sha256(), []
        for module in self.modules():
            for part in module.modules():
                for table in (part._parameters, part._buffers):
                    for name, tensor in table.items():
                        if tensor is not None:
                            identities.append(id(tensor))
                            digest.update(name.encode())
                            digest.update(tensor.detach().view(-1).view(torch.uint8).numpy().data)
                identities.append(len(vars(part)))
        return digest.hexdigest(), identities


def load(family: Family, embeddings: Path) -> Loaded:
    """Load a checkpoint of random weights in inference mode, as the host's executor does."""
    import comfy.sd

    checkpoint = cached(family)
    with torch.inference_mode():
        model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(
            str(checkpoint),
            output_vae=True,
            output_clip=True,
            embedding_directory=[str(embeddings)],
        )
    return Loaded(model, clip, vae, checkpoint)


@contextmanager
def executing() -> Iterator[None]:
    """The state in which our train node runs: the executor's, then out of inference mode."""
    with torch.inference_mode(), torch.inference_mode(False), torch.enable_grad():
        yield
