"""Short texts that tell whether two runs had the same pictures, or the same model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from .pictures import Picture

SAMPLES = 64
"""Values taken from each weight of a network."""


def pictures_fingerprint(pictures: Sequence[Picture]) -> str:
    """SHA-256 over pixels (in steps of 1/255), masks, captions and sides, in their order."""
    digest = hashlib.sha256()
    for picture in pictures:
        for plane in (picture.pixels, picture.mask):
            if plane is not None:
                digest.update(str(tuple(plane.shape)).encode())
                digest.update((plane.float() * 255).round().byte().cpu().numpy().tobytes())
        digest.update(b"\0" if picture.caption is None else picture.caption.strip().encode())
        if picture.unlike:
            digest.update(b"unlike")
    return digest.hexdigest()


@torch.no_grad()
def network_fingerprint(weights: Iterable[Tensor]) -> str:
    """SHA-256 over samples of a network's weights: gigabytes are not read for it.

    Of each weight the number of its values and up to `SAMPLES` of them, evenly spaced and as
    float32, are taken; names and order do not count. So ComfyUI and diffusers give the same for
    the same checkpoint, as long as they keep it in the same precision, and a finetuned or patched
    model, in which nearly every weight differs, gives another.
    """
    sizes, samples = [], []
    for weight in weights:
        step = -(-weight.numel() // SAMPLES)
        sizes.append(weight.numel())
        samples.append(weight.reshape(-1)[:: max(step, 1)].float())
    if not samples:
        return hashlib.sha256().hexdigest()
    # All at once, because each transfer from a GPU waits for it.
    parts = torch.split(torch.cat(samples).cpu(), [len(sample) for sample in samples])
    each = [
        hashlib.sha256(f"{size}:".encode() + part.numpy().tobytes()).digest()
        for size, part in zip(sizes, parts, strict=True)
    ]
    return hashlib.sha256(b"".join(sorted(each))).hexdigest()
