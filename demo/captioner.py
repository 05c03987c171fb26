"""Captions as the text encoder takes them, with names for looks that have none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .captions import STAND_IN, caption
from .model import TEXT_WIDTH, CLIPTokenizer, new_text_encoder
from .vocabulary import LENGTH
from .world import PERIODS, SHAPES, SOFTNESS, TEXTURES, TILTS, Look, Scene

# Spread of a word vector's entries at the start, which makes its length about 1.
WORD_SPREAD = 0.1
# How often a caption is dropped (for guidance), and how often a stand-in word names
# the object, or its style, in place of coarse words.
DROPPED = 0.1
OBJECT_NAMED = 0.27
STYLE_NAMED = 0.15
NAME_NOISE = 0.25
LOOK_FEATURES = len(SHAPES) + len(TEXTURES) + 6 + 2 + 2 + 5 + 2


def look_features(look: Look, style: bool) -> list[float]:
    """The attributes of a look as numbers around -1..1; those not shown are 0."""
    textured = float(look.texture != "plain")
    striped = float(look.texture == "striped")
    shaped = 0.0 if style else 1.0
    hue, second = np.deg2rad(look.hue), np.deg2rad(look.second_hue)
    angle = 2.0 * np.deg2rad(look.angle)
    low, high = np.log(SOFTNESS[0]), np.log(SOFTNESS[1])
    middle, reach = sum(PERIODS) / 2, (PERIODS[1] - PERIODS[0]) / 2
    return [
        *(shaped * (look.shape == name) for name in SHAPES),
        *(float(look.texture == name) for name in TEXTURES),
        *(float(np.sin(hue)), float(np.cos(hue)), float(np.sin(2 * hue)), float(np.cos(2 * hue))),
        *(2.0 * look.shade - 1.0, 2.0 * float(np.log(look.softness) - low) / (high - low) - 1.0),
        *(textured * float(np.sin(second)), textured * float(np.cos(second))),
        *(striped * float(np.sin(angle)), striped * float(np.cos(angle))),
        textured * (look.period - middle) / reach,
        *(shaped * (2.0 * look.proportion - 1.0), shaped * look.tilt / max(TILTS.values())),
        *(shaped * (look.points - 5.5) / 2.5 * (look.points > 0), shaped * (look.points % 2)),
        *(float(style), 1.0),
    ]


class Namer(nn.Module):
    """Gives every look a word vector of its own.

    A large model's vocabulary has names for endlessly many things, so that any look has
    a place among its word vectors. This world has a few dozen words; in training the
    namer stands in for the names that it lacks. It is not part of the finished model.
    """

    def __init__(self) -> None:
        super().__init__()
        width = 256
        self.net = nn.Sequential(
            nn.Linear(LOOK_FEATURES, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, TEXT_WIDTH),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Word vectors of the usual length, blurred a little so that neighbours are alike."""
        named = functional.normalize(self.net(features), dim=-1)
        named = named + NAME_NOISE * torch.randn_like(named) * TEXT_WIDTH**-0.5
        length: float = WORD_SPREAD * TEXT_WIDTH**0.5
        return functional.normalize(named, dim=-1) * length


class NamedText(nn.Module):
    """The text encoder, and the namer that goes with it in training."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.encoder = new_text_encoder(tokenizer)
        self.namer = Namer()
        self.stand_in = int(tokenizer.convert_tokens_to_ids(STAND_IN + "</w>"))
        nn.init.normal_(self.encoder.get_input_embeddings().weight, std=WORD_SPREAD)

    def forward(self, tokens: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """The text encoder's states, with the namer's vector for every stand-in."""
        names = self.namer(features)[:, None]
        here = (tokens == self.stand_in)[..., None]

        def put_in(_: nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
            return torch.where(here, names, output)

        hook = self.encoder.get_input_embeddings().register_forward_hook(put_in)
        try:
            states: torch.Tensor = self.encoder(tokens).last_hidden_state
        finally:
            hook.remove()
        return states


@dataclass
class Captioner:
    """Writes captions for scenes and turns them into tokens."""

    tokenizer: CLIPTokenizer
    rng: np.random.Generator

    def __call__(self, scenes: list[Scene]) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (N, 77) and look features (N, F) for a batch of scenes."""
        texts, features = [], []
        for scene in scenes:
            dice = self.rng.random()
            learned = ""
            if dice < OBJECT_NAMED:
                learned = "object"
            elif dice < OBJECT_NAMED + STYLE_NAMED:
                learned = "style"
            # Set apart from a comma, or the tokenizer would read both as one sign.
            text = caption(scene, self.rng, learned=learned).replace("*,", "* ,")
            if self.rng.random() < 0.03:  # a word that nobody knows changes nothing
                letters = self.rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 4)
                text = f"{''.join(letters)} {text}"
            texts.append("" if self.rng.random() < DROPPED else text)
            features.append(look_features(scene.look, learned == "style"))
        tokens = self.tokenizer(
            texts, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"
        )
        return tokens.input_ids, torch.tensor(features, dtype=torch.float32)
