"""What the notes of an embedding say of its model, and of what its word is for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from ..model import Parameterization, TextEncoder
from .encoders import architecture_of

SAMPLES = 64
"""Values taken from each weight of a network."""


def describe_model(
    encoders: Sequence[TextEncoder],
    parameterization: Parameterization,
    network: Iterable[Tensor],
    checkpoint: str = "",
    program: str = "",
    checkpoint_hash: str = "",
) -> dict[str, str]:
    """What a file says of the model that its vectors are for.

    Args:
        encoders: the model's.
        parameterization: the model's.
        network: the weights of the network that predicts noise.
        checkpoint: name of its file without suffix, never a path; empty if it is not known.
        program: which runs the model, with its version.
        checkpoint_hash: as AUTOMATIC1111 shows it; empty if it is not known.
    """
    architecture = architecture_of({e.key: e.width for e in encoders}, parameterization)
    described = {
        "modelspec.architecture": f"{architecture}/textual-inversion" if architecture else "",
        "modelspec.prediction_type": "v"
        if parameterization == "v_prediction"
        else parameterization,
        "sd_checkpoint": checkpoint_hash,
        "sd_checkpoint_name": checkpoint,
        "textual_inversion.model": network_fingerprint(network),
        "textual_inversion.program": program,
    }
    return {key: value for key, value in described.items() if value}


@torch.no_grad()
def network_fingerprint(weights: Iterable[Tensor]) -> str:
    """SHA-256 over samples of a network's weights: gigabytes are not read for it.

    Of each weight the number of its values and up to `SAMPLES` of them, evenly spaced and as
    float32, are taken; names and order do not count. So ComfyUI and diffusers give the same for
    the same checkpoint, as long as they keep it in the same precision, and a finetuned or patched
    model, in which nearly every weight differs, gives another.
    """
    sampled: dict[torch.device, list[tuple[int, Tensor]]] = {}
    for weight in weights:
        step = -(-weight.numel() // SAMPLES)
        sample = weight.reshape(-1)[:: max(step, 1)].float()
        sampled.setdefault(sample.device, []).append((weight.numel(), sample))
    each = []
    for pairs in sampled.values():
        # All at once, because each transfer from a GPU waits for it.
        whole = torch.cat([sample for _, sample in pairs]).cpu()
        parts = torch.split(whole, [len(sample) for _, sample in pairs])
        for (size, _), part in zip(pairs, parts, strict=True):
            each.append(hashlib.sha256(f"{size}:".encode() + part.numpy().tobytes()).digest())
    return hashlib.sha256(b"".join(sorted(each))).hexdigest()


NEGATIVE = "modelspec.is_negative_embedding"
"""The note of a file that says whether it is for negative prompts: `true` or `false`."""

_SAYS_SO = re.compile(r"negative|(?<![a-z])neg(?![a-z])")

_WELL_KNOWN = re.compile(
    r"(very)?bad[ _-]?(hand|prompt|artist|picture|quality|image|dream|anatomy|face|feet|x\b)"
    r"|unaesthetic|unrealistic[ _-]?dream|boring_e621|easyneg|ng_deepneg|ac_neg|worst"
)
"""Names of widely used ones that do not speak for themselves."""


def is_negative(name: str, metadata: Mapping[str, str]) -> bool:
    """Whether a word is for negative prompts, as far as notes and name tell.

    Args:
        name: of the word or its file; folders before it do not count.
        metadata: of the file; what it says is believed before the name.
    """
    noted = metadata.get(NEGATIVE, "").lower()
    if noted in ("true", "false"):
        return noted == "true"
    # Case joins words in names such as CyberRealisticNeg; elsewhere it means nothing.
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.rpartition("/")[2]).lower()
    return bool(_SAYS_SO.search(plain) or _WELL_KNOWN.match(plain))


def is_clearly_positive(name: str, metadata: Mapping[str, str]) -> bool:
    """Whether the notes say that a word draws something, so that a negative would forbid it.

    They say it outright, or tell of a training in this package that was not for a negative.
    """
    if is_negative(name, metadata):
        return False
    return NEGATIVE in metadata or "textual_inversion.settings" in metadata
