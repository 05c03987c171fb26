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

    def have_host_load(self) -> None:
        """Have the host do what it does before the first use, which marks its modules."""
        import comfy.model_management

        with torch.inference_mode():
            comfy.model_management.load_models_gpu(
                [self.model, self.clip.patcher, self.vae.patcher]
            )

    def weights_hash(self) -> str:
        """SHA-256 of all weights and buffers."""
        digest = sha256()
        for tensor in self._tensors().values():
            digest.update(tensor.detach().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def objects(self) -> dict[str, object]:
        """Which tensor object stands where, and which attributes each module has."""
        found: dict[str, object] = {name: id(tensor) for name, tensor in self._tensors().items()}
        for number, root in enumerate(self.modules()):
            for name, part in root.named_modules():
                found[f"attributes of {number}.{name}"] = sorted(vars(part))
        return found

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {
            f"{number}.{name}.{own}": tensor
            for number, root in enumerate(self.modules())
            for name, part in root.named_modules()
            for table in (part._parameters, part._buffers)
            for own, tensor in table.items()
            if tensor is not None
        }


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


def sampler_step(
    patcher: Any,
    conditioning: list[Any],
    noise: torch.Tensor,
    x0: torch.Tensor,
    sigma: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy latents, and what the host's sampler makes of them in one step."""
    import comfy.samplers

    seen: list[torch.Tensor] = []

    def once(model: Any, x: torch.Tensor, sigmas: torch.Tensor, extra_args: Any, **_: Any) -> Any:
        seen.extend((x.clone(), model(x, sigmas[:1], **extra_args)))
        return x

    guider = comfy.samplers.CFGGuider(patcher)
    guider.set_conds(conditioning, conditioning)
    guider.set_cfg(1.0)
    guider.sample(
        noise,
        patcher.model.process_latent_out(x0),
        comfy.samplers.KSAMPLER(once),
        torch.stack([sigma, torch.zeros_like(sigma)]),
    )
    return seen[0], seen[1]
